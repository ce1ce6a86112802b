"""The pure hot path of one control tick, piece by piece. Run with ``make bench``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import profiles
from edgevla.control.commands import advance
from edgevla.control.ladder import Ladder, Phase
from edgevla.control.limiter import Motion, limits_of, track
from edgevla.control.machine import Inputs, Machine, Order, step
from edgevla.control.schedule import Answer, Schedule
from firmware_bridge.edgelink import codec

PERIOD_S = 0.0125  # Meta-World's 80 Hz
START = np.array([0.0, 0.6, 0.2, 0.0])
WANTED = np.array([0.005, 0.6, 0.2, 1.0], np.float32)

pytestmark = pytest.mark.benchmark(group="control tick")


@pytest.fixture(scope="module")
def arm() -> profiles.ArmProfile:
    return profiles.load_arm("metaworld-sawyer")


def test_machine_of_one_replan_period(benchmark: Any) -> None:
    """8 ticks of the host profile: armed, one inference asked for, answered and released."""
    schedule, ladder = Schedule(horizon=32, delay=2, replan=8, survive=2), Ladder(40, 800)

    def period() -> Machine:
        machine = Machine()
        for tick in range(8):
            told = Inputs(Answer(0, 1, True) if tick == 1 else None, Order.NONE if tick else Order.ARM)
            machine, _ = step(schedule, ladder, machine, tick, told)
        return machine

    assert benchmark(period).plan.released == 1


def test_limiter_step(benchmark: Any, arm: profiles.ArmProfile) -> None:
    limits, motion = limits_of(arm, PERIOD_S), Motion.at_rest(START)
    moved, _ = benchmark(track, limits, motion, WANTED, PERIOD_S)
    assert np.isfinite(moved.setpoint).all()


def test_servo_step(benchmark: Any, arm: profiles.ArmProfile) -> None:
    limits, motion = limits_of(arm, PERIOD_S), Motion.at_rest(START)
    after, _ = benchmark(advance, limits, Phase.TRACK, motion, WANTED, PERIOD_S)
    assert np.isfinite(after.setpoint).all()


def test_command_to_bytes(benchmark: Any, arm: profiles.ArmProfile) -> None:
    limits = codec.Limits(arm.channels)
    command = codec.Command(7, 123_456, tuple(float(v) for v in WANTED))
    assert len(benchmark(codec.encode, command, limits)) == codec.command_wire_bytes(4)


def test_bytes_to_message(benchmark: Any, arm: profiles.ArmProfile) -> None:
    limits = codec.Limits(arm.channels)
    frame = codec.encode(codec.Command(7, 123_456, tuple(float(v) for v in WANTED)), limits)
    decoder = codec.Decoder()
    assert len(benchmark(decoder.feed, frame)) == 1
