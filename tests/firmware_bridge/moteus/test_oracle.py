"""mjbots' own Python library `moteus`: its bytes equal ours, its parser reads us, it drives our virtual device.

The library reaches the device through python-can, as it reaches a real adapter (its PythonCan transport).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager

import can
import moteus
import pytest
from moteus.protocol import parse_reply
from moteus.pythoncan_device import PythonCanDevice

from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as ours
from firmware_bridge.moteus.codec import REV, Gains, PositionCommand
from firmware_bridge.moteus.registers import FLOAT, INT16, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.moteus.arms import JOINTS
from tests.firmware_bridge.unix_bus import UnixBus


def theirs(joint_id=1, int16=False):
    query, position = moteus.QueryResolution(), moteus.PositionResolution()
    if int16:
        query.position = query.velocity = query.torque = moteus.INT16
        for name in ("position", "velocity", "feedforward_torque", "kp_scale", "kd_scale"):
            setattr(position, name, moteus.INT16)
        position.maximum_torque = position.watchdog_timeout = moteus.INT16
    return moteus.Controller(joint_id, query_resolution=query, position_resolution=position, transport=object())


def as_frame(command):
    """As the library's transports put a command on the bus (transport.py, pythoncan_device.py)."""
    can_id = command.destination | command.source << 8 | (0x8000 if command.reply_required else 0)
    length = can.util.len2dlc(len(command.data))
    return Frame(can_id, command.data.ljust(can.util.dlc2len(length), b"\x50"), can_id > 0x7FF, True, True)


@pytest.mark.parametrize("rad", [0.0, 1.0, -2.5, 0.7 * math.pi])
@pytest.mark.parametrize("resolution", [FLOAT, INT16])
def test_positions_are_the_librarys_bytes(rad, resolution):
    gains = Gains(0.5, 0.25, -0.4, 3.0)
    mine = codec.frame(7, PositionCommand(gains, 0.12, resolution, codec.query(resolution)).data(rad))
    command = theirs(7, resolution == INT16).make_position(
        position=rad / REV,
        velocity=0.0,
        feedforward_torque=-0.4,
        kp_scale=0.5,
        kd_scale=0.25,
        maximum_torque=3.0,
        watchdog_timeout=0.12,
        query=True,
    )
    assert mine == as_frame(command)


@pytest.mark.parametrize("resolution", [FLOAT, INT16])
def test_a_hold_without_watchdog_and_with_its_own_torque_limit_is_the_librarys(resolution):
    command = theirs(1, resolution == INT16).make_position(
        position=0.1,
        velocity=0.0,
        feedforward_torque=0.0,
        kp_scale=1.0,
        kd_scale=1.0,
        maximum_torque=math.nan,
        watchdog_timeout=math.nan,
        query=True,
    )
    mine = PositionCommand(Gains(), None, resolution, codec.query(resolution)).data(0.1 * REV)
    assert codec.frame(1, mine) == as_frame(command)


def test_questions_stops_brake_and_zero_velocity_are_the_librarys():
    their = theirs(3)
    for mine, command in (
        (codec.frame(3, codec.QUERY), their.make_query()),
        (codec.frame(3, codec.mode(ours.Mode.STOPPED), False), their.make_stop()),
        (codec.frame(3, codec.mode(ours.Mode.STOPPED) + codec.QUERY), their.make_stop(query=True)),
        (codec.frame(3, codec.mode(ours.Mode.BRAKE), False), their.make_brake()),
        (codec.frame(3, codec.mode(ours.Mode.ZERO_VELOCITY) + codec.QUERY), their.make_zero_velocity(query=True)),
        (codec.frame(3, codec.text_in(b"conf get x\n"), False), their.make_diagnostic_write(b"conf get x\n")),
        (codec.frame(3, codec.text_poll()), their.make_diagnostic_read()),
        (codec.frame(3, codec.IDENTIFY), their.make_custom_query({0x100: 2, 0x101: 2, 0x102: 2})),
    ):
        assert mine == as_frame(command)
    assert codec.frame(3, codec.QUERY_INT16) == as_frame(theirs(3, int16=True).make_query())


def test_stay_within_is_the_librarys():
    command = theirs().make_stay_within(
        lower_bound=-0.5,
        upper_bound=math.nan,
        feedforward_torque=0.0,
        kp_scale=1.0,
        kd_scale=1.0,
        maximum_torque=math.nan,
        watchdog_timeout=0.2,
    )
    mine = codec.frame(1, codec.stay_within(-0.5 * REV, None, Gains(), 0.2), False)
    assert mine == as_frame(command)


def test_registers_and_modes_have_the_librarys_numbers():
    names = {"TIMEOUT": "COMMAND_TIMEOUT", "MAX_TORQUE": "COMMAND_POSITION_MAX_TORQUE"}
    for register in (Register.MODE, Register.TORQUE, Register.FAULT, Register.TIMEOUT, Register.MAX_TORQUE):
        assert register == moteus.Register[names.get(register.name, register.name)]
    for mode in ("STOPPED", "FAULT", "POSITION", "TIMEOUT", "ZERO_VELOCITY", "STAY_WITHIN", "BRAKE"):
        assert ours.Mode[mode] == moteus.Mode[mode]


@pytest.mark.parametrize(
    "data", ["21000a 2f01 0000803e 0000c0bf 00000040 230d30fb67 5050", "210009 2701 c409 0080 9cff 230d 301f00"]
)
def test_its_parser_and_ours_read_the_same(data):
    found = codec.values(bytes.fromhex(data))
    their = parse_reply(bytes.fromhex(data))
    assert found == pytest.approx({int(key): value for key, value in their.items()}, nan_ok=True)


@asynccontextmanager
async def library(port):
    """The library's transport on our bus: python-can's own socketcan where that is an interface."""
    with pytest.MonkeyPatch.context() as patch:
        if "/" in port:
            patch.setattr(can, "Bus", lambda **asked: UnixBus(asked["channel"], fd=True))
        device = PythonCanDevice(interface="socketcan", channel=port, fd=True)
    try:
        yield moteus.Transport([device])
    finally:
        device.close()


@pytest.fixture
def virtual():
    with VirtualProcess("moteus", JOINTS) as started:
        yield started


def test_it_drives_our_virtual_joints(virtual):
    async def drive():
        async with library(virtual.port) as transport:
            joints = [moteus.Controller(joint.id, transport=transport) for joint in JOINTS]
            await transport.cycle([joint.make_stop() for joint in joints])
            for _ in range(60):
                commands = [joint.make_position(position=0.05, watchdog_timeout=2.0, query=True) for joint in joints]
                results = await transport.cycle(commands)
                await asyncio.sleep(0.01)
            return results

    results = asyncio.run(drive())
    assert [result.id for result in results] == [joint.id for joint in JOINTS]
    for result in results[:4]:  # the others cannot get there
        assert result.values[moteus.Register.MODE] == moteus.Mode.POSITION
        assert result.values[moteus.Register.POSITION] == pytest.approx(0.05, abs=0.005)
        assert result.values[moteus.Register.FAULT] == 0
        assert result.values[moteus.Register.VOLTAGE] == 24.0
    report = virtual.do("report")["device"]
    assert (report["frames"], report["torn"], report["write_errors"]) == (6 + 60 * 6, 0, 0)


def test_it_sees_the_timeout_and_clears_it(virtual):
    async def drive():
        async with library(virtual.port) as transport:
            joint = moteus.Controller(1, transport=transport)
            await joint.set_position(position=0.0, watchdog_timeout=0.05)
            await asyncio.sleep(0.2)
            late = await joint.set_position(position=0.0, query=True)
            stopped = await joint.set_stop(query=True)
            return late.values[moteus.Register.MODE], stopped.values[moteus.Register.MODE]

    assert asyncio.run(drive()) == (moteus.Mode.TIMEOUT, moteus.Mode.STOPPED)


def test_it_reads_versions_and_configuration(virtual):
    async def drive():
        async with library(virtual.port) as transport:
            joint = moteus.Controller(2, transport=transport)
            versions = await joint.custom_query({moteus.Register.FIRMWARE_VERSION: moteus.INT32})
            text = moteus.Stream(joint)
            timeout = await text.command(b"conf get servo.default_timeout_s", allow_any_response=True)
            return versions.values[moteus.Register.FIRMWARE_VERSION], float(timeout)

    assert asyncio.run(drive()) == (0x010A00, pytest.approx(0.1))


def test_it_finds_every_controller(virtual):
    async def drive():
        async with library(virtual.port) as transport:
            return [(await moteus.Controller(joint.id, transport=transport).query()).id for joint in JOINTS]

    assert asyncio.run(drive()) == [joint.id for joint in JOINTS]
