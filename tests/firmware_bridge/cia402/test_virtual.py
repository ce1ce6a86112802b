"""The virtual drive without a bus: what CiA 301 and 402 say it does with frames and time."""

import struct

import pytest

from firmware_bridge.cia402 import codec, states
from firmware_bridge.cia402.virtual import make
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.cia402.arms import JOINTS


@pytest.fixture
def device():
    return make(JOINTS[:1], plant_of(list(JOINTS[:1]), 0.2), {})


def sdo(device, data, now_us=0):
    (reply,) = device.feed(Frame(0x601, bytes.fromhex(data).ljust(8, b"\0")), now_us)
    return reply.data.data


def write(device, index, sub, kind, value, now_us=0):
    raw = struct.pack("<" + kind, value)
    head = struct.pack("<BHB", 0x23 | (4 - len(raw)) << 2, index, sub)
    return device.feed(Frame(0x601, (head + raw).ljust(8, b"\0")), now_us)[0].data.data[0]


def sync(device, now_us=0):
    replies = device.feed(codec.SYNC, now_us)
    return [codec.STATUS.unpack(r.data.data) for r in replies if r.data.id == 0x181 and len(r.data.data) == 6]


def enabled(device, watchdog_ms=0, abort=1, keep_nmt=1):
    """Mapped, operational, in operation enabled; the clock is at 0."""
    write(device, 0x1400, 1, "I", 0x8000_0201)
    write(device, 0x1400, 2, "B", 1)
    write(device, 0x1600, 0, "B", 0)
    write(device, 0x1600, 1, "I", 0x60400010)
    write(device, 0x1600, 2, "I", 0x607A0020)
    write(device, 0x1600, 0, "B", 2)
    write(device, 0x1400, 1, "I", 0x201)
    write(device, 0x1800, 1, "I", 0x8000_0181)
    write(device, 0x1A00, 0, "B", 0)
    write(device, 0x1A00, 1, "I", 0x60410010)
    write(device, 0x1A00, 2, "I", 0x60640020)
    write(device, 0x1A00, 0, "B", 2)
    write(device, 0x1800, 1, "I", 0x4000_0181)
    write(device, 0x6060, 0, "b", 8)
    write(device, 0x605A, 0, "h", 6)
    write(device, 0x6007, 0, "h", abort)
    write(device, 0x1029, 1, "B", keep_nmt)
    write(device, 0x1016, 1, "I", 0x7F << 16 | watchdog_ms)
    device.feed(codec.nmt(codec.START, 1), 0)
    ((_, at),) = sync(device)
    for word in (6, 7, 0x0F):
        device.feed(codec.command(1, word, at), 0)
        sync(device)
    device.feed(codec.heartbeat(127), 0)
    return at


def name(device):
    return device.report()["states"][0]


def test_it_boots_with_a_message_and_pre_operational(device):
    (reply,) = device.tick(0)
    assert reply.data == Frame(0x701, b"\0")
    assert device.report()["nmt"] == [0x7F]
    assert sync(device) == []  # no PDOs before NMT start


def test_it_climbs_only_in_order(device):
    enabled(device)
    assert name(device) == "OPERATION_ENABLED"
    device.power(False, 1)
    device.power(True, 2)
    write(device, 0x6040, 0, "H", 0x0F)
    assert name(device) == "SWITCH_ON_DISABLED"


def test_command_acts_at_the_sync_and_not_before(device):
    at = enabled(device)
    before = float(device.plant.target[0])
    device.feed(codec.command(1, 0x0F, at + 1000), 0)
    assert device.plant.target[0] == before
    sync(device)
    assert device.plant.target[0] == pytest.approx((at + 1000) / device.drives[0].counts_per_rad)


@pytest.mark.parametrize(
    ("abort", "state", "errors"), [(1, "FAULT", 0x8130), (2, "SWITCH_ON_DISABLED", 0), (3, "QUICK_STOP", 0)]
)
def test_lost_host_acts_as_the_abort_connection_option_says(device, abort, state, errors):
    enabled(device, watchdog_ms=100, abort=abort)
    device.tick(100_000)
    assert name(device) == "OPERATION_ENABLED"
    for t in range(101_000, 300_000, 1000):
        device.tick(t)
    assert (name(device), device.report()["errors"]) == (state, [errors])
    assert device.report()["watchdog_trips"] == 1


def test_lost_host_ends_process_data_unless_1029_says_otherwise(device):
    enabled(device, watchdog_ms=100, keep_nmt=0)
    device.tick(101_000)
    assert device.report()["nmt"] == [0x7F]
    assert sync(device, 102_000) == []


def test_heartbeats_are_watched_from_the_first_one_on_and_again_after_a_write(device):
    enabled(device, watchdog_ms=100)
    write(device, 0x1016, 1, "I", 0x7F << 16 | 100)
    device.tick(10_000_000)
    assert name(device) == "OPERATION_ENABLED"


def test_heartbeat_of_another_node_does_not_feed(device):
    enabled(device, watchdog_ms=100)
    device.feed(codec.heartbeat(126), 90_000)
    for t in range(101_000, 300_000, 1000):
        device.tick(t)
    assert name(device) == "FAULT"


def test_fault_is_reset_by_a_rising_edge_only(device):
    enabled(device)
    device.fault(0, "overload")
    emcy = next(r.data for r in device.tick(1000) if r.data.id == 0x081)
    assert codec.emergency(emcy.data).code == 0x2310
    for t in range(2_000, 200_000, 1000):
        device.tick(t)
    assert name(device) == "FAULT"
    write(device, 0x6040, 0, "H", 0x0F)
    assert name(device) == "FAULT"
    write(device, 0x6040, 0, "H", 0x80)
    assert name(device) == "SWITCH_ON_DISABLED"


def test_brake_holds_what_has_no_torque(device):
    at = float(device.plant.position[0])
    for t in range(0, 500_000, 1000):
        device.tick(t)
    assert device.plant.position[0] == at
    loose = make(JOINTS[:1], plant_of(list(JOINTS[:1]), 0.2), {"brakes": False})
    for t in range(0, 500_000, 1000):
        loose.tick(t)
    assert loose.plant.position[0] < at


def test_stuck_joint_stays_stuck_when_its_brake_opens(device):
    device.drives[0]._stuck = True
    enabled(device)
    assert device.plant.stuck[0]


def test_following_error_faults_after_its_time(device):
    at = enabled(device)
    write(device, 0x6065, 0, "I", 500)
    write(device, 0x6066, 0, "H", 20)
    device.plant.stuck[0] = True
    device.feed(codec.command(1, 0x0F, at + 5000), 0)
    sync(device)
    for t in range(0, 20_000, 1000):
        device.tick(t)
    assert name(device) == "OPERATION_ENABLED"
    for t in range(20_000, 200_000, 1000):
        device.tick(t)
    assert device.report()["errors"] == [0x8611]


def test_target_outside_the_position_limits_is_limited(device):
    at = enabled(device)
    write(device, 0x607D, 1, "i", at - 100)
    write(device, 0x607D, 2, "i", at + 100)
    device.feed(codec.command(1, 0x0F, at + 5000), 0)
    sync(device)
    assert device.plant.target[0] == pytest.approx((at + 100) / device.drives[0].counts_per_rad)
    assert device.report()["limited"] == 1


def mapped(device, number, can_id, kind, entries):
    """RPDO `number` at that CAN id, transmission type and map."""
    write(device, 0x1400 + number - 1, 1, "I", 0x8000_0000 | can_id)
    write(device, 0x1400 + number - 1, 2, "B", kind)
    write(device, 0x1600 + number - 1, 0, "B", 0)
    for sub, entry in enumerate(entries, 1):
        write(device, 0x1600 + number - 1, sub, "I", entry)
    write(device, 0x1600 + number - 1, 0, "B", max(1, len(entries)))
    write(device, 0x1400 + number - 1, 1, "I", can_id)


def test_limits_that_came_in_a_pdo_hold_from_then_on(device):
    at = enabled(device)
    mapped(device, 2, 0x301, 255, [0x607D0120, 0x607D0220])  # 255: acts when it arrives, not at the SYNC
    device.feed(Frame(0x301, struct.pack("<ii", at - 100, at + 100)), 0)
    device.feed(codec.command(1, 0x0F, at - 5000), 0)
    sync(device)
    assert device.plant.target[0] == pytest.approx((at - 100) / device.drives[0].counts_per_rad)


def test_two_pdos_of_one_id_are_both_taken(device):
    at = enabled(device)
    mapped(device, 2, 0x201, 1, [0x60400010])
    device.feed(codec.command(1, 0x0F, at + 1000), 0)
    sync(device)
    assert device.report()["commands"] == 5  # three went up


def test_map_to_nothing_carries_nothing(device):
    enabled(device)
    mapped(device, 2, 0x301, 1, [])
    device.feed(Frame(0x301, b""), 0)
    assert len(sync(device)) == 1
    assert device.report()["dropped"] == 0


def test_sync_is_heard_where_1005_says(device):
    at = enabled(device)
    write(device, 0x1005, 0, "I", 0x90)
    device.feed(codec.command(1, 0x0F, at + 1000), 0)
    assert sync(device) == []
    assert [r.data.id for r in device.feed(Frame(0x090, b""), 0)] == [0x181]
    assert device.plant.target[0] == pytest.approx((at + 1000) / device.drives[0].counts_per_rad)


def test_quick_stop_holds_and_operation_can_go_on(device):
    at = enabled(device)
    device.feed(codec.command(1, states.QUICK_STOP, at), 0)
    sync(device)
    assert (name(device), bool(device.plant.torque_on[0])) == ("QUICK_STOP", True)
    device.feed(codec.command(1, states.ENABLE, at), 0)
    sync(device)
    assert name(device) == "OPERATION_ENABLED"


def test_leaving_operational_stops_a_drive_that_has_torque(device):
    enabled(device, abort=3)
    device.feed(codec.nmt(codec.PRE_OPERATIONAL, 1), 0)
    assert name(device) == "QUICK_STOP"


def test_short_pdo_is_dropped_with_an_emergency(device):
    enabled(device)
    replies = device.feed(Frame(0x201, b"\x0f\x00"), 0)
    assert codec.emergency(replies[0].data.data).code == 0x8210
    assert device.report()["dropped"] == 1


def test_configuration_is_lost_with_the_power(device):
    enabled(device, watchdog_ms=100)
    device.power(False, 1)
    assert device.feed(codec.SYNC, 2) == []
    device.power(True, 3)
    device.tick(4)  # boots
    assert sdo(device, "40 16 10 01") == bytes.fromhex("43 16 10 01 00 00 00 00")
    assert not device.plant.torque_on[0]


def test_nmt_reset_boots_again(device):
    enabled(device)
    replies = device.feed(codec.nmt(codec.RESET, 1), 0)
    assert replies[0].data == Frame(0x701, b"\0")
    assert name(device) == "SWITCH_ON_DISABLED"


def test_stopped_node_hears_only_nmt(device):
    device.tick(0)
    device.feed(codec.nmt(codec.STOP, 1), 0)
    assert device.feed(Frame(0x601, bytes.fromhex("4000100000000000")), 0) == []
    device.feed(codec.nmt(codec.PRE_OPERATIONAL, 1), 0)
    assert sdo(device, "40 00 10 00")[0] == 0x43


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("60 00 00 00", 0x05040001),  # a segment of nothing
        ("21 60 60 00 08", 0x05040001),  # segmented download: not served
        ("a0 60 60 00", 0x05040001),
    ],
)
def test_sdo_that_it_does_not_serve_is_aborted(device, request_, code):
    device.tick(0)
    assert sdo(device, request_) == bytes.fromhex("80") + bytes.fromhex(request_)[1:4] + struct.pack("<I", code)


def test_segment_with_the_wrong_toggle_is_aborted(device):
    device.tick(0)
    assert sdo(device, "40 08 10 00")[0] == 0x41
    assert sdo(device, "70") == bytes.fromhex("80 00 00 00 00 00 03 05")
    assert device.feed(Frame(0x601, bytes.fromhex("80 08 10 00 00 00 00 00")), 0) == []  # the client gives up
    assert device.feed(Frame(0x601, b"\x40"), 0) == []  # too short


def test_unknown_fault_is_refused(device):
    with pytest.raises(ValueError, match="overload"):
        device.fault(0, "lightning")


def test_a_mode_that_it_refuses_in_a_pdo_is_an_emergency_message_and_changes_nothing(device):
    write(device, 0x1400, 1, "I", 0x8000_0201)
    write(device, 0x1400, 2, "B", 255)
    write(device, 0x1600, 0, "B", 0)
    write(device, 0x1600, 1, "I", 0x60600008)
    write(device, 0x1600, 0, "B", 1)
    write(device, 0x1400, 1, "I", 0x201)
    write(device, 0x6060, 0, "b", 8)
    device.feed(codec.nmt(codec.START, 1), 0)
    (reply,) = device.feed(Frame(0x201, b"\x01"), 0)
    assert reply.data == Frame(0x081, bytes.fromhex("20 63 01 00 00 00 00 00"))
    assert sdo(device, "40 61 60 00")[4] == 8
    device.feed(Frame(0x201, b"\x00"), 0)
    assert sdo(device, "40 61 60 00")[4] == 0
