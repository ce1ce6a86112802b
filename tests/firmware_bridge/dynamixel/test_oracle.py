"""ROBOTIS' own library, dynamixel-sdk 4.1, talks to the virtual servos over their pty; and our bytes are its bytes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from dynamixel_sdk import (
    COMM_SUCCESS,
    GroupBulkRead,
    GroupSyncRead,
    GroupSyncWrite,
    PacketHandler,
    PortHandler,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from firmware_bridge.config import BusConfig
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.codec import Block, Decoder, GoalWriter
from firmware_bridge.dynamixel.driver import make
from firmware_bridge.dynamixel.models import RAD_PER_COUNT
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS, OPTIONS, WATCHDOG_S

IDS = [1, 2, 3, 4, 5, 6]
STUFFED = b"\xff\xff\xfd"


class Port(PortHandler):
    """The library's port, which also keeps what it wrote, and has a second more patience: this machine may be busy."""

    def __init__(self, path):
        super().__init__(path)
        self.written = []

    def writePort(self, packet):
        self.written.append(bytes(packet))
        return super().writePort(packet)

    def setPacketTimeout(self, packet_length):
        super().setPacketTimeout(packet_length)
        self.packet_timeout += 1000.0  # ms


class Paper:
    """Takes what the library would write."""

    is_using = False
    tx_time_per_byte = 0.0

    def clearPort(self):
        pass

    def setPacketTimeout(self, length):
        pass

    def writePort(self, packet):
        self.packet = bytes(packet)
        return len(packet)


@pytest.fixture(scope="module")
def sdk():
    """(port, packet handler) on six servos of one family."""
    with VirtualProcess("dynamixel", ALIKE, gravity_nm=0.0) as process:
        port = Port(process.port)
        assert port.openPort()
        yield port, PacketHandler(2.0)
        port.closePort()


def test_it_pings_and_scans(sdk):
    port, packets = sdk
    assert packets.ping(port, 3) == (1020, COMM_SUCCESS, 0)
    assert port.written[-1] == codec.ping(3)
    found, result = packets.broadcastPing(port)
    assert result == COMM_SUCCESS
    assert found == {i: [1020, 46] for i in IDS}


def test_it_reads_and_writes_registers(sdk):
    port, packets = sdk
    assert packets.read1ByteTxRx(port, 1, 9) == (250, COMM_SUCCESS, 0)
    assert port.written[-1] == codec.read(1, 9, 1)
    assert packets.write1ByteTxRx(port, 1, 9, 5) == (COMM_SUCCESS, 0)
    assert port.written[-1] == codec.write(1, models.RETURN_DELAY, 5)
    assert packets.read1ByteTxRx(port, 1, 9)[0] == 5
    assert packets.write4ByteTxRx(port, 2, 116, 2000) == (COMM_SUCCESS, 0)
    assert port.written[-1] == codec.write(2, models.GOAL_POSITION, 2000)
    assert packets.read2ByteTxRx(port, 2, 144)[0] == 120


def test_it_sees_the_errors_that_the_manual_promises(sdk):
    port, packets = sdk
    assert packets.write1ByteTxRx(port, 1, 64, 2) == (COMM_SUCCESS, 4)  # data range
    assert packets.write1ByteTxRx(port, 1, 132, 0) == (COMM_SUCCESS, 7)  # access: read-only
    assert packets.write2ByteTxRx(port, 1, 116, 0) == (COMM_SUCCESS, 5)  # data length
    assert packets.write4ByteTxRx(port, 1, 116, 5000) == (COMM_SUCCESS, 6)  # data limit
    packets.write1ByteTxRx(port, 1, 64, 1)
    assert packets.write1ByteTxRx(port, 1, 9, 0) == (COMM_SUCCESS, 7)  # EEPROM under torque
    packets.write1ByteTxRx(port, 1, 64, 0)


def test_its_bus_watchdog_runs_out_and_is_cleared(sdk):
    port, packets = sdk
    packets.write1ByteTxRx(port, 4, 64, 1)
    packets.write1ByteTxRx(port, 4, 98, 2)
    time.sleep(0.08)
    assert packets.read1ByteTxRx(port, 4, 98)[0] == 0xFF
    assert packets.write4ByteTxRx(port, 4, 116, 2000) == (COMM_SUCCESS, 4)
    assert packets.write1ByteTxRx(port, 4, 98, 2) == (COMM_SUCCESS, 4)
    assert packets.write1ByteTxRx(port, 4, 98, 0) == (COMM_SUCCESS, 0)
    assert packets.write4ByteTxRx(port, 4, 116, 2000) == (COMM_SUCCESS, 0)
    packets.write1ByteTxRx(port, 4, 64, 0)


def test_its_sync_write_moves_the_servos_and_its_sync_reads_see_it(sdk):
    port, packets = sdk
    for servo in IDS:
        packets.write1ByteTxRx(port, servo, 64, 1)
    writer = GroupSyncWrite(port, packets, 116, 4)
    for servo in IDS:
        assert writer.addParam(servo, (2048 + 20 * servo).to_bytes(4, "little"))
    assert writer.txPacket() == COMM_SUCCESS
    assert port.written[-1] == codec.sync_write(models.GOAL_POSITION, [(i, 2048 + 20 * i) for i in IDS])
    time.sleep(0.5)
    for fast in (False, True):
        reader = GroupSyncRead(port, packets, 126, 10)
        for servo in IDS:
            assert reader.addParam(servo)
        assert (reader.fastSyncRead() if fast else reader.txRxPacket()) == COMM_SUCCESS
        assert port.written[-1] == codec.read_all([Block(i, 126, 10) for i in IDS], fast)
        positions = [reader.getData(i, 132, 4) for i in IDS]
        assert positions == pytest.approx([2048 + 20 * i for i in IDS], abs=3)
    for servo in IDS:
        packets.write1ByteTxRx(port, servo, 64, 0)


def test_its_bulk_reads_see_registers_that_lie_apart(sdk):
    port, packets = sdk
    blocks = [Block(1, 144, 2), Block(2, 146, 1), Block(3, 132, 4)]
    for fast in (False, True):
        reader = GroupBulkRead(port, packets)
        for block in blocks:
            assert reader.addParam(*block)
        asked = reader.fastBulkReadTxPacket() if fast else reader.txPacket()
        assert asked == COMM_SUCCESS
        assert port.written[-1] == codec.read_all(blocks, fast)
        got = reader.fastBulkReadRxPacket() if fast else reader.rxPacket()
        assert got == COMM_SUCCESS
        assert reader.getData(1, 144, 2) == 120
        assert reader.getData(2, 146, 1) == 30


def test_it_reboots_a_servo(sdk):
    port, packets = sdk
    packets.write1ByteTxRx(port, 5, 65, 1)
    assert packets.reboot(port, 5) == (COMM_SUCCESS, 0)
    assert port.written[-1] == codec.reboot(5)
    assert packets.read1ByteTxRx(port, 5, 65)[0] == 0


def test_the_library_reads_what_our_driver_commanded():
    """Our driver arms and moves, lets go of the port, and the library finds goal, watchdog and mode in the servos."""
    with VirtualProcess("dynamixel", JOINTS, options=OPTIONS, gravity_nm=0.0) as process:
        arm = make(BusConfig("main", process.port, 1_000_000, JOINTS), WATCHDOG_S, OPTIONS)
        arm.connect()
        arm.arm()
        assert arm.send(np.full(6, 0.25, np.float32), time.monotonic_ns() + 10**9)
        time.sleep(0.05)
        arm.transport.close()
        port, packets = Port(process.port), PacketHandler(2.0)
        port.openPort()
        goal = 2048 + round(0.25 / RAD_PER_COUNT)
        assert packets.read4ByteTxRx(port, 1, 116)[0] == goal
        assert packets.read4ByteTxRx(port, 4, 116)[0] == 4096 - goal
        assert packets.read1ByteTxRx(port, 6, 11)[0] == 5
        assert packets.read1ByteTxRx(port, 1, 64)[0] == 1
        port.closePort()


# --- byte for byte, for any request -----------------------------------------------------------------------------------


def library(ask):
    paper = Paper()
    ask(paper, PacketHandler(2.0))
    return paper.packet


@given(st.lists(st.integers(-1_000_000, 1_000_000), min_size=1, max_size=9))
def test_goals_are_the_library_s_bytes(counts):
    ids = list(range(1, len(counts) + 1))
    raw = [
        byte for i, count in zip(ids, counts, strict=True) for byte in (i, *count.to_bytes(4, "little", signed=True))
    ]
    assume(STUFFED not in bytes(raw))
    theirs = library(lambda port, packets: packets.syncWriteTxOnly(port, 116, 4, raw, len(raw)))
    assert codec.sync_write(models.GOAL_POSITION, list(zip(ids, counts, strict=True))) == theirs
    joints = [ALIKE[0].__class__("j", "rad", -1540.0, 1540.0, i, "xm430-w350") for i in ids]
    assert GoalWriter(joints).encode([count * RAD_PER_COUNT for count in counts]) == theirs


@given(st.integers(0, 600), st.integers(1, 30), st.lists(st.integers(0, 252), min_size=1, max_size=9), st.booleans())
def test_questions_are_the_library_s_bytes(address, length, ids, fast):
    theirs = library(lambda port, packets: packets.syncReadTx(port, address, length, ids, len(ids), fast))
    assert codec.read_all([Block(i, address, length) for i in ids], fast) == theirs


@given(st.binary(min_size=1, max_size=40))
def test_writes_are_the_library_s_bytes(data):
    assume(STUFFED not in data)
    theirs = library(lambda port, packets: packets.writeTxOnly(port, 7, 168, len(data), list(data)))
    assert codec.packet(7, codec.WRITE, b"\xa8\x00" + data) == theirs


@given(st.binary(max_size=12), st.integers(0, 12))
def test_stuffing_is_that_of_the_library_s_own_function(data, at):
    data = data[:at] + STUFFED + data[at:]
    ours = codec.packet(7, codec.WRITE, data)
    theirs = PacketHandler(2.0).addStuffing([*ours[:5], len(data) + 3, 0, codec.WRITE, *data, 0, 0])
    assert bytes(theirs[:-2]) == ours[:-2]


def test_dynamixel_sdk_4_1_sends_what_it_should_have_stuffed():
    """Its txPacket drops what its addStuffing returns; ours is the manual's packet. If this fails, they mended it."""
    theirs = library(lambda port, packets: packets.writeTxOnly(port, 7, 168, 3, list(STUFFED)))
    assert theirs[7:-2] == bytes((codec.WRITE, 168, 0)) + STUFFED
    assert codec.packet(7, codec.WRITE, b"\xa8\x00" + STUFFED)[7:-2] == theirs[7:-2] + b"\xfd"


@given(st.binary(max_size=60))
def test_both_agree_on_the_crc_and_on_the_stuffing_of_answers(data):
    sent = codec.status(3, 0, data)
    packets = PacketHandler(2.0)
    assert packets.updateCRC(0, sent, len(sent) - 2) == codec.crc16(sent[:-2])
    (unit,) = Decoder().feed(sent)
    theirs = packets.removeStuffing(list(unit))
    length = theirs[5] + (theirs[6] << 8) - 4
    assert bytes(theirs[9 : 9 + length]) == data == codec.statuses(unit, len(data))[0].data
