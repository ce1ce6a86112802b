"""The zero of virtual motors in processes of their own; tests/edgevla/cli/test_calibrating.py has the person."""

import time
from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.config import BusConfig
from firmware_bridge.damiao import calibrate, codec
from firmware_bridge.errors import ArmRefused
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.arms import JOINTS

AT_RAD = [0.1, -0.2, 0.3, 0.0, 0.1, -0.1, 0.2]


@pytest.fixture
def buses():
    """Two of them: (devices, arms, connected and without torque)."""
    with (
        VirtualProcess("damiao", JOINTS, gravity_nm=0.0) as left,
        VirtualProcess("damiao", JOINTS, gravity_nm=0.0) as right,
    ):
        arms = [
            calibrate.make(BusConfig(name, device.port, 1_000_000, JOINTS, 5_000_000))
            for name, device in (("left", left), ("right", right))
        ]
        for arm, device in zip(arms, (left, right), strict=True):
            device.do("place", position_rad=AT_RAD)
            arm.connect()
            arm.disarm()
        time.sleep(0.1)
        yield (left, right), arms
        for arm in arms:
            arm.close()


def test_the_frame_is_the_one_of_openarm_can():
    frame = codec.special(3, codec.SET_ZERO, False)
    assert (frame.id, frame.data) == (3, bytes.fromhex("ff ff ff ff ff ff ff fe"))  # zero_position_commands.cpp


def test_every_motor_reads_zero_and_says_where_it_stood(buses):
    _, (left, _) = buses
    assert list(left.set_zero().values()) == pytest.approx(AT_RAD, abs=1e-3)
    assert list(left.set_zero().values()) == pytest.approx([0.0] * 7, abs=1e-3)


def test_an_arm_that_moves_gets_no_zero_on_any_bus(buses, monkeypatch):
    _, arms = buses
    read = arms[1]._read_whole
    monkeypatch.setattr(arms[1], "_read_whole", lambda: replace(read(), velocity=np.full(7, 0.2, np.float32)))
    with pytest.raises(ArmRefused, match="no zero was changed"):
        calibrate.zero_all(arms)
    assert list(arms[0]._angles().values()) == pytest.approx(AT_RAD, abs=1e-3)


def test_a_motor_that_falls_silent_in_between_is_told_with_those_that_have_the_new_zero(buses, monkeypatch):
    (_, device), arms = buses
    angles = arms[1]._angles

    def cut():
        found = angles()
        device.do("trouble", silent=[2])
        return found

    monkeypatch.setattr(arms[1], "_angles", cut)
    with pytest.raises(ArmRefused) as told:
        calibrate.zero_all(arms)
    assert f"none of {JOINTS[2].name} (id {JOINTS[2].id})" in str(told.value)
    assert f"set here:  {JOINTS[0].name}, {JOINTS[1].name}" in str(told.value)


def test_a_motor_that_keeps_its_former_zero_is_told(buses, monkeypatch):
    _, (left, _) = buses
    special, deaf = codec.special, JOINTS[0].id
    monkeypatch.setattr(
        codec, "special", lambda motor, what, fd: special(motor, codec.DISABLE if motor == deaf else what, fd)
    )
    with pytest.raises(ArmRefused, match="motors after setting the zero") as told:
        left.set_zero()
    assert f"{JOINTS[0].name} 0.100 rad" in str(told.value)
