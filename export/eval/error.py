"""How far is the shipped policy from its FP32 graphs, and both from the record? In joint units, on held-out frames.

At a frame of tick k both are given the recorded pictures and state and, as prefix, what was commanded in ticks
k .. k + d - 1. Compared are the rows that act, k + d .. k + d + r - 1: absolute channels as set-points within their
range, delta channels as the displacement since tick k + d - 1. The error of a frame is that of its worst row. A policy
that was trained without a prefix gets none and is compared from row 0 on, d = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import ActionChannel, Manifest
from edgevla.errors import BadInput, Unsound, explain
from edgevla.telemetry.stats import Summary, summarise
from export.eval.budget import Budget, Check
from export.eval.record import Record

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
LEAST_FRAMES = 300  # fewer say nothing about a p99
REMEMBERED = 16  # inferences that a policy with a memory is shown before one that counts: the longest window
UNDECIDED = 0.1  # of a gripper's range
GRIPPER = "gripper"  # the `space` of channels that are judged by what they decide, not by how far they are off


class Chunks(Protocol):
    """The part of a policy that is asked here; see `edgevla.policy.engine.PolicyEngine`."""

    def set_instruction(self, text: str) -> None: ...
    def infer(self, images: Any, state: Any, prefix: Any) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Meaning:
    """The channels of a bundle, one value per channel."""

    channels: tuple[ActionChannel, ...]

    @property
    def scale(self) -> Float64:
        return np.array([channel.scale for channel in self.channels])

    @property
    def offset(self) -> Float64:
        return np.array([channel.offset for channel in self.channels])

    @property
    def delta(self) -> npt.NDArray[np.bool_]:
        return np.array([channel.kind == "delta" for channel in self.channels])

    @property
    def low(self) -> Float64:
        return np.array([channel.minimum for channel in self.channels])

    @property
    def high(self) -> Float64:
        return np.array([channel.maximum for channel in self.channels])

    def values(self, normalised: npt.NDArray[Any]) -> Float64:
        """Actions (..., A) of a policy in channel units."""
        result: Float64 = normalised * self.scale + self.offset
        return result

    def normalised(self, values: Float64) -> npt.NDArray[np.float32]:
        """Actions (..., A) in channel units as a policy takes them."""
        return ((values - self.offset) / self.scale).astype(np.float32)

    def reach(self, actions: Float64) -> Float64:
        """Acting rows (..., r, A) in channel units -> set-points, or displacements since the row before the first."""
        summed = np.cumsum(actions, axis=-2)
        return np.where(self.delta, summed, np.clip(actions, self.low, self.high))

    def flips(self, expected: Float64, got: Float64) -> npt.NDArray[np.bool_]:
        """Rows (..., r) in which a gripper is told the other half of its range (or the other way, where it is told by
        how much to move), and not by a hair: two commands closer than `UNDECIDED` tell it nothing different."""
        gripper = [i for i, channel in enumerate(self.channels) if channel.space == GRIPPER]
        a, b = expected[..., gripper], got[..., gripper]
        middle = np.where(self.delta, 0.0, (self.low + self.high) / 2)[gripper]
        span = (self.high - self.low)[gripper]
        return np.asarray((((a > middle) != (b > middle)) & (np.abs(a - b) > UNDECIDED * span)).any(axis=-1))


@dataclass(frozen=True)
class Error:
    """Per channel over all frames, in channel units, and the share of acting rows with a gripper flip."""

    channels: Mapping[str, Summary]
    flips: float
    flip_frames: int

    def as_dict(self) -> dict[str, Any]:
        channels = {name: summary.as_dict() for name, summary in self.channels.items()}
        return {"channels": channels, "gripper_flips": self.flips, "gripper_flip_frames": self.flip_frames}


@dataclass(frozen=True)
class HeldOut:
    """The three comparisons over the same frames."""

    frames: int
    delay: int
    acting: int
    graphs: Error  # the bundle against its FP32 graphs
    shipped: Error  # the bundle against the record
    fp32: Error  # FP32 against the record


def show_past(policy: Chunks, record: Record, tick: int, manifest: Manifest) -> None:
    """Makes a policy of several observations, or one that remembers, forget, and shows it those before the tick."""
    spacing = manifest.timing.memory_ticks
    if manifest.observations == 1 and not spacing:
        return
    policy.set_instruction(record.instruction(tick))
    for seen in record.before(tick, REMEMBERED if spacing else manifest.observations, spacing or 1):
        policy.infer(record.images(seen), record.state[seen], np.zeros((0, record.label.shape[1]), np.float32))


def measure(
    record: Record,
    ticks: Int64,
    manifest: Manifest,
    shipped: Chunks,
    fp32: Chunks,
    delay: int,
    acting: int,
    progress: Callable[[int], None] = lambda done: None,
) -> HeldOut:
    """Asks both policies at every tick.

    Raises:
        Unsound: fewer than `LEAST_FRAMES` frames.
        BadInput: a policy that cannot be asked: an unknown word, a picture of another size.
    """
    if len(ticks) < LEAST_FRAMES:
        todo = "select more episodes with --held-out or --episodes"
        raise Unsound(explain("held-out frames", f"at least {LEAST_FRAMES}", len(ticks), todo))
    meaning = Meaning(manifest.channels)
    rows = np.arange(delay, delay + acting)
    answers: dict[str, list[Float64]] = {"shipped": [], "fp32": []}
    told = ""
    for done, tick in enumerate(ticks.tolist(), 1):
        if (words := record.instruction(tick)) != told:
            shipped.set_instruction(words)
            fp32.set_instruction(words)
            told = words
        seen = (record.images(tick), record.state[tick], meaning.normalised(record.executed[tick : tick + delay]))
        for name, policy in (("shipped", shipped), ("fp32", fp32)):
            show_past(policy, record, tick, manifest)
            answers[name].append(meaning.reach(meaning.values(policy.infer(*seen)[rows])))
        progress(done)
    wanted = meaning.reach(record.label[ticks[:, None] + rows])
    said = {name: np.stack(values) for name, values in answers.items()}
    return HeldOut(
        len(ticks),
        delay,
        acting,
        compare(meaning, said["fp32"], said["shipped"]),
        compare(meaning, wanted, said["shipped"]),
        compare(meaning, wanted, said["fp32"]),
    )


def compare(meaning: Meaning, expected: Float64, got: Float64) -> Error:
    """Both (frames, r, A) as `Meaning.reach` gives them."""
    worst = np.abs(got - expected).max(axis=1)
    flipped = meaning.flips(expected, got)
    names = [channel.name for channel in meaning.channels]
    summaries = {name: summarise(worst[:, i]) for i, name in enumerate(names)}
    return Error(summaries, float(flipped.mean()), int(flipped.any(axis=1).sum()))


def judge(found: HeldOut, manifest: Manifest, budget: Budget) -> list[Check]:
    """Every line of the budget against what was found.

    Raises:
        BadInput: the budget names a channel that the bundle does not have.
    """
    names = {channel.name for channel in manifest.channels}
    if unknown := sorted(set(budget.channels) - names):
        raise BadInput(explain("channels of the budget", ", ".join(sorted(names)), unknown, "see `bundle show`"))
    checks = []
    for channel in manifest.channels:
        checks += _channel_checks(found, channel, budget)
    if any(channel.space == GRIPPER for channel in manifest.channels):
        checks.append(Check("gripper flips, bundle against FP32", budget.flips, found.graphs.flips, "of acting rows"))
    return checks


def _channel_checks(found: HeldOut, channel: ActionChannel, budget: Budget) -> list[Check]:
    own = budget.channels.get(channel.name, {})
    span = channel.maximum - channel.minimum
    graphs, record, plain = (part.channels[channel.name] for part in (found.graphs, found.shipped, found.fp32))
    limits = {"p99": own.get("p99"), "max": own.get("max")}
    if channel.space != GRIPPER:
        limits = {"p99": own.get("p99", budget.p99 * span), "max": own.get("max", budget.max * span)}
    got = {"p99": graphs.p99, "max": graphs.maximum}
    checks = [
        Check(f"{channel.name}: bundle against FP32, {name}", limit, got[name], channel.unit)
        for name, limit in limits.items()
        if limit is not None
    ]
    if "recorded_p99" in own:
        what = f"{channel.name}: bundle against the record, p99"
        checks.append(Check(what, own["recorded_p99"], record.p99, channel.unit))
    if channel.space != GRIPPER:
        for name, mine, theirs in (("p50", record.p50, plain.p50), ("p99", record.p99, plain.p99)):
            what = f"{channel.name}: error against the record, bundle over FP32, {name}"
            checks.append(Check(what, budget.recorded_ratio, _ratio(mine, theirs), "x"))
    return checks


def _ratio(mine: float, theirs: float) -> float:
    """1 where both are nothing."""
    return mine / theirs if theirs > 0 else 1.0 if mine == 0 else float("inf")
