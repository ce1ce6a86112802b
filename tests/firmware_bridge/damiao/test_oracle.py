"""damiao-motor 1.0.6, which nobody here wrote: the same bytes as ours, and it drives our virtual motors."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import StopKind, exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.damiao import codec, registers
from firmware_bridge.damiao.driver import make
from firmware_bridge.damiao.models import MODELS
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.arms import GRIPPER, JOINTS
from tests.firmware_bridge.unix_bus import UnixBus

MISSING = "damiao-motor is not installed: pip install --no-deps damiao-motor==1.0.6"
damiao_motor = pytest.importorskip("damiao_motor", reason=MISSING)
ALL = (*JOINTS, GRIPPER)


def type_of(joint):
    return joint.model.removeprefix("dm")


class Recorder:
    """A bus that keeps what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, message, timeout=None):
        self.sent.append(message)

    def take(self):
        sent, self.sent = self.sent, []
        return [(message.arbitration_id, bytes(message.data)) for message in sent]


def motor_on(bus, joint):
    return damiao_motor.DaMiaoMotor(joint.id, joint.reply_id, bus, motor_type=type_of(joint))


def same(ours, theirs):
    assert [(frame.id, frame.data) for frame in ours] == theirs


@pytest.fixture
def controller():
    """Their controller on our virtual motors. Its constructor opens SocketCAN, so the bus is put in afterwards."""
    with VirtualProcess("damiao", ALL) as virtual:
        theirs = damiao_motor.DaMiaoController.__new__(damiao_motor.DaMiaoController)
        bus = UnixBus(virtual.port)
        theirs.__dict__.update(
            bus=bus, motors={}, _motors_by_feedback={}, _polling_thread=None, _polling_active=True, _polling_lock=None
        )
        theirs._start_polling = lambda: None  # polled by hand: no thread of theirs in the test
        motors = [theirs.add_motor(joint.id, joint.reply_id, type_of(joint)) for joint in ALL]
        yield virtual, theirs, motors
        bus.shutdown()


def polled(theirs, motor, wanted, deadline_s=5.0):
    """Their own poll until `motor.state` is as wanted."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        theirs.poll_feedback()
        if motor.state and wanted(motor.state):
            return motor.state
        time.sleep(0.001)
    raise AssertionError(f"their library never saw it: {motor.state}")


# --- our bytes are theirs ---


def test_mit_commands_are_byte_for_byte_theirs():
    random = np.random.default_rng(7)
    bus, differ = Recorder(), 0
    for joint in JOINTS:
        motor, scale = motor_on(bus, joint), MODELS[joint.model]
        for _ in range(300):
            q, dq, tau = (random.uniform(-1, 1, 3) * scale).tolist()
            kp, kd = random.uniform(0, 500), random.uniform(0, 5)
            theirs = motor.encode_cmd_msg(q, dq, tau, kp, kd)
            differ += theirs != codec.mit(joint.id, scale, q, dq, kp, kd, tau)
    assert differ == 0


def test_enable_disable_zero_clear_and_refresh_are_theirs():
    bus = Recorder()
    motor = motor_on(bus, JOINTS[2])
    motor.enable()
    motor.disable()
    motor.set_zero_position()
    motor.clear_error()
    motor.request_motor_feedback()
    kinds = (codec.ENABLE, codec.DISABLE, codec.SET_ZERO, codec.CLEAR)
    same([*(codec.special(3, kind, False) for kind in kinds), codec.refresh(3, False)], bus.take())


def test_register_requests_are_theirs():
    bus = Recorder()
    motor = motor_on(bus, JOINTS[2])
    motor.request_register_reading(registers.PMAX)
    motor.set_can_timeout(100)
    motor.set_position_mapping_range(12.5)
    motor.set_control_mode(1)
    motor.store_parameters()
    ours = [
        codec.read(3, registers.PMAX, False),
        codec.write(3, registers.TIMEOUT, codec.timeout_units(0.1), False),
        codec.write(3, registers.PMAX, 12.5, False),
        codec.write(3, registers.CTRL_MODE, registers.MIT, False),
        codec.save(3, False),
    ]
    same(ours, bus.take())


def test_force_position_commands_are_theirs():
    bus = Recorder()
    motor_on(bus, GRIPPER).send_cmd_force_pos(-0.5, 5.0, 0.2)
    same([codec.frame(0x308, codec.force_position(8, MODELS["dm4310"], -0.5, 5.0, 2.0), False)], bus.take())


def test_the_drivers_own_cycle_is_theirs():
    """One set-point through our whole driver, captured on the bus, against theirs for the same values."""
    with VirtualProcess("damiao", JOINTS) as virtual:
        arm = make(BusConfig("main", virtual.port, 1_000_000, JOINTS), 5.0, {})
        arm.connect()
        arm.arm()
        listener = UnixBus(virtual.port)
        listener.recv(0.1)
        exchange(arm, arm.held, time.monotonic_ns() + 1_000_000_000)
        seen = []
        while (message := listener.recv(0.3)) is not None:
            seen.append(message)
        arm.stop(StopKind.FREE)
        arm.close()
        listener.shutdown()
    commands = [(m.arbitration_id, bytes(m.data)) for m in seen if m.arbitration_id < 0x10]
    bus = Recorder()
    for joint, at in zip(JOINTS, arm.held.tolist(), strict=True):
        motor_on(bus, joint).send_cmd_mit(at, 0.0, joint.kp, joint.kd, 0.0)
    assert commands == bus.take()


# --- they drive our motors ---


def test_their_library_enables_moves_and_disables_our_motor(controller):
    virtual, theirs, motors = controller
    motor = motors[0]
    motor.request_motor_feedback()
    assert polled(theirs, motor, lambda state: True)["status"] == "DISABLED"
    motor.enable()
    assert polled(theirs, motor, lambda state: state["status"] == "ENABLED")
    for _ in range(150):
        motor.send_cmd_mit(0.5, 0.0, 240.0, 5.0, 0.2)
        time.sleep(0.002)
        theirs.poll_feedback()
    assert motor.state["pos"] == pytest.approx(0.5, abs=0.02)
    assert virtual.do("report")["position_rad"][0] == pytest.approx(motor.state["pos"], abs=0.01)
    motor.disable()
    assert polled(theirs, motor, lambda state: state["status"] == "DISABLED")
    assert not virtual.do("report")["torque_on"][0]


def test_their_library_reads_and_writes_our_registers(controller):
    _, theirs, motors = controller
    motor = motors[2]
    for number in (registers.PMAX, registers.VMAX, registers.TMAX, registers.ESC_ID, registers.MST_ID):
        motor.request_register_reading(number)
    motor.set_can_timeout(50)
    motor.request_register_reading(registers.TIMEOUT)
    until = time.monotonic() + 5.0
    while len(motor.registers) < 6 and time.monotonic() < until:
        theirs.poll_feedback()
        time.sleep(0.001)
    assert motor.registers == {21: 12.5, 22: 10.0, 23: 28.0, 8: 3, 7: 0x13, 9: 1000}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("overload", "OVERLOAD"),
        ("over-current", "OVER_CURRENT"),
        ("overheat", "ROTOR_OVER_TEMP"),
        ("overheat-mos", "MOS_OVER_TEMP"),
        ("voltage", "UNDER_VOLTAGE"),
        ("over-voltage", "OVER_VOLTAGE"),
    ],
)
def test_their_library_reads_our_faults_and_clears_them(controller, fault, status):
    virtual, theirs, motors = controller
    virtual.do("fault", joint=1, name=fault)
    motors[1].request_motor_feedback()
    polled(theirs, motors[1], lambda state: state["status"] == status)
    motors[1].clear_error()
    polled(theirs, motors[1], lambda state: state["status"] == "DISABLED")


def test_their_library_sees_our_watchdog_trip(controller):
    _, theirs, motors = controller
    motors[0].set_can_timeout(20)
    motors[0].enable()
    polled(theirs, motors[0], lambda state: state["status"] == "ENABLED")
    time.sleep(0.05)
    motors[0].request_motor_feedback()
    polled(theirs, motors[0], lambda state: state["status"] == "LOST_COMM")
