"""Plays many episodes with one policy, on several processes, in the order they were asked for.

The processes are a pool of this machine, or with `ray` (the extra `ray`) actors of a Ray cluster; both play the same
batches with the same code, and outcomes come in the same order.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import profiles
from edgevla.bundle.manifest import Timing
from edgevla.bundle.reader import open_bundle
from edgevla.control.timing import schedule_of
from edgevla.errors import BadInput, explain
from edgevla.policy.blend import blend_ticks_of
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import MAX_TICKS, Episode, Loop, Outcome, Plant, Policy, Ticks, play
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import CORNER, TABLE, View, view_of
from export.channels import PERIOD_S, action_channels
from export.evidence.dark import Dark
from export.spawned import spawned

RAY_LOCAL = "local"  # a Ray of this machine, started for the run and ended with it
_ENGINE_FILES = ("noise.npy", "stats.json", "text/")
_USED_FILES = {  # kind of policy -> files of the bundle that decide its answers, by how their names start
    "int8": ("model/", *_ENGINE_FILES),
    "fp32": ("float/", *_ENGINE_FILES),
    "teacher": ("noise.npy",),
}
TABLE_TICKS = 500  # Meta-World's own limit, under which published policies are judged
BATCH = 5  # episodes of one scene handed to a process at once; loading a scene costs 0.2 s
FLOW_TEACHER = "edgevla.flow-teacher/1"  # `export.teachers.folder.SCHEMA`, which is not imported here: it loads torch
Run = Callable[[Policy, Plant, Loop], Ticks]  # the control loop of an episode


class Disturbance(Protocol):
    """What is done to every episode on purpose: a frozen value, handed to the processes that play.

    name: what and how strong; stands behind the policy's identity.
    changes_scene: the loaded scene is changed, and must not be used for another episode.
    """

    @property
    def name(self) -> str: ...
    @property
    def changes_scene(self) -> bool: ...
    def run(self, episode: Episode) -> Run:
        """The loop of this episode, around what is disturbed; the same for the same episode."""


@dataclass(frozen=True)
class PolicySpec:
    """A policy that a worker process can open by itself.

    kind: `int8` or `fp32` (the bundle's graphs), `teacher` (torch eager, from the bundle's noise, or from `noise` =
    seed and scale), `teacher-noise` (fresh noise at every inference), `blank` (the same, never given any words).
    teacher: a folder of any teacher; `blank` is of the reference policy only.
    dark: share of the inferences whose picture is black.
    disturbance: of every episode.
    """

    kind: str
    bundle: Path | None = None
    teacher: Path | None = None
    noise: tuple[int, float] | None = None
    dark: float = 0.0
    disturbance: Disturbance | None = None

    def open(self) -> Policy:
        return Dark(self._open(), self.dark) if self.dark else self._open()

    def _open(self) -> Policy:
        if self.kind in ("int8", "fp32"):
            return PolicyEngine(open_bundle(self._bundle()), float_model=self.kind == "fp32")
        return self._open_teacher()

    def loop(self) -> Loop:
        """The loop that the bundle declares; without one that of the reference policy."""
        return reference_loop() if self.bundle is None else loop_of(self.bundle)

    def identity(self) -> str:
        """Kind, a hash over what decides its answers and when they act (graphs or weights, noise, words, timing), and
        the disturbance by its name."""
        parts: dict[str, Any] = {"noise": self.noise, **({"dark": self.dark} if self.dark else {})}
        if self.bundle is not None:
            manifest = open_bundle(self.bundle).manifest
            used = _USED_FILES.get(self.kind, ())
            parts["files"] = {name: e.sha256 for name, e in manifest.files.items() if name.startswith(used)}
            parts["loop"] = [asdict(manifest.timing), manifest.target, manifest.arm]
        if self.teacher is not None and self.kind not in ("int8", "fp32"):
            parts["teacher"] = _teacher_hash(self.teacher)
        name = f"{self.kind} {hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"
        return name if self.disturbance is None else f"{name}, {self.disturbance.name}"

    def _open_teacher(self) -> Policy:
        import torch

        torch.set_num_threads(1)
        if self.teacher is None:
            raise ValueError(f"policy {self.kind}: expected a teacher folder, got none")
        return self._open_reference(self.teacher) if _is_reference(self.teacher) else self._open_other(self.teacher)

    def _open_reference(self, folder: Path) -> Policy:
        from export.teachers.engine import TeacherEngine
        from export.teachers.folder import load_teacher
        from export.teachers.noise import draw_noise

        teacher = load_teacher(folder)
        if self.kind in ("blank", "teacher-noise"):
            return TeacherEngine(teacher, None, blank_words=self.kind == "blank")
        noise = open_bundle(self._bundle()).noise if self.noise is None else draw_noise(teacher, *self.noise)
        return TeacherEngine(teacher, noise)

    def _open_other(self, folder: Path) -> Policy:
        from export.teachers.eager import EagerPolicy
        from export.teachers.load import load_policy
        from export.teachers.noise import drawn

        if self.kind == "blank":
            raise ValueError(f"policy {self.kind}: expected the reference policy, got the teacher in {folder}")
        teacher, replan = load_policy(folder), self.loop().schedule.replan
        noise = None if self.noise is None else drawn((teacher.spec.horizon, teacher.spec.noise), *self.noise)
        return EagerPolicy(teacher, open_bundle(self._bundle()), replan, self.kind == "teacher-noise", noise)

    def _bundle(self) -> Path:
        if self.bundle is None:
            raise ValueError(f"policy {self.kind}: expected a bundle, got none")
        return self.bundle


def _is_reference(folder: Path) -> bool:
    """Whether the teacher is the reference policy; a folder that cannot be read is left to its loader."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("schema") == FLOW_TEACHER


def _teacher_hash(folder: Path) -> str:
    """Of the reference policy's weights, of all weights and settings in any other folder but for the noise that was
    chosen for it: which one plays is told apart from it. Raises BadInput: none."""
    reference = _is_reference(folder)
    files = sorted(folder.glob("model.safetensors" if reference else "*.safetensors"))
    if not files:
        raise BadInput(explain("teacher folder", "weights (*.safetensors)", f"none in {folder}", "check the path"))
    settings = [] if reference else [_settings(file) for file in sorted(folder.glob("*.json"))]
    return hashlib.sha256(b"".join([file.read_bytes() for file in files] + settings)).hexdigest()


def _settings(file: Path) -> bytes:
    found = json.loads(file.read_bytes())
    return json.dumps({**found, "noise": None} if isinstance(found, dict) else found, sort_keys=True).encode()


def reference_loop() -> Loop:
    """The reference policy's loop on the host: horizon and prefix of its teacher, L, r and m of the target."""
    timing = Timing(PERIOD_S, horizon=32, d_max=8)
    return _loop(timing, "host", "metaworld-sawyer", action_channels())


def loop_of(bundle_path: Path) -> Loop:
    """The loop that the bundle declares, on its own target and arm, seen as its first camera saw in training."""
    manifest = open_bundle(bundle_path).manifest
    channels = [asdict(channel) for channel in manifest.channels]
    view = view_of(manifest.cameras[0].name) if manifest.cameras else CORNER
    return _loop(manifest.timing, manifest.target, manifest.arm, channels, blend_ticks_of(manifest), view)


def _loop(
    timing: Timing,
    target: str,
    arm: str,
    channels: Sequence[Mapping[str, Any]],
    blend_ticks: int | None = None,
    view: View = CORNER,
) -> Loop:
    return Loop(
        schedule=schedule_of(timing, profiles.load_target(target), blend_ticks),
        arm=profiles.load_arm(arm),
        period_s=timing.period_s,
        kinds=tuple(str(channel["kind"]) for channel in channels),
        scale=tuple(float(channel["scale"]) for channel in channels),
        offset=tuple(float(channel["offset"]) for channel in channels),
        blend_ticks=blend_ticks,
        view=view,
        max_ticks=TABLE_TICKS if view == TABLE else MAX_TICKS,
    )


@dataclass(frozen=True)
class Played:
    """What happened in an episode, and how long playing it took; only the first is the same on every host."""

    outcome: Outcome
    wall_s: float


def play_all(
    spec: PolicySpec,
    episodes: Sequence[Episode],
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
    ray: str | None = None,
) -> list[Outcome]:
    """Outcomes in the order of the episodes. `progress` gets the number of finished episodes. `ray`: see `stream`."""
    outcomes: list[Outcome] = []
    for part in stream(spec, episodes, workers, ray):
        outcomes += [played.outcome for played in part]
        progress(len(outcomes))
    return outcomes


def stream(
    spec: PolicySpec, episodes: Sequence[Episode], workers: int, ray: str | None = None
) -> Iterator[list[Played]]:
    """What happened, batch by batch, in the order of the episodes.

    Args:
        ray: None for a pool of processes; `RAY_LOCAL`, or the address of a running cluster whose machines have this
            package and see the policy's files under the same paths.
    """
    batches = _batches(episodes)
    if ray is not None:
        from export.evidence.ray_pool import stream_batches

        yield from stream_batches(spec, batches, workers, None if ray == RAY_LOCAL else ray)
        return
    with spawned(workers, _start, spec) as pool:  # whatever stops the caller ends them in the middle of their batches
        parts = [pool.submit(_play_batch, batch) for batch in batches]
        yield from (part.result() for part in parts)


def _batches(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Runs of the same scene, cut to BATCH, order kept."""
    runs = (list(group) for _, group in groupby(episodes, key=lambda e: (e.task, e.half_way)))
    return [run[i : i + BATCH] for run in runs for i in range(0, len(run), BATCH)]


class Worker:
    """A process that opens one policy once and plays batches with it."""

    def __init__(self, spec: PolicySpec) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        warnings.filterwarnings("ignore")
        self._policy, self._loop, self._disturbance = spec.open(), spec.loop(), spec.disturbance

    def play(self, episodes: list[Episode]) -> list[Played]:
        """One batch of one scene, whose loaded environment is reused."""
        plant, result = None, []
        for episode in episodes:
            started = time.monotonic()
            outcome, plant = self._one(episode, plant)
            result.append(Played(outcome, time.monotonic() - started))
        return result

    def _one(self, episode: Episode, plant: MetaworldPlant | None) -> tuple[Outcome, MetaworldPlant]:
        disturbance = self._disturbance
        if disturbance is None:
            return play(self._policy, episode, self._loop, plant)
        if disturbance.changes_scene and plant is not None:
            plant.close()
            plant = None
        return play(self._policy, episode, self._loop, plant, disturbance.run(episode))


_worker: Worker | None = None


def _start(spec: PolicySpec) -> None:
    """Once per process of the pool."""
    global _worker
    _worker = Worker(spec)


def _play_batch(episodes: list[Episode]) -> list[Played]:
    if _worker is None:
        raise RuntimeError("worker without a policy: expected _start to have run")
    return _worker.play(episodes)
