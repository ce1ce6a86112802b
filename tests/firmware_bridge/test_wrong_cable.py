"""A port with another arm behind it: what a person who mixed up two cables is told."""

from __future__ import annotations

import pytest

import profiles
from firmware_bridge.errors import NoAnswer, OutsideRange
from firmware_bridge.protocols import open_arm
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import arm_config, joints_of


@pytest.mark.parametrize(("asked", "there"), [("koch", "so101"), ("so101", "koch"), ("metaworld-sawyer", "so101")])
def test_servos_of_another_protocol_are_found_by_a_scan(asked: str, there: str) -> None:
    mine, other = profiles.load_arm(asked), profiles.load_arm(there)
    with VirtualProcess(other.protocol, joints_of(other, "main"), options=dict(other.options)) as device:
        arm = open_arm(arm_config(mine, {"main": device.port}))
        with pytest.raises(NoAnswer) as caught:
            arm.connect()
    assert str(caught.value).endswith(f"; or another protocol: `edgevla bus scan --port {device.port}`")


def test_the_two_sides_of_an_arm_swapped_are_told_of_their_ports() -> None:
    openarm = profiles.load_arm("openarm")
    with (
        VirtualProcess("damiao", joints_of(openarm, "left")) as left,
        VirtualProcess("damiao", joints_of(openarm, "right")) as right,
    ):
        arm = open_arm(arm_config(openarm, {"left": right.port, "right": left.port}))
        arm.connect()
        try:
            with pytest.raises(OutsideRange, match="; or swap the ports of left and right, if each cable is on"):
                arm.arm()
        finally:
            arm.close()
