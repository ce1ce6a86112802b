"""What the actuators of each protocol say of their torque, against what their virtual selves have."""

from __future__ import annotations

import contextlib
import re

import pytest

import profiles
from edgevla.bus import watch
from edgevla.bus.virtual_arm import started
from firmware_bridge.arm import Mode
from firmware_bridge.errors import BridgeError, PortError
from firmware_bridge.protocols import module
from firmware_bridge.torque import look, torque_on
from firmware_bridge.transport.log import What
from tests.firmware_bridge.contract import Bench, installed


def _armed_and_told(session):
    """What is told one cycle after arming; again where a busy computer let the watchdog win in between."""
    for _ in range(5):
        session.armed()
        with contextlib.suppress(BridgeError):
            session.cycle(session.arm.held)
            if all(said := torque_on(session.arm)):
                break
    return said


@pytest.mark.parametrize("protocol", [name for name in installed() if name != "edgelink"])
def test_torque_is_told_as_the_actuators_report_it(protocol, tmp_path):
    bench = Bench(protocol, tmp_path)
    try:
        session = bench.driver()
        session.arm.connect()
        list(watch.watch(session.arm, 0.05, 2))
        assert torque_on(session.arm) == (False,) * len(bench.joints)
        assert bench.torque_on() == [False] * len(bench.joints)
        assert _armed_and_told(session) == (True,) * len(bench.joints)
        session.end()
    finally:
        bench.close()


def test_a_controller_that_drives_its_own_motors_reports_none(tmp_path):
    profile = profiles.load_arm("edgelink-generic")
    with started(profile, "main", False, 0.0) as process:
        arm = watch.opened(profile, process.port)
        arm.connect()
        assert torque_on(arm) == ()
        arm.close()


def test_an_arm_on_two_buses_names_its_joints_in_channel_order():
    profile = profiles.load_arm("openarm")
    with contextlib.ExitStack() as stack:
        devices = {bus: stack.enter_context(started(profile, bus, False, 0.0)) for bus in profile.buses}
        arm = watch.opened(profile, ",".join(f"{bus}={device.port}" for bus, device in devices.items()))
        arm.connect()
        arm.parts[1].arm()
        list(watch.watch(arm, 0.05, 1))
        right = [channel.motor.bus == profile.buses[1] for channel in profile.channels]
        assert list(torque_on(arm)) == right
        arm.close()


# Of each protocol, the sentences of its codec for a question: nothing else may be written by a look.
QUESTIONS = {
    "feetech": r"(to all: sync )?read .*",
    "dynamixel": r"(sync )?read .*",
    "damiao": r"motor \d+: say your state",
    "odrive": r"node \d+: \w+ asked for",
    "cia402": r"node \d+: sdo request read \w+:\w+",
    "moteus": r"moteus 0 -> \d+, answer wanted(: |; )(asks \w+(; )?)+",
}


@pytest.mark.parametrize("protocol", [name for name in installed() if name != "edgelink"])
def test_a_look_before_anybody_connected_asks_and_sets_nothing(protocol, tmp_path):
    bench = Bench(protocol, tmp_path)
    try:
        session = bench.driver()
        assert look(session.arm) == (False,) * len(bench.joints)
        codec = module(protocol, "codec")
        said = [codec.describe(record.unit) for record in session.log().records if record.what is What.WROTE]
        assert said
        assert [words for words in said if not re.fullmatch(QUESTIONS[protocol], words)] == []
    finally:
        bench.close()


@pytest.mark.parametrize("protocol", [name for name in installed() if name != "edgelink"])
def test_a_look_sees_an_arm_that_somebody_left_holding(protocol, tmp_path):
    bench = Bench(protocol, tmp_path)
    try:
        for _ in range(5):  # a watchdog may let go in between, on a busy computer
            bench.fresh()
            left = bench.driver().armed()
            left.arm.stop()
            left.arm.transport.close()  # as when its host dies: nobody switches anything off
            before = bench.torque_on()
            seen = look(bench.driver().arm)
            if all(before) and all(bench.torque_on()):
                break
        assert all(before)
        assert seen == (True,) * len(bench.joints)
    finally:
        bench.close()


def test_a_look_at_a_controller_tells_its_mode_and_leaves_it(tmp_path):
    profile = profiles.load_arm("edgelink-generic")
    with started(profile, "main", False, 0.0) as process:
        arm = watch.opened(profile, process.port)
        assert look(arm) is Mode.DISARMED
        arm.connect()
        arm.arm()
        arm.stop()
        arm.close()
        assert [look(arm), look(arm)] == [Mode.STOPPED, Mode.STOPPED]


def test_a_look_at_an_arm_on_two_buses_is_in_channel_order():
    profile = profiles.load_arm("openarm")
    with contextlib.ExitStack() as stack:
        devices = {bus: stack.enter_context(started(profile, bus, False, 0.0)) for bus in profile.buses}
        arm = watch.opened(profile, ",".join(f"{bus}={device.port}" for bus, device in devices.items()))
        arm.connect()
        arm.parts[1].arm()
        arm.parts[1].stop()  # which takes its watchdog away and holds
        for part in arm.parts:
            part.transport.close()
        right = [channel.motor.bus == profile.buses[1] for channel in profile.channels]
        assert list(look(arm)) == right


def test_a_look_at_a_port_that_is_none_raises():
    with pytest.raises(PortError, match="/dev/no-such-port"):
        look(watch.opened(profiles.load_arm("so101"), "/dev/no-such-port"))
