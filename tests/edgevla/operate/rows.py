"""Rows as the servo and policy processes write them, for a run that goes by the book."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import profiles
from edgevla.control.ladder import Phase
from edgevla.operate.state import Camera, Facts, Setup, ViewState, collect, measured_by
from edgevla.operate.state import Joint as JointOf
from edgevla.operate.tally import Tally, add
from edgevla.telemetry.rows import inference_dtype, tick_dtype

TS_S = 0.0125  # one servo step a tick
TS_NS = 12_500_000
DELAY, REPLAN, HORIZON = 2, 8, 32
ARM = profiles.load_arm("metaworld-sawyer")
SETUP = Setup(
    policy="reference",
    arm=ARM.name,
    joints=tuple(
        JointOf(c.name, c.unit, c.minimum, c.maximum, measured_by(c.name, [s.name for s in ARM.state]))
        for c in ARM.channels
    ),
    servo_period_s=TS_S,
    release_s=DELAY * TS_S,
    horizon=HORIZON,
    delay=DELAY,
)


def ticks_of(count: int, first: int = 0, phase: Phase = Phase.TRACK) -> NDArray[Any]:
    """`count` servo steps: woken 20 us and written 100 us after each deadline, every chunk released in time."""
    rows = np.zeros(count, tick_dtype(4, 4))
    tick = np.arange(first, first + count)
    rows["step"] = rows["tick"] = tick
    rows["deadline_ns"] = (tick + 1) * TS_NS
    rows["wake_ns"] = rows["deadline_ns"] + 20_000
    rows["write_ns"] = rows["deadline_ns"] + 100_000
    rows["started"] = tick % REPLAN == 0
    rows["chunk"] = np.where(tick < DELAY, -1, (tick - DELAY) // REPLAN * REPLAN)
    rows["phase"] = phase
    rows["state_stamp_ns"] = rows["deadline_ns"]
    rows["setpoint"] = [0.0, 0.7, 0.275, -1.0]
    rows["state"] = [0.1, 0.7, 0.05, 1.0]
    return rows


def inferences_of(latencies_ms: list[float], status: int = 0) -> NDArray[Any]:
    rows = np.zeros(len(latencies_ms), inference_dtype())
    rows["asked_ns"] = np.arange(1, len(latencies_ms) + 1) * 100_000_000
    rows["done_ns"] = rows["asked_ns"] + (np.array(latencies_ms) * 1e6).astype(np.int64)
    rows["status"] = status
    return rows


NO_INFERENCE = inferences_of([])


def fold(*batches: NDArray[Any], tally: Tally | None = None) -> Tally:
    tally = tally or Tally()
    for ticks in batches:
        tally = add(tally, ticks, NO_INFERENCE, TS_S, DELAY * TS_S, DELAY)
    return tally


def moment(ticks: NDArray[Any] | None = None, setup: Setup = SETUP, **facts: Any) -> ViewState:
    """What a person sees after `ticks`; `facts` replaces what the supervisor knows."""
    rows = ticks_of(20) if ticks is None else ticks
    now_ns = int(rows["deadline_ns"][-1]) + 5_000_000 if len(rows) else 0
    camera = Camera("corner", now_ns - 30_000_000, 0.1)
    known = Facts(now_ns=now_ns, instruction="open the drawer", cameras=(camera,), recorder="recording")
    return collect(setup, fold(rows), replace(known, **facts))
