"""The virtual servos: what the maker's memory table says of memory, torque, limits and faults."""

import math

import pytest

from firmware_bridge.feetech import codec
from firmware_bridge.feetech.models import Register
from firmware_bridge.feetech.virtual import make
from firmware_bridge.virtual.device import brown_out
from firmware_bridge.virtual.plant import JointPlant
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS


@pytest.fixture
def device():
    return _device(JOINTS)


def _device(joints, gravity_nm=0.0, **options):
    middle = joints[0].zero_rad
    n = len(joints)
    plant = JointPlant([middle - 1.65] * n, [middle + 1.65] * n, [middle] * n, gravity_nm=gravity_nm)
    return make(joints, plant, options)


def ask(device, packet, now_us=0):
    """(id, status, data) of each answer."""
    replies = device.feed(packet, now_us)
    return [tuple(answer) for reply in replies for answer in codec.Decoder().feed(reply.data)]


def let_run(device, begin_us, end_us):
    for now_us in range(begin_us, end_us, 1000):
        device.tick(now_us)


def test_a_packet_with_a_wrong_checksum_or_of_nobody_is_dropped_in_silence(device):
    spoiled = bytearray(codec.ping(1))
    spoiled[-1] ^= 1
    assert ask(device, bytes(spoiled)) == []
    assert ask(device, codec.ping(9)) == []
    assert ask(device, codec.packet(1, 0x55)) == []
    assert device.report()["unknown"] == 1


def test_packets_arrive_in_any_pieces(device):
    packet = codec.ping(1)
    assert ask(device, packet[:3]) == []
    assert ask(device, packet[3:]) == [(1, 0, b"")]


def test_a_sync_read_is_answered_in_its_order_each_after_its_own_return_delay():
    device = _device(JOINTS, factory_delay_us=500)
    replies = device.feed(codec.sync_read(56, 2, [3, 1, 99]), 0)
    assert [(reply.joint, reply.delay_us) for reply in replies] == [(2, 500), (0, 1000)]


def test_scs_servos_leave_a_sync_read_unanswered():
    assert ask(_device(SCS_JOINTS), codec.sync_read(56, 2, [1, 2])) == []


def test_what_is_written_locked_is_lost_at_power_off_and_unlocked_is_kept(device):
    ask(device, codec.write(1, Register.P_GAIN, b"\x10"))
    ask(device, codec.write(2, 55, b"\x00"))
    ask(device, codec.write(2, Register.P_GAIN, b"\x10"))
    brown_out(device, 0)
    assert ask(device, codec.read(1, Register.P_GAIN, 1)) == [(1, 0, b"\x20")]
    assert ask(device, codec.read(2, Register.P_GAIN, 1)) == [(2, 0, b"\x10")]
    assert ask(device, codec.read(2, 55, 1)) == [(2, 0, b"\x01")]


def test_a_brown_out_takes_torque_and_goal(device):
    ask(device, codec.write(1, 42, b"\x00\x09"))
    ask(device, codec.write(1, 40, b"\x01"))
    assert device.plant.torque_on[0]
    brown_out(device, 0)
    assert not device.plant.torque_on[0]
    assert ask(device, codec.read(1, 42, 2)) == [(1, 0, b"\x00\x08")]


def test_a_goal_is_followed_only_with_torque_on_and_only_to_the_limits(device):
    ask(device, codec.write(1, 42, b"\xff\x0f"))
    let_run(device, 0, 400_000)
    assert device.plant.position[0] == pytest.approx(math.pi)
    ask(device, codec.write(1, 40, b"\x01"), 400_000)
    let_run(device, 400_000, 3_000_000)
    ((_, _, data),) = ask(device, codec.read(1, 56, 2), 3_000_000)
    assert abs(int.from_bytes(data, "little") - 3026) <= 1  # its maximum, not 4095


def test_measured_registers_cannot_be_written(device):
    ask(device, codec.write(1, 56, bytes(8)))
    assert ask(device, codec.read(1, 56, 2)) == [(1, 0, b"\x00\x08")]


def test_a_reg_write_waits_for_the_action(device):
    ask(device, codec.reg_write(1, 42, b"\x00\x09"))
    assert ask(device, codec.read(1, 42, 2)) == [(1, 0, b"\x00\x08")]
    assert ask(device, codec.action()) == []
    assert ask(device, codec.read(1, 42, 2)) == [(1, 0, b"\x00\x09")]


def test_answer_level_0_answers_reads_and_pings_only(device):
    ask(device, codec.write(1, 8, b"\x00"))
    assert ask(device, codec.write(1, 42, b"\x00\x09")) == []
    assert ask(device, codec.read(1, 42, 2)) == [(1, 0, b"\x00\x09")]


def test_a_broadcast_ping_is_answered_by_all(device):
    assert [answer[0] for answer in ask(device, codec.ping(0xFE))] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "bit"), [("voltage", 1), ("encoder", 2), ("overheat", 4), ("current", 8), ("overload", 32)]
)
def test_each_fault_stands_in_every_answer(device, name, bit):
    device.fault(2, name)
    assert ask(device, codec.ping(3)) == [(3, bit, b"")]
    assert ask(device, codec.ping(2)) == [(2, 0, b"")]


def test_an_unknown_fault_is_refused(device):
    with pytest.raises(ValueError, match="fault one of"):
        device.fault(0, "rust")


def test_heat_switches_torque_off_and_voltage_does_not(device):
    for servo in (1, 2):
        ask(device, codec.write(servo, 40, b"\x01"))
    device.fault(0, "overheat")  # bit 4 is in the unloading condition, 44
    device.fault(1, "voltage")
    assert device.plant.torque_on.tolist()[:2] == [False, True]


def test_a_stuck_joint_is_overloaded_after_the_protection_time_and_goes_on_with_less_torque(device):
    device.plant.stuck[0] = True
    ask(device, codec.write(1, 42, b"\x00\x0b"))
    ask(device, codec.write(1, 40, b"\x01"))
    let_run(device, 0, 1_900_000)
    assert ask(device, codec.ping(1), 1_900_000) == [(1, 0, b"")]
    let_run(device, 1_900_000, 2_200_000)  # 200 x 10 ms beyond 80 %
    assert ask(device, codec.ping(1), 2_200_000) == [(1, 32, b"")]
    stall_nm = 19.5 * 0.0980665
    assert abs(device.plant.effort[0]) == pytest.approx(0.2 * stall_nm)
    ask(device, codec.write(1, 40, b"\x01"), 2_200_000)
    assert ask(device, codec.ping(1), 2_200_000) == [(1, 0, b"")]


def test_the_torque_limit_bounds_the_effort_and_is_that_of_eeprom_after_a_start(device):
    device.plant.stuck[0] = True
    for register, data in ((42, b"\x00\x0b"), (48, b"\xf4\x01"), (40, b"\x01")):
        ask(device, codec.write(1, register, data))
    let_run(device, 0, 100_000)
    assert device.plant.effort[0] == pytest.approx(0.5 * 19.5 * 0.0980665)
    brown_out(device, 100_000)
    assert ask(device, codec.read(1, 48, 2)) == [(1, 0, b"\xe8\x03")]


def test_128_to_the_torque_switch_makes_the_place_the_middle(device):
    device.plant.position[0] = math.pi + 1.0
    ask(device, codec.write(1, 40, b"\x80"))
    ((_, _, data),) = ask(device, codec.read(1, 56, 2))
    assert int.from_bytes(data, "little") == 2048
    assert not device.plant.torque_on[0]


def test_homing_offset_moves_the_counts_and_not_the_joint(device):
    ask(device, codec.write(1, 31, b"\x64\x08"))  # -100: bit 11 is the sign
    assert ask(device, codec.read(1, 56, 2)) == [(1, 0, (2148).to_bytes(2, "little"))]
    assert device.plant.position[0] == pytest.approx(math.pi)


def test_without_torque_a_joint_sinks_slowly():
    device = _device(JOINTS, gravity_nm=0.2)
    let_run(device, 0, 1_000_000)
    assert device.plant.position[0] == pytest.approx(math.pi - 0.1, abs=0.01)  # 0.2 N m against 2 N m s/rad


QUESTION = codec.sync_read(56, 4, [1, 2])
AT_REST = bytes.fromhex("00 08 00 00")  # 2048 counts, no speed


def test_an_answer_is_the_same_until_the_joints_have_moved(device):
    ask(device, codec.sync_write(40, {1: b"\x01"}))
    ask(device, codec.sync_write(42, {1: b"\x00\x0a"}))  # 2560
    assert ask(device, QUESTION) == [(1, 0, AT_REST), (2, 0, AT_REST)]
    assert ask(device, QUESTION, 400) == [(1, 0, AT_REST), (2, 0, AT_REST)]  # the plant steps every 500 us
    (_, _, first), second = ask(device, QUESTION, 50_000)
    assert int.from_bytes(first[:2], "little") > 2100
    assert second == (2, 0, AT_REST)


def test_an_answer_changes_at_once_with_a_fault_a_delay_an_offset_and_an_id(device):
    assert ask(device, QUESTION) == [(1, 0, AT_REST), (2, 0, AT_REST)]
    device.fault(0, "voltage")
    assert ask(device, QUESTION) == [(1, 1, AT_REST), (2, 0, AT_REST)]
    ask(device, codec.sync_write(7, {1: b"\x19"}))  # 25 x 2 us
    assert [reply.delay_us for reply in device.feed(QUESTION, 0)] == [50, 50]
    ask(device, codec.reg_write(2, 31, b"\x64\x00"))
    assert ask(device, QUESTION)[1] == (2, 0, AT_REST)
    ask(device, codec.action())
    assert ask(device, QUESTION)[1] == (2, 0, bytes.fromhex("9c 07 00 00"))  # 2048 - 100
    ask(device, codec.write(2, 5, b"\x09"))
    assert [answer[0] for answer in ask(device, QUESTION)] == [1]
    brown_out(device, 0)  # all of that was written locked
    assert ask(device, QUESTION) == [(1, 0, AT_REST), (2, 0, AT_REST)]


def test_a_new_goal_stands_in_the_next_answer_that_covers_it(device):
    question = codec.sync_read(40, 4, [1])
    assert ask(device, question) == [(1, 0, bytes.fromhex("00 00 00 08"))]
    ask(device, codec.sync_write(42, {1: b"\x00\x09"}))
    assert ask(device, question) == [(1, 0, bytes.fromhex("00 00 00 09"))]


def test_an_answer_at_an_overload_says_so_from_the_tick_that_found_it(device):
    device.plant.stuck[0] = True
    ask(device, codec.write(1, 42, b"\x00\x0b"))
    ask(device, codec.write(1, 40, b"\x01"))
    told = []
    for now_us in range(0, 2_100_000, 1000):
        told.append(ask(device, QUESTION, now_us)[0][1])
    assert told.index(32) == pytest.approx(2002, abs=2)  # ms: 200 x 10 ms from the first step on
    assert set(told) == {0, 32}
