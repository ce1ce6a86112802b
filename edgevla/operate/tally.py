"""What the rows of a run add up to, kept while they come in. Pure: rows in, counts out.

`add` takes the rows since the last call (`Rows.since`), so a refresh costs the same after a minute and a day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase

WAKE_EDGES_US = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4)  # upper edges; the rest above
LATENCY_EDGES = tuple(round(0.1 * part, 1) for part in range(1, 16))  # in shares of d T: at 1.0 the chunk acts
_COMMANDED = (Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD)  # a command is due at every servo step
_ARM, _STOP, _QUIT = 1, 2, 3  # control.machine.Order, as the rows carry it


@dataclass(frozen=True)
class Histogram:
    """Samples by upper edge; `counts` has one more entry than `edges`, for what lies above the last."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    maximum: float = 0.0  # exact, in the unit of the edges

    @staticmethod
    def empty(edges: tuple[float, ...]) -> Histogram:
        return Histogram(edges, (0,) * (len(edges) + 1))

    @property
    def total(self) -> int:
        return sum(self.counts)

    def plus(self, samples: NDArray[Any]) -> Histogram:
        """With `samples` (n,) added; a sample on an edge belongs below it."""
        if not len(samples):
            return self
        places = np.searchsorted(self.edges, samples, side="left")
        counts = np.add(self.counts, np.bincount(places, minlength=len(self.counts)))
        return Histogram(self.edges, tuple(int(n) for n in counts), max(self.maximum, float(samples.max())))

    def below(self, quantile: float) -> float:
        """Edge that `quantile` of the samples do not exceed; the maximum past the last edge; NaN when empty."""
        if not self.total:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), quantile * self.total - 1e-9))
        return min(self.edges[place], self.maximum) if place < len(self.edges) else self.maximum


@dataclass(frozen=True)
class Tally:
    """Sums over the run so far, and the newest row of the servo."""

    steps: int = 0
    misses: int = 0  # first byte more than Ts / 2 after its deadline, not written, or skipped
    skipped: int = 0
    late: int = 0  # commands that had expired and were not written
    late_wakes: int = 0  # woke more than Ts / 2 after the deadline, or overslept it: of disarmed steps too
    limited_steps: int = 0
    asked: int = 0
    release_misses: int = 0
    lost_rows: int = 0  # overwritten before they were read here: the sums lack them
    rate_hz: float = 0.0  # of the rows of the last call; 0 = the servo made no step
    wake_us: Histogram = field(default_factory=lambda: Histogram.empty(WAKE_EDGES_US))
    latency: Histogram = field(default_factory=lambda: Histogram.empty(LATENCY_EDGES))
    pending: tuple[int, ...] = ()  # ticks asked for, whose release tick has not come
    stopping: bool = False
    newest: NDArray[Any] | None = None  # the last row of the servo, tick_dtype ()


def add(
    tally: Tally, ticks: NDArray[Any], inferences: NDArray[Any], servo_period_s: float, release_s: float, delay: int
) -> Tally:
    """The tally with new rows, oldest first (tick_dtype (n,), inference_dtype (m,)).

    `servo_period_s` is Ts, `release_s` is d T, `delay` is d in ticks. No errors: rows that came are rows that count.
    """
    if len(inferences):
        sound = inferences[inferences["status"] == Status.OK]
        share = (sound["done_ns"] - sound["asked_ns"]) / (release_s * 1e9)
        tally = replace(tally, latency=tally.latency.plus(share))
    if not len(ticks):
        return replace(tally, rate_hz=0.0)
    stopping = _stopping(ticks["order"], tally.stopping)
    missed, pending = _release_misses((*tally.pending, *_asked(ticks)), ticks, stopping, delay)
    skipped = int(ticks["skipped"].sum())
    return replace(
        tally,
        steps=tally.steps + len(ticks),
        misses=tally.misses + _unpunctual(ticks, servo_period_s) + skipped,
        skipped=tally.skipped + skipped,
        late=tally.late + int(ticks["late"].sum()),
        late_wakes=tally.late_wakes + _late_wakes(tally.newest, ticks, servo_period_s),
        limited_steps=tally.limited_steps + int((ticks["limited"] != 0).sum()),
        asked=tally.asked + len(_asked(ticks)),
        release_misses=tally.release_misses + missed,
        rate_hz=_rate_hz(tally.newest, ticks),
        wake_us=tally.wake_us.plus((ticks["wake_ns"] - ticks["deadline_ns"]) / 1e3),
        pending=pending,
        stopping=bool(stopping[-1]),
        newest=ticks[-1].copy(),
    )


def _asked(ticks: NDArray[Any]) -> list[int]:
    found: list[int] = ticks["tick"][ticks["started"] != 0].tolist()
    return found


def _unpunctual(ticks: NDArray[Any], servo_period_s: float) -> int:
    written = ticks["write_ns"] > 0
    behind = written & (ticks["write_ns"] - ticks["deadline_ns"] > servo_period_s * 0.5e9)
    absent = ~written & np.isin(ticks["phase"], _COMMANDED)
    return int(behind.sum()) + int(absent.sum())


def _late_wakes(before: NDArray[Any] | None, ticks: NDArray[Any], servo_period_s: float) -> int:
    """What the rehearsal before arming counts, of every step."""
    steps = ticks["step"] if before is None else np.concatenate([[before["step"]], ticks["step"]])
    overslept = np.maximum(np.diff(steps) - 1, 0)  # where rows were lost, they count as overslept: the cautious side
    behind = ticks["wake_ns"] - ticks["deadline_ns"] > servo_period_s * 0.5e9
    return int(behind.sum()) + int(overslept.sum())


def _rate_hz(before: NDArray[Any] | None, ticks: NDArray[Any]) -> float:
    """Steps per second from wake to wake."""
    first_ns = ticks["wake_ns"][0] if before is None else before["wake_ns"]
    steps = len(ticks) - (before is None)
    elapsed_s = float(ticks["wake_ns"][-1] - first_ns) / 1e9
    return steps / elapsed_s if elapsed_s > 0.0 else 0.0


def _stopping(orders: NDArray[Any], before: bool) -> NDArray[np.bool_]:
    """Per row (n,): a stop was asked for and nobody has armed since."""
    last = np.maximum.accumulate(np.where(np.isin(orders, (_ARM, _STOP, _QUIT)), np.arange(len(orders)), -1))
    return np.where(last >= 0, orders[last] != _ARM, before)


def _release_misses(
    asked: tuple[int, ...], ticks: NDArray[Any], stopping: NDArray[np.bool_], delay: int
) -> tuple[int, tuple[int, ...]]:
    """Chunks absent at k + d of an arm that still wanted them, and the ticks whose release has not come."""
    missed, pending = 0, []
    for k in asked:
        place = int(np.searchsorted(ticks["tick"], k + delay))
        if place == len(ticks):
            pending.append(k)
            continue
        wanted = int(ticks["phase"][place]) in _COMMANDED and not stopping[place]
        missed += int(wanted and ticks["chunk"][place] < k)
    return missed, tuple(pending)
