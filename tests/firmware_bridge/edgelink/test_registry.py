"""edgelink as the registry and the command line use it: make, scan, split, describe, the virtual controller."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault, Joint, Mode
from firmware_bridge.config import BusConfig
from firmware_bridge.edgelink import codec, driver, virtual
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Command,
    Disarm,
    Hello,
    HelloAck,
    Limits,
    Ping,
    State,
    Stop,
    encode,
    schema_hash,
)
from firmware_bridge.edgelink.frames import frame
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import Found
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from firmware_bridge.virtual.plant import JointPlant

JOINTS = (Joint("a", "rad", -1.0, 1.0, 0, "", direction=-1, zero_rad=0.5), Joint("b", "m", 0.0, 0.2, 1, "", ratio=0.1))
# Each frame with the sentence it must give; bytes by encode(), whose own bytes test_codec.py holds as literals.
SENTENCES = [
    (Hello(1, 0xABCD), "edgelink HELLO from the host: is this your schema? Disarms, sequence 1, schema 0x0000abcd"),
    (
        HelloAck(2, 7, 12, 100, (0.5, -1.0)),
        (
            "edgelink HELLO_ACK from the device, sequence 2, schema 0x00000007, device clock 12 us, watchdog 100 ms, "
            "holds 0.5, -1"
        ),
    ),
    (
        ArmRequest(3, 99),
        (
            "edgelink ARM from the host: take commands, clear a latched stop, sequence 3, "
            "void after 99 us of the device's clock"
        ),
    ),
    (Disarm(4), "edgelink DISARM from the host: take no more commands, sequence 4"),
    (Stop(5), "edgelink STOP from the host: latch a stop and hold, sequence 5"),
    (Ping(6), "edgelink PING from the host: send a state, sequence 6"),
    (
        Command(7, 1_000, (0.25, 0.125)),
        (
            "edgelink COMMAND from the host, sequence 7: 0.25, 0.125 in channel units, "
            "void after 1000 us of the device's clock"
        ),
    ),
    (
        State(8, 500, 2, 3, 0x81, 4, (0.5, 0.0), (1.5, float("nan"))),
        (
            "edgelink STATE from the device, sequence 8 at 500 us of the device's clock: mode STOPPED, the "
            "sequence number is that of an earlier message, or older, faults WATCHDOG|RESET, 4 refused so far, "
            "position 0.5, 0, effort 1.5, nan"
        ),
    ),
    (
        State(9, 500, 0, 77, 0, 0, (), ()),
        (
            "edgelink STATE from the device, sequence 9 at 500 us of the device's clock: mode DISARMED, verdict 77, "
            "faults none, 0 refused so far, position nothing, effort nothing"
        ),
    ),
]


@pytest.mark.parametrize(("message", "sentence"), SENTENCES, ids=[type(message).__name__ for message, _ in SENTENCES])
def test_every_message_has_its_sentence(message, sentence):
    assert codec.describe(encode(message, Limits(JOINTS))) == sentence


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [
        (b"", "not edgelink: 0 bytes"),
        (b"\0\0", "not edgelink: 2 bytes"),
        (b"\x05ab", "not edgelink: 3 bytes"),
        (bytes.fromhex("00 04 06 aa bb 02 cc 00"), "not edgelink: 8 bytes"),
        (bytes.fromhex("00 03 06 01 04 01 00 ff ff 00"), "not edgelink"),
        (b"\x01" * 250, "not edgelink: 250 bytes"),
    ],
)
def test_what_is_no_frame_is_said_to_be_none(unit, sentence):
    assert codec.describe(unit).startswith(sentence)


def test_a_flipped_bit_is_named_by_its_checksum():
    spoiled = bytearray(encode(Ping(6)))
    spoiled[2] ^= 0x40
    assert "CRC" in codec.describe(bytes(spoiled))


def test_a_right_frame_of_an_unknown_type_is_said_to_be_none():
    unknown = frame(bytes.fromhex("7f 00 01 00") + b"abc")
    assert codec.describe(unknown) == "not edgelink/2: type 0x7f with 3 bytes is none of its messages"


@given(data=st.binary(max_size=600))
def test_any_bytes_are_split_without_loss_and_described_without_an_error(data):
    units = codec.split(data)
    assert b"".join(units) == data
    assert all(codec.describe(unit) for unit in units)


def test_a_stream_is_split_into_its_frames_and_the_junk_between():
    ping, stop = encode(Ping(1)), encode(Stop(2))
    assert codec.split(ping + stop) == [ping, stop]
    assert codec.split(b"junk" + ping + stop[:4]) == [b"junk\0", ping[1:], stop[:4]]


def test_a_cycle_is_a_command_and_a_state():
    six = tuple(Joint(f"j{i}", "rad", -1, 1, i, "") for i in range(6))
    # facts, section 6: 32 + 60 bytes at 921.6 kbaud, 1002 Hz; now 37 + 55 with effort as float16
    assert codec.cycle_ns(six, 921_600) == pytest.approx(1e9 / 1_002, rel=1e-3)


# --- make, scan ---


def bus(port="/dev/ttyNOTHERE"):
    return BusConfig("main", port, 921_600, JOINTS)


def test_make_gives_a_driver_of_the_port_and_its_joints():
    arm = driver.make(bus(), 0.1, {})
    assert isinstance(arm, driver.EdgelinkArm)
    assert arm.transport.name == "/dev/ttyNOTHERE"


def test_options_are_refused_since_there_are_none():
    with pytest.raises(BridgeError, match=r"options of an edgelink arm[\s\S]*speed"):
        driver.make(bus(), 0.1, {"speed": 9})


def test_scan_finds_the_controller_and_leaves_it_armed():
    with VirtualProcess("edgelink", JOINTS, gravity_nm=0.0, watchdog_s=5.0) as process:
        arm = driver.make(bus(process.port), 5.0, {})
        arm.connect()
        arm.arm()
        arm.transport.close()  # the port for another, without a stop
        port = SerialTransport(process.port, 921_600)
        port.open()
        found = driver.scan(port)
        port.close()
        assert found == [Found(0, "edgelink controller", "edgelink/2", "2 channels, ARMED, faults 0x0000")]
        assert process.do("report")["device"]["mode"] == "ARMED"


def test_scan_of_a_silent_line_finds_nothing_in_time():
    with VirtualProcess("edgelink", JOINTS) as process:
        process.do("power", on=False)
        port = SerialTransport(process.port, 921_600)
        port.open()
        before = time.monotonic()
        assert driver.scan(port, 0.05) == []
        assert time.monotonic() - before < 2.0
        port.close()


# --- the virtual controller ---


@pytest.fixture
def device():
    plant = JointPlant([-2.0, -1.0], [2.0, 3.0], [0.5, 1.0], gravity_nm=0.0)
    return virtual.make(JOINTS, plant, {})


def ask(device, message, now_us):
    (reply,) = device.feed(encode(message, Limits(JOINTS)), now_us)
    (answer,) = codec.Decoder().feed(reply.data)
    return answer


def armed(device):
    ask(device, Hello(1, schema_hash(JOINTS)), 0)
    return ask(device, ArmRequest(2, 100_000), 0)


def test_the_mechanics_are_seen_in_channel_units(device):
    state = ask(device, Ping(1), 0)
    assert state.position == pytest.approx((0.0, 0.1))  # direction -1, zero 0.5; 0.1 m/rad


def test_torque_comes_with_arming_and_goes_with_disarming_only(device):
    assert device.plant.torque_on.tolist() == [False, False]
    armed(device)
    assert device.plant.torque_on.tolist() == [True, True]
    ask(device, Stop(3), 1_000)
    assert device.plant.torque_on.tolist() == [True, True]
    ask(device, Disarm(4), 2_000)
    assert device.plant.torque_on.tolist() == [False, False]


def test_arming_holds_where_a_hand_has_put_the_joints(device):
    device.plant.place([0.7, 0.5])
    armed(device)
    assert device.plant.target == pytest.approx([0.7, 0.5], abs=1e-6)


def test_a_command_is_a_target_in_the_devices_own_frame(device):
    armed(device)
    ask(device, Command(3, 50_000, (0.25, 0.05)), 1_000)
    assert device.plant.target == pytest.approx([0.25, 0.5], abs=1e-6)


def test_the_joints_are_seen_as_each_joint_counts_whenever_they_may_have_moved(device):
    view = virtual.JointsPlant(JOINTS, device.plant)
    for rad in ([0.7, 0.5], [-0.25, 1.5]):
        device.plant.place(rad)
        seen = np.array([joint.to_channel(angle) for joint, angle in zip(JOINTS, rad, strict=True)], np.float32)
        assert view.position().tolist() == seen.tolist()
        assert view.position() is view.position()  # nothing moved in between
    device.plant.effort[:] = [1.5, -2.0]
    device.plant.steps += 1
    assert view.effort().tolist() == [-1.5, -20.0]  # direction -1; 0.1 m/rad
    with pytest.raises(ValueError, match="read-only"):
        view.position()[0] = 0.0


def test_a_set_point_becomes_each_joints_own_angle(device):
    view = virtual.JointsPlant(JOINTS, device.plant)
    for setpoint in ([0.25, 0.05], [-1.0, 0.2]):
        view.step(np.array(setpoint, np.float32))
        exact = np.array(setpoint, np.float32).tolist()
        angles = [joint.to_device(value) for joint, value in zip(JOINTS, exact, strict=True)]
        assert device.plant.target.tolist() == angles


def test_the_watchdog_is_the_one_asked_for(device):
    plant = JointPlant([-2.0, -1.0], [2.0, 3.0], [0.5, 1.0])
    slow = virtual.make(JOINTS, plant, {"watchdog_s": 0.5})
    assert ask(slow, Hello(1, 0), 0).watchdog_ms == 500
    with pytest.raises(ValueError, match="knows watchdog_s"):
        virtual.make(JOINTS, plant, {"speed": 1})


@pytest.mark.parametrize(("name", "bit"), virtual.EdgelinkDevice.FAULTS.items())
def test_a_fault_stops_an_armed_controller_and_is_in_its_state(device, name, bit):
    armed(device)
    device.fault(1, name)
    state = ask(device, Ping(9), 1_000)
    assert (state.mode, state.faults) == (Mode.STOPPED, bit)


def test_power_off_and_on_forgets_the_host_and_says_reset(device):
    armed(device)
    device.power(False, 1_000)
    assert device.plant.torque_on.tolist() == [False, False]
    device.tick(2_000)
    device.power(True, 3_000)
    state = ask(device, Command(3, 50_000, (0.0, 0.0)), 4_000)
    assert (state.mode, state.faults, state.verdict) == (Mode.DISARMED, Fault.RESET, codec.Verdict.NO_HELLO)
    assert np.all(~device.plant.torque_on)
