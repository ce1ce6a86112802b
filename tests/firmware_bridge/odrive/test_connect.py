"""Connecting to virtual ODrives in a process of their own: who they are, what is set up, what is refused."""

import dataclasses
import json

import pytest

from firmware_bridge.config import BusConfig
from firmware_bridge.errors import ArmRefused, BridgeError, JointSilent, WrongJoint
from firmware_bridge.odrive.driver import ODriveArm, make, scan
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.odrive.arms import ENDPOINTS, JOINTS, driver, settled


def test_connecting_identifies_every_axis_and_reads_its_watchdog_back(device, arm):
    info = arm.connect()
    assert [row.model for row in info.joints] == ["s1"] * 6
    assert {row.firmware for row in info.joints} == {"0.6.11"}
    assert info.watchdog_ms == 300
    assert info.joints[0].voltage_v == 24.0
    assert device.do("report")["device"]["states"] == [1] * 6  # torque stays off


def test_cyclic_estimates_are_refused_without_the_endpoint_file(device):
    arm = ODriveArm(SocketCan(device.port), JOINTS, None, {})
    with pytest.raises(WrongJoint, match="encoder_msg_rate_ms"):
        arm.connect()


@pytest.fixture
def quiet():
    with VirtualProcess("odrive", JOINTS, options={"encoder_msg_rate_ms": 0}) as process:
        yield process


def test_without_endpoint_file_the_watchdog_needs_someones_word(quiet):
    arm = ODriveArm(SocketCan(quiet.port), JOINTS, 0.1)
    info = arm.connect()
    assert info.watchdog_ms == 0  # nothing was read back
    assert "UNKNOWN, not read back" in info.joints[0].note
    with pytest.raises(ArmRefused, match="watchdog"):
        arm.arm()
    arm.close()
    arm = ODriveArm(SocketCan(quiet.port), JOINTS, 0.1, {"watchdog_configured": True})
    assert "on the profile's word, not read back" in arm.connect().joints[0].note
    arm.arm()
    arm.close()


def test_endpoint_file_of_another_firmware_writes_nothing(device, tmp_path):
    other = json.loads(ENDPOINTS.read_text()) | {"fw_version": "0.6.10"}
    (tmp_path / "flat.json").write_text(json.dumps(other))
    before = settled(device)
    with pytest.raises(WrongJoint, match="nothing was written"):
        driver(device, endpoints=str(tmp_path / "flat.json")).connect()
    assert device.do("report")["device"]["commands"] == before


@pytest.mark.parametrize("text", ["", "[]", '{"endpoints": {}}', '{"endpoints": {"a": {"type": "float"}}}'])
def test_file_that_is_no_endpoint_file_is_refused(tmp_path, text):
    (tmp_path / "flat.json").write_text(text)
    with pytest.raises(BridgeError, match=r"flat_endpoints\.json"):
        ODriveArm(SocketCan("/nowhere"), JOINTS, None, {"endpoints": str(tmp_path / "flat.json")})


def test_endpoint_file_without_a_parameter_is_named(device, tmp_path):
    (tmp_path / "flat.json").write_text(json.dumps(json.loads(ENDPOINTS.read_text()) | {"endpoints": {}}))
    with pytest.raises(BridgeError, match="encoder_msg_rate_ms"):
        driver(device, endpoints=str(tmp_path / "flat.json")).connect()


def test_other_board_than_the_profile_says_is_refused(device):
    joints = (dataclasses.replace(JOINTS[0], model="pro"), *JOINTS[1:])
    with pytest.raises(WrongJoint, match="model pro"):
        driver(device, joints).connect()


def test_wrong_node_id_is_a_silent_joint(device):
    joints = (*JOINTS[:5], dataclasses.replace(JOINTS[5], id=9))
    with pytest.raises(JointSilent, match="node 9"):
        driver(device, joints).connect()


def test_torque_limit_of_the_profile_is_written_into_the_board(device):
    joints = tuple(dataclasses.replace(joint, max_effort=2.0) for joint in JOINTS)
    arm = driver(device, joints)
    arm.connect()  # which reads it back
    arm.close()


@pytest.mark.parametrize("options", [{"baud": 1}, {"effort": 1}, {"heartbeat_s": "fast"}])
def test_unknown_option_or_kind_is_an_error(options):
    with pytest.raises(BridgeError, match="an option of odrive"):
        make(BusConfig("main", "/nowhere", 1_000_000, JOINTS), 0.1, options)


def test_scan_finds_every_board_and_its_version(device):
    transport = SocketCan(device.port)
    transport.open()
    found = scan(transport, 0.1)
    transport.close()
    assert [(row.id, row.model, row.firmware) for row in found] == [(i, "s1", "0.6.11") for i in range(1, 7)]
    assert all("serial" in row.note for row in found)
