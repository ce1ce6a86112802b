"""Feetech's own Python library, which nobody here wrote: its bytes are ours, and it talks to our virtual servos."""

import math
import select

import numpy as np
import pytest
import scservo_sdk as sdk

from firmware_bridge.arm import Mode
from firmware_bridge.config import BusConfig
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.driver import make
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS

LITTLE, BIG = 0, 1  # its names of the two series: "protocol_end"


@pytest.fixture
def wire():
    """What the library writes, as bytes: `wire(call)`; it is given no answer."""
    with PtyPair() as pair:
        port = sdk.PortHandler(pair.port)
        assert port.openPort()

        def said(call):
            port.is_using = False
            call(port)
            port.is_using = False
            heard = b""
            while select.select([pair.master_fd], [], [], 0.05)[0]:  # the kernel hands bytes over when it gets to it
                heard += pair.read()
            return heard

        yield said
        port.closePort()


def test_bytes_of_single_instructions_equal_those_of_the_library(wire):
    handler = sdk.PacketHandler(LITTLE)
    goal = [0, 8, 0, 0, 0xE8, 3]
    assert wire(lambda port: handler.readTx(port, 1, 56, 8)) == codec.read(1, 56, 8)
    assert wire(lambda port: handler.writeTxOnly(port, 3, 42, 6, goal)) == codec.write(3, 42, bytes(goal))
    assert wire(lambda port: handler.regWriteTxOnly(port, 3, 42, 6, goal)) == codec.reg_write(3, 42, bytes(goal))
    assert wire(lambda port: handler.action(port, 0xFE)) == codec.action()
    assert wire(lambda port: handler.ping(port, 9)) == codec.ping(9)


def test_one_cycle_of_the_driver_equals_the_librarys_sync_write_and_sync_read(wire):
    values = [-1.5, -0.5, 0.0, 0.5, 1.0, 1.5]
    arm = make(BusConfig("main", "nowhere", 1_000_000, JOINTS), None, {})
    arm._want_slow = False
    _, ours = arm._frames([joint.to_device(value) for joint, value in zip(JOINTS, values, strict=True)])
    handler = sdk.PacketHandler(LITTLE)

    def cycle(port):
        write = sdk.GroupSyncWrite(port, handler, 42, 2)
        read = sdk.GroupSyncRead(port, handler, 56, 4)
        for joint, value in zip(JOINTS, values, strict=True):
            count = round(2048 + value * 4096 / (2 * math.pi))
            write.addParam(joint.id, [sdk.SCS_LOBYTE(count), sdk.SCS_HIBYTE(count)])
            read.addParam(joint.id)
        write.txPacket()
        port.is_using = False
        read.txPacket()

    assert ours == wire(cycle)


def _library(port_path):
    port = sdk.PortHandler(port_path)
    assert port.openPort()
    wait = port.setPacketTimeout
    port.setPacketTimeout = lambda count: wait(count + 40_000)  # + 400 ms: its 34 ms are short on a busy host
    return port


def test_the_library_pings_reads_and_writes_our_virtual_servos():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as device:
        port, handler = _library(device.port), sdk.PacketHandler(LITTLE)
        for joint in JOINTS:
            assert handler.ping(port, joint.id) == (777, sdk.COMM_SUCCESS, 0)
        assert handler.ping(port, 7)[1] == sdk.COMM_RX_TIMEOUT
        assert handler.read2ByteTxRx(port, 2, 56) == (2048, sdk.COMM_SUCCESS, 0)
        assert handler.write2ByteTxRx(port, 2, 42, 2100) == (sdk.COMM_SUCCESS, 0)
        assert handler.read2ByteTxRx(port, 2, 42)[0] == 2100
        assert handler.regWriteTxRx(port, 3, 42, 2, [0, 4]) == (sdk.COMM_SUCCESS, 0)
        assert handler.read2ByteTxRx(port, 3, 42)[0] == 2048
        handler.action(port, 0xFE)
        assert handler.read2ByteTxRx(port, 3, 42)[0] == 1024
        device.do("fault", joint=3, name="overload")
        assert handler.read2ByteTxRx(port, 4, 56) == (2048, sdk.COMM_SUCCESS, sdk.ERRBIT_OVERLOAD)
        port.closePort()


def test_the_library_sync_writes_and_sync_reads_our_virtual_servos():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as device:
        port, handler = _library(device.port), sdk.PacketHandler(LITTLE)
        write = sdk.GroupSyncWrite(port, handler, 42, 2)
        read = sdk.GroupSyncRead(port, handler, 40, 8)
        for joint in JOINTS:
            write.addParam(joint.id, [joint.id, 9])
            read.addParam(joint.id)
        assert write.txPacket() == sdk.COMM_SUCCESS
        assert read.txRxPacket() == sdk.COMM_SUCCESS
        assert [read.getData(joint.id, 42, 2) for joint in JOINTS] == [0x900 + joint.id for joint in JOINTS]
        port.closePort()


def test_the_library_reads_scs_servos_high_byte_first_and_gets_no_sync_read():
    with VirtualProcess("feetech", SCS_JOINTS, gravity_nm=0.0) as device:
        port, handler = _library(device.port), sdk.PacketHandler(BIG)
        assert handler.ping(port, 1) == (1284, sdk.COMM_SUCCESS, 0)
        assert handler.read2ByteTxRx(port, 6, 56) == (512, sdk.COMM_SUCCESS, 0)
        read = sdk.GroupSyncRead(port, handler, 56, 4)
        read.addParam(1)
        assert read.txRxPacket() == sdk.COMM_RX_TIMEOUT
        port.closePort()
        sdk.PacketHandler(LITTLE)  # the library keeps its byte order in a global


def test_what_the_driver_commands_the_library_finds_in_the_servos():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as device:
        arm = make(BusConfig("main", device.port, 1_000_000, JOINTS), None, {})
        arm.connect()
        arm.arm()
        assert arm.send(np.full(6, 0.25, np.float32), 1 << 62)
        assert arm.stop()
        assert arm.mode is Mode.STOPPED
        arm.close()
        port, handler = _library(device.port), sdk.PacketHandler(LITTLE)
        read = sdk.GroupSyncRead(port, handler, 40, 4)
        assert all(read.addParam(joint.id) for joint in JOINTS)
        assert any(read.txRxPacket() == sdk.COMM_SUCCESS for _ in range(5))  # it waits 34 ms: short on a busy host
        assert [read.getData(joint.id, 42, 2) for joint in JOINTS] == [2211] * 6  # 2048 + 162.97
        assert [read.getData(joint.id, 40, 1) for joint in JOINTS] == [1] * 6
        port.closePort()
