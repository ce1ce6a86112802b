"""The base of drivers on a shared bus: what reaches the wire, and until when."""

import numpy as np
import pytest

from firmware_bridge.arm import Mode
from firmware_bridge.errors import BadSetpoint, NotArmed
from tests.firmware_bridge.bus_arm.bench import HOUR_NS, JOINTS, MIDDLE, written


def test_a_command_reaches_the_wire_as_device_angles(armed):
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS) > 0
    expected = [joint.to_device(value) for joint, value in zip(JOINTS, MIDDLE.tolist(), strict=True)]
    assert written(armed) == [expected]
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (1, 0, 0)


@pytest.mark.parametrize("ahead_ns", [-HOUR_NS, 0, 1_000])
def test_an_expired_command_is_never_written(armed, ahead_ns):
    """The clock's next look is 1 us later: an expiry of that very instant has passed."""
    before = armed.last_asked
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + ahead_ns) == 0
    assert written(armed) == []
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (0, 1, 0)
    assert armed.last_asked == before


def test_a_command_with_a_microsecond_left_is_written_and_counted_as_overtaken_when_the_write_ends_late(armed):
    now_ns = armed.transport.clock.now_ns
    assert armed.send(MIDDLE, now_ns + 1_001) == now_ns + 2_000
    assert (armed.counts.sent, armed.counts.overtaken) == (1, 1)


def test_a_write_that_ends_at_the_expiry_itself_is_in_time(armed):
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + 2_000) > 0
    assert armed.counts.overtaken == 0


@pytest.mark.parametrize("slow", ["_frames", "_readings"])
def test_the_expiry_is_checked_after_encoding_and_reading(armed, slow):
    expiry_ns = armed.transport.clock.now_ns + 1_000_000
    real = getattr(armed, slow)

    def slowly(*arguments):
        armed.transport.clock.now_ns = expiry_ns
        return real(*arguments)

    setattr(armed, slow, slowly)
    assert armed.send(MIDDLE, expiry_ns) == 0
    assert written(armed) == []


def test_commands_that_are_late_or_overtaken_add_up(armed):
    clock = armed.transport.clock
    for _ in range(2):
        armed.send(MIDDLE, clock.now_ns)
        armed.send(MIDDLE, clock.now_ns + 1_001)
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (2, 2, 2)


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.STOPPED])
def test_an_arm_that_is_not_armed_takes_no_command(armed, mode):
    armed.mode = mode
    with pytest.raises(NotArmed, match=f"mode {mode.name}"):
        armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    with pytest.raises(NotArmed, match=f"mode {mode.name}"):
        armed.encode(MIDDLE)  # where two arms are sent to at once, all are judged before any is written to
    assert written(armed) == []


def end(joint, side, steps):
    """The float32 `steps` above an end of a joint's range."""
    value = np.float32(getattr(JOINTS[joint], side))
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.sign(steps) * np.inf), dtype=np.float32)
    setpoint = MIDDLE.copy()
    setpoint[joint] = value
    return setpoint


@pytest.mark.parametrize("joint", range(3))
@pytest.mark.parametrize(("side", "outwards"), [("minimum", -1), ("maximum", 1)])
def test_the_ends_of_a_range_are_inside_and_the_next_number_is_not(armed, joint, side, outwards):
    later_ns = armed.transport.clock.now_ns + HOUR_NS
    assert armed.send(end(joint, side, 0), later_ns) > 0
    armed.transport.log.clear()
    with pytest.raises(BadSetpoint, match="outside its range"):
        armed.send(end(joint, side, outwards), later_ns)
    assert written(armed) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("joint", range(3))
def test_what_is_not_finite_is_refused(armed, joint, bad):
    setpoint = MIDDLE.copy()
    setpoint[joint] = bad
    with pytest.raises(BadSetpoint, match="not finite"):
        armed.send(setpoint, armed.transport.clock.now_ns + HOUR_NS)


def test_a_set_point_of_another_kind_is_refused(armed):
    with pytest.raises(BadSetpoint, match=r"expected: float32 \(3,\)"):
        armed.send(MIDDLE.tolist(), armed.transport.clock.now_ns + HOUR_NS)
    assert written(armed) == []
