"""Connecting, options and scanning: the driver against virtual drives in a process of their own."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from firmware_bridge.cia402 import codec, config
from firmware_bridge.cia402.driver import make, scan
from firmware_bridge.cia402.objects import EDS
from firmware_bridge.config import BusConfig
from firmware_bridge.errors import BridgeError, JointSilent, WrongJoint
from firmware_bridge.transport.socket_can import SocketCan
from tests.firmware_bridge.cia402.arms import JOINTS
from tests.firmware_bridge.cia402.driven import driver, states


def test_connecting_identifies_every_drive_and_reads_its_watchdog_back(device, arm):
    info = arm.connect()
    assert {row.model for row in info.joints} == {"edgevla virtual drive 00000000:00000402"}
    assert info.watchdog_ms == 300
    assert info.joints[0].note == ""
    assert states(device) == {"SWITCH_ON_DISABLED"}  # no torque


def test_connecting_leaves_no_thread_behind(arm):
    before = threading.active_count()
    arm.connect()
    assert threading.active_count() == before


def test_wrong_node_id_is_a_silent_joint(device):
    joints = (*JOINTS[:5], dataclasses.replace(JOINTS[5], id=9))
    with pytest.raises(JointSilent, match="node 9"):
        driver(device, joints).connect()


def test_other_drive_than_the_profile_says_is_refused(device):
    joints = (dataclasses.replace(JOINTS[0], model="000000FB:61500000"), *JOINTS[1:])
    with pytest.raises(WrongJoint, match="00000000:00000402"):
        driver(device, joints).connect()


def test_named_drive_is_accepted(device):
    joints = tuple(dataclasses.replace(joint, model="00000000:00000402") for joint in JOINTS)
    arm = driver(device, joints)
    arm.connect()
    arm.close()


def test_limits_of_the_profile_are_written_into_the_drives(device):
    joints = tuple(dataclasses.replace(joint, max_effort=2.0) for joint in JOINTS)
    arm = driver(device, joints, following_error_rad=0.5)
    arm.connect()  # which reads each back
    drive = arm._drives[0]
    assert drive.read(0x6072) == 1000  # 2 N m at ratio 0.5 is 1 N m of 1 N m rated
    assert drive.read(0x6065) == round(0.5 * 65536 / (2 * np.pi))
    assert drive.read(0x607D, 1) == codec.counts(JOINTS[0].device_range_rad[0], arm._counts_per_rad[0])
    arm.close()


def test_absent_object_is_explained(device, arm):
    arm.connect()
    with pytest.raises(WrongJoint, match=r"5FFF:00[\s\S]*option `eds`"):
        arm._drives[0].read(0x5FFF)


def test_what_canopen_hears_is_dated_by_the_monotonic_clock(arm):
    begun_s = time.monotonic()
    arm.connect()
    nmt = arm._drives[0].node.nmt  # dates the drive's heartbeats, one each 0.1 s
    while nmt.timestamp is None and time.monotonic() < begun_s + 5.0:
        arm._drives[0].read(0x1000)
    assert nmt.timestamp is not None
    assert begun_s <= nmt.timestamp <= time.monotonic()


def test_other_masters_sync_is_refused(device):
    other = SocketCan(device.port)
    other.open()
    end = threading.Event()

    def chatter():
        while not end.wait(0.002):
            other.write([codec.SYNC])

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with pytest.raises(WrongJoint, match="nobody here asked for"):
            driver(device).connect()
    finally:
        end.set()
        thread.join()
        other.close()


@pytest.mark.parametrize(
    "options",
    [{"baud": 1}, {"motion": 1}, {"host_node": 0}, {"cycle_s": 0.5}, {"fault_reaction": 9}, {"counts_per_turn": 0.0}],
)
def test_unknown_option_kind_or_range_is_an_error(options):
    with pytest.raises(BridgeError, match="option"):
        make(BusConfig("main", "/nowhere", 1_000_000, JOINTS), 0.1, options)


def test_file_that_is_no_eds_is_refused(device, tmp_path):
    (tmp_path / "drive.eds").write_text("nothing")
    with pytest.raises(BridgeError, match="EDS"):
        driver(device, eds=str(tmp_path / "drive.eds")).connect()
    arm = driver(device, eds=str(EDS))
    arm.connect()
    arm.close()


@pytest.mark.parametrize(
    ("cycle_s", "pair"),
    [(0.01, (100, -4)), (0.001, (100, -5)), (0.002, (200, -5)), (0.033, (33, -3)), (0.0125, (125, -4))],
)
def test_interpolation_period_is_the_finest_that_fits(cycle_s, pair):
    assert config.period(cycle_s) == pair


def test_period_that_no_pair_expresses_is_refused():
    with pytest.raises(BridgeError, match="cycle_s"):
        config.period(1e-9)


def test_scan_finds_every_drive(device):
    transport = SocketCan(device.port)
    transport.open()
    found = scan(transport, 0.03)
    transport.close()
    assert [(row.id, row.model, row.note) for row in found] == [(i, "00000000:00000402", "") for i in range(1, 7)]
