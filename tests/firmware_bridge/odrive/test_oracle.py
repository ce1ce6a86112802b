"""cantools, which nobody here wrote, reads and writes the same frames from ODrive's signal definitions.

The table below is ours, written down from ODrive's DBC for firmware 0.6.10. The DBC itself is not in our tree; where
the package `odrive-can` (MIT), which carries it, is installed, the same tests run on that file too.
"""

import importlib.util
import math
import struct
from pathlib import Path

import can
import cantools
import pytest

from firmware_bridge.odrive import codec
from firmware_bridge.odrive.codec import Command
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.odrive.arms import JOINTS
from tests.firmware_bridge.unix_bus import UnixBus

_VERSION = (
    "Protocol_Version:0:8:u Hw_Version_Major:8:8:u Hw_Version_Minor:16:8:u Hw_Version_Variant:24:8:u "
    "Fw_Version_Major:32:8:u Fw_Version_Minor:40:8:u Fw_Version_Revision:48:8:u Fw_Version_Unreleased:56:8:u"
)
SIGNALS = {  # message: (command, bytes, signals as name, first bit, bits, kind)
    "Get_Version": (0x00, 8, _VERSION),
    "Heartbeat": (0x01, 8, "Axis_Error:0:32:u Axis_State:32:8:u Procedure_Result:40:8:u Trajectory_Done_Flag:48:1:u"),
    "Get_Error": (0x03, 8, "Active_Errors:0:32:u Disarm_Reason:32:32:u"),
    "Set_Axis_State": (0x07, 8, "Axis_Requested_State:0:32:u"),
    "Get_Encoder_Estimates": (0x09, 8, "Pos_Estimate:0:32:f Vel_Estimate:32:32:f"),
    "Set_Controller_Mode": (0x0B, 8, "Control_Mode:0:32:u Input_Mode:32:32:u"),
    "Set_Input_Pos": (0x0C, 8, "Input_Pos:0:32:f Vel_FF:32:16:m Torque_FF:48:16:m"),
    "Set_Input_Vel": (0x0D, 8, "Input_Vel:0:32:f Input_Torque_FF:32:32:f"),
    "Set_Input_Torque": (0x0E, 8, "Input_Torque:0:32:f"),
    "Set_Limits": (0x0F, 8, "Velocity_Limit:0:32:f Current_Limit:32:32:f"),
    "Set_Traj_Vel_Limit": (0x11, 8, "Traj_Vel_Limit:0:32:f"),
    "Set_Traj_Accel_Limits": (0x12, 8, "Traj_Accel_Limit:0:32:f Traj_Decel_Limit:32:32:f"),
    "Set_Traj_Inertia": (0x13, 8, "Traj_Inertia:0:32:f"),
    "Get_Iq": (0x14, 8, "Iq_Setpoint:0:32:f Iq_Measured:32:32:f"),
    "Get_Temperature": (0x15, 8, "FET_Temperature:0:32:f Motor_Temperature:32:32:f"),
    "Reboot": (0x16, 1, "Action:0:8:u"),
    "Get_Bus_Voltage_Current": (0x17, 8, "Bus_Voltage:0:32:f Bus_Current:32:32:f"),
    "Clear_Errors": (0x18, 1, "Identify:0:8:u"),
    "Set_Absolute_Position": (0x19, 8, "Position:0:32:f"),
    "Set_Pos_Gain": (0x1A, 8, "Pos_Gain:0:32:f"),
    "Set_Vel_Gains": (0x1B, 8, "Vel_Gain:0:32:f Vel_Integrator_Gain:32:32:f"),
    "Get_Torques": (0x1C, 8, "Torque_Target:0:32:f Torque_Estimate:32:32:f"),
    "Get_Powers": (0x1D, 8, "Electrical_Power:0:32:f Mechanical_Power:32:32:f"),
}  # fmt: skip
PUBLISHED = importlib.util.find_spec("odrive_can")


def our_table(axis=1):
    lines, floats = ['VERSION ""', "BU_: Master"], []
    for name, (command, size, signals) in SIGNALS.items():
        number = axis << 5 | command
        lines.append(f"BO_ {number} Axis{axis}_{name}: {size} Master")
        for signal in signals.split():
            title, first, bits, kind = signal.split(":")
            sign, factor = ("-", "0.001") if kind == "m" else ("+", "1")
            lines.append(f' SG_ {title} : {first}|{bits}@1{sign} ({factor},0) [0|0] "" Master')
            if kind == "f":
                floats.append(f"SIG_VALTYPE_ {number} {title} : 1;")
    return cantools.database.load_string("\n".join([*lines, "", *floats, ""]), "dbc")


def published():
    if PUBLISHED is None:
        pytest.skip("odrive-can is not installed: `pip install --no-deps odrive-can` to compare with the published DBC")
    file = Path(PUBLISHED.submodule_search_locations[0]) / "dbc" / "odrive-cansimple-0.6.10.dbc"
    return cantools.database.load_file(file)


@pytest.fixture(params=[our_table, published])
def dbc(request):
    return request.param()


def sample(signal):
    if signal.is_float:
        return struct.unpack("f", struct.pack("f", math.pi * (1 + signal.start)))[0]
    return -0.25 if signal.is_signed else 1


@pytest.mark.parametrize("name", SIGNALS)
def test_our_frame_is_the_one_that_cantools_encodes(dbc, name):
    message = dbc.get_message_by_name(f"Axis1_{name}")
    values = {signal.name: sample(signal) for signal in message.signals}
    order = [entry.split(":")[0] for entry in SIGNALS[name][2].split()]
    raw = [round(values[key] * 1000) if key in ("Vel_FF", "Torque_FF") else values[key] for key in order]
    frame = codec.encode(1, Command(SIGNALS[name][0]), *raw)
    assert (frame.id, frame.data) == (message.frame_id, message.encode(values, scaling=True))


@pytest.mark.parametrize("name", SIGNALS)
def test_cantools_decodes_our_frames_to_the_values_that_went_in(dbc, name):
    message = dbc.get_message_by_name(f"Axis1_{name}")
    values = {signal.name: sample(signal) for signal in message.signals}
    decoded = codec.decode(codec.Frame(message.frame_id, message.encode(values)))
    order = [entry.split(":")[0] for entry in SIGNALS[name][2].split()]
    theirs = message.decode(message.encode(values), scaling=False, decode_choices=False)
    assert decoded.values == tuple(theirs[key] for key in order)


def test_cantools_drives_the_virtual_axis_into_closed_loop_and_reads_where_it_went():
    dbc = our_table()
    with VirtualProcess("odrive", JOINTS[:1]) as device, UnixBus(device.port) as bus:

        def tell(name, values):
            message = dbc.get_message_by_name(f"Axis1_{name}")
            bus.send(can.Message(arbitration_id=message.frame_id, data=message.encode(values), is_extended_id=False))

        def hear(name, wanted):
            number = dbc.get_message_by_name(f"Axis1_{name}").frame_id
            for message in iter(lambda: bus.recv(2.0), None):
                if message.arbitration_id == number and wanted(values := dbc.decode_message(number, message.data)):
                    return values
            pytest.fail(f"{name} never came")

        tell("Set_Controller_Mode", {"Control_Mode": 3, "Input_Mode": 1})
        tell("Set_Axis_State", {"Axis_Requested_State": 8})
        assert hear("Heartbeat", lambda values: values["Axis_State"] == 8)["Axis_Error"] == 0
        tell("Set_Input_Pos", {"Input_Pos": 0.1, "Vel_FF": 0.0, "Torque_FF": 0.2})  # the torque carries gravity
        at = hear("Get_Encoder_Estimates", lambda values: abs(values["Pos_Estimate"] - 0.1) < 1e-3)
        assert at["Pos_Estimate"] == pytest.approx(0.1, abs=1e-3)


def test_sdo_frames_are_those_of_the_published_dbc():
    message = published().get_message_by_name("Axis1_RxSdo")
    frame = codec.write_parameter(1, 400, "uint32", 7)
    decoded = {signal.name: signal.start for signal in message.signals}
    assert decoded == {"Opcode": 0, "Endpoint_ID": 8, "Reserved": 24, "Value": 32}
    assert (message.frame_id, frame.data) == (frame.id, struct.pack("<BHBI", 1, 400, 0, 7))


def test_error_states_and_results_are_those_of_the_published_dbc():
    from firmware_bridge.odrive import models

    signals = {s.name: s.choices for s in published().get_message_by_name("Axis1_Heartbeat").signals}
    assert set(signals["Axis_Error"]) - {0} <= set(models.ERRORS)
    assert set(signals["Axis_State"]) - {5} <= set(models.AXIS_STATES)  # 5, sensorless, left with firmware 0.6
    assert set(signals["Procedure_Result"]) <= set(models.PROCEDURE_RESULTS)
