"""Goals for all servos and questions to all: the short ways through a virtual servo change nothing."""

from __future__ import annotations

import pytest

from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.codec import Block
from firmware_bridge.dynamixel.models import RAD_PER_COUNT
from tests.firmware_bridge.dynamixel.devices import device, error_of, told


@pytest.mark.parametrize("registers", ["", "1.11=4", "2.10=8", "1.48=2100, 1.52=2000"])
@pytest.mark.parametrize("expired", [False, True])
def test_goals_for_all_are_taken_as_goals_for_one_are(registers, expired):
    one, all_ = device(registers=registers), device(registers=registers)
    for made in (one, all_):
        error_of(made, models.TORQUE, 1, servo=3)
        if expired:
            made.servos[2].set(models.BUS_WATCHDOG, models.WATCHDOG_EXPIRED)
    for goal in (2050, 2101, 1999, -1, 5000, models.MOST_COUNTS + 1):
        for servo in (1, 2, 3):
            error_of(one, models.GOAL_POSITION, goal, servo)
        all_.feed(codec.sync_write(models.GOAL_POSITION, [(servo, goal) for servo in (1, 2, 3)]), 0)
        for made in (one, all_):
            made.tick(1000)
        assert all_.report()["torque_watchdog_goal_mode_drive"] == one.report()["torque_watchdog_goal_mode_drive"]
        assert all_.plant.target.tolist() == one.plant.target.tolist()
    counts = ("goals", "refused")
    assert [all_.report()[key] for key in counts] == [one.report()[key] for key in counts]


def test_the_same_question_is_answered_with_what_is_so_now():
    """Answers are kept while nothing changes: each thing that may change ends that at once."""
    made = device()
    measured = codec.read_all([Block(i, 126, 21) for i in range(1, 7)])
    goals = codec.read_all([Block(i, 116, 4) for i in range(1, 7)])
    first = told(made, goals, 4)
    assert told(made, goals, 4) == first
    made.feed(codec.sync_write(models.GOAL_POSITION, [(2, 2100)]), 0)
    assert [answer.data[:2] for answer in told(made, goals, 4)][:3] == [b"\x00\x08", b"\x34\x08", b"\x00\x08"]
    before = told(made, measured, 21)
    made.plant.position[0] = 2148 * RAD_PER_COUNT
    made.tick(0)
    after = told(made, measured, 21)
    assert int.from_bytes(after[0].data[6:10], "little") == 2148
    assert after[1:] == before[1:]
    made.fault(4, "voltage")
    assert [answer.error for answer in told(made, measured, 21)] == [0, 0, 0, 0, codec.ALERT, 0]
    error_of(made, models.RETURN_DELAY, 0)
    assert [reply.delay_us for reply in made.feed(measured, 0)][:2] == [0, 1000]
    error_of(made, models.ID, 9)
    assert len(told(made, measured, 21)) == 5
    made.power(False, 0)
    made.power(True, 0)
    assert [answer.error for answer in told(made, measured, 21)] == [0] * 5
