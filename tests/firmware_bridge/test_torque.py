"""What the actuators of each protocol say of their torque, against what their virtual selves have."""

from __future__ import annotations

import contextlib

import pytest

import profiles
from edgevla.bus import watch
from edgevla.bus.virtual_arm import started
from firmware_bridge.errors import BridgeError
from firmware_bridge.torque import torque_on
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
