"""Real frames of a dataset as the graphs of a bundle are fed, made as the robot makes them (`edgevla.policy`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Camera
from edgevla.bundle.reader import Bundle
from edgevla.bundle.wiring import remembered
from edgevla.errors import BadInput, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import pictures, prefix_tensors, state_tensor
from edgevla.policy.words import encoder_of
from export.data.interface import HELD_EVERY, Int64, RobotDataset, held_out
from export.data.mapped import camera_sources

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class Split:
    """Ticks of a dataset, int64, sorted; no tick is in both. `note` says where they come from."""

    judged: Int64
    calibration: Int64
    note: str


def split_ticks(data: RobotDataset, judged: int, calibration: int, seed: int = 0) -> Split:
    """Ticks to judge on, of the episodes kept for that, and ticks to calibrate on, of the others.

    Raises:
        BadInput: too few of either.
    """
    rng, held = np.random.default_rng(seed), held_out(data.start)
    if held.any():
        pools = np.flatnonzero(held), np.flatnonzero(~held)
        note = f"judged on every {HELD_EVERY}th episode, calibrated on the others"
    else:
        drawn = rng.permutation(len(held))
        pools = drawn[: max(0, len(held) - calibration)], drawn[max(0, len(held) - calibration) :]
        note = f"fewer than {HELD_EVERY} episodes: judged and calibrated on other ticks of the same episodes"
    if len(pools[0]) < judged or len(pools[1]) < calibration:
        got = f"{len(pools[0])} ticks to judge on, {len(pools[1])} to calibrate on ({note})"
        raise BadInput(explain("ticks of the dataset", f"{judged} and {calibration}", got, "record more episodes"))
    first, second = (
        np.sort(rng.choice(p, n, replace=False)) for p, n in zip(pools, (judged, calibration), strict=True)
    )
    return Split(first, second, note)


def bundle_feeds(bundle: Bundle, data: RobotDataset, ticks: Iterable[int], seed: int = 0) -> list[Feeds]:
    """Raw inputs of every tick by name, batch 1, as `edgevla.bundle.wiring` lists them; `noise` where there is one.

    Past observations are those of the ticks before, the first of an episode stands for what came before it. The prefix
    is what was executed from the tick on, 0 to d_max rows at random, none past the end of the episode. A memory is
    blank: as at the first inference.

    Raises:
        BadInput: another robot (counts of state or action numbers, cameras), an instruction that the bundle does not
            know, a tick that is not there.
    """
    _require_same_robot(bundle, data)
    named = camera_sources(data, bundle.manifest)
    sources = {camera: named[camera.name] for camera in bundle.manifest.cameras if camera.name in named}
    hear = lru_cache(maxsize=None)(encoder_of(bundle))
    rng, wanted = np.random.default_rng(seed), [int(tick) for tick in ticks]
    outside = [tick for tick in wanted if not 0 <= tick < len(data)]
    if outside:
        raise BadInput(explain("ticks of the dataset", f"0 to {len(data) - 1}", outside[:5], "ask for those it has"))
    blank = {name: np.zeros(shape, dtype) for name, (dtype, shape) in remembered(bundle.manifest.stages).items()}
    found = []
    for tick in wanted:
        feeds = {**blank, **_observed(bundle, data, sources, tick), **_prefix(bundle, data, tick, rng)}
        if bundle.manifest.text.max_tokens:
            tokens, mask = hear(data.instruction(tick))
            feeds |= {"tokens": tokens[None], "token_mask": mask[None]}
        found.append(feeds if bundle.noise is None else {**feeds, "noise": bundle.noise[None]})
    return found


def golden_feeds(bundle: Bundle, float_model: bool = False) -> Feeds:
    """Everything that passes between the stages for the first golden vector, by name; of a flow, its first step."""
    golden, last = next(iter(bundle.golden.values())), bundle.manifest.stages[-1]
    engine = PolicyEngine(bundle, float_model=float_model)
    engine.set_instruction(golden.instruction)
    values = engine.trace(golden.images, golden.state, golden.prefix)
    if last.times:
        values |= {"noisy": values["noise"], "t": np.array(last.times[:1], np.float32)}
    return values


def _require_same_robot(bundle: Bundle, data: RobotDataset) -> None:
    manifest = bundle.manifest
    for what, theirs, mine in (
        ("state", data.state.shape[1], [channel.name for channel in manifest.state]),
        ("action", data.action.shape[1], [channel.name for channel in manifest.channels]),
    ):
        if theirs != len(mine):
            expected = f"{len(mine)} numbers: {', '.join(mine)}"
            raise BadInput(explain(f"{what} of the dataset", expected, theirs, "give a dataset of the bundle's robot"))


def _observed(bundle: Bundle, data: RobotDataset, sources: Mapping[Camera, str], tick: int) -> Feeds:
    """`image`, `camera_mask` and `state` of the tick behind those before it."""
    manifest, stats = bundle.manifest, bundle.stats
    seen = np.maximum(np.arange(tick - manifest.observations + 1, tick + 1), data.start[tick])
    images = {camera.name: data.image(seen, source) for camera, source in sources.items()}
    shown = [pictures({n: rows[i] for n, rows in images.items()}, manifest.cameras) for i in range(len(seen))]
    states = [state_tensor(data.state[t], stats.state_offset, stats.state_scale) for t in seen]
    return {
        "image": np.concatenate([image for image, _ in shown])[None],
        "camera_mask": np.concatenate([present for _, present in shown])[None],
        "state": np.concatenate(states, axis=1),
    }


def _prefix(bundle: Bundle, data: RobotDataset, tick: int, rng: np.random.Generator) -> Feeds:
    timing, stats = bundle.manifest.timing, bundle.stats
    depth = min(int(rng.integers(timing.d_max + 1)), int(data.end[tick]) - tick)
    executed = (data.executed[tick : tick + depth] - stats.action_offset) / stats.action_scale
    rows, mask = prefix_tensors(executed.astype(np.float32), timing.horizon, timing.d_max)
    return {"prefix": rows, "prefix_mask": mask}
