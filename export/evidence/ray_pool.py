"""The batches of `export.evidence.rollouts` on a Ray cluster, one policy per actor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevla.errors import EdgevlaError, explain
from edgevla.sim.lockstep import Episode
from export.evidence.rollouts import Played, PolicySpec, Worker
from export.extras import library

ROOT = Path(__file__).resolve().parents[2]


def stream_batches(
    spec: PolicySpec, batches: Sequence[list[Episode]], workers: int, address: str | None
) -> Iterator[list[Played]]:
    """Results in the order of the batches.

    Args:
        workers: actors, one core each.
        address: of a running cluster; None starts one on this machine and ends it afterwards.

    Raises:
        Usage: Ray is not installed.
        EdgevlaError: the cluster cannot be reached, or an actor failed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    ray = library("ray", "ray")
    pool = library("ray.util", "ray").ActorPool
    mine = not ray.is_initialized()
    try:
        if mine:
            _connect(ray, workers, address)
        actor = ray.remote(num_cpus=1)(Worker)
        actors = [actor.remote(spec) for _ in range(min(workers, len(batches)))]
        yield from pool(actors).map(lambda a, batch: a.play.remote(batch), batches)
    except (ray.exceptions.RayError, ConnectionError) as error:
        what = f"episodes through Ray ({address or 'this machine'})"
        todo = "check that its machines have this package and the policy's files under the same paths"
        raise EdgevlaError(explain(what, "a cluster that plays them", str(error)[-600:], todo)) from error
    finally:
        if mine and ray.is_initialized():
            ray.shutdown()


def _connect(ray: object, workers: int, address: str | None) -> None:
    """Joins the cluster, or starts one that needs no dashboard and writes no log to this terminal."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:  # its processes inherit this one's environment and module search path: no set-up of their own
        ray.init(num_cpus=workers, include_dashboard=False, **quiet)  # type: ignore[attr-defined]
        return
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}, **quiet)  # type: ignore[attr-defined]
