"""cantools with ODrive's messages over python-can, as ODrive's own CAN examples do: encode, send, receive, decode.

The two messages are written down from ODrive's published DBC for firmware 0.6 (Set_Input_Pos 0x00C,
Get_Encoder_Estimates 0x009): the DBC file itself is not in our tree. One object of each for every
axis, and the questions, which never change, are made once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import can
import cantools

from bench.bus.case import Case, same
from bench.bus.measure import answered
from bench.bus.peers.unix_can import UnixBus

LIBRARY = "cantools + python-can"
_PATIENCE_S = 1.0
_CLOSED_LOOP, _SET_STATE, _ESTIMATES, _INPUT = 8, 0x07, 0x09, 0x0C


def case(joints: int) -> Case:
    """Axes with an RTR question each: 1 Mbit/s. Watchdog on the profile's word, as CANSimple cannot read it back."""
    alike = same(joints, unit="rad", minimum=-1.5, maximum=1.5, model="odrive")
    return Case("odrive", alike, 1_000_000, device={"encoder_msg_rate_ms": 0})


def _database(nodes: Sequence[int]) -> Any:
    lines, floats = ['VERSION ""', "BU_: Master"], []
    for node in nodes:
        put, got = node << 5 | _INPUT, node << 5 | _ESTIMATES
        lines += [
            f"BO_ {put} Axis{node}_Set_Input_Pos: 8 Master",
            ' SG_ Input_Pos : 0|32@1+ (1,0) [0|0] "rev" Master',
            ' SG_ Vel_FF : 32|16@1- (0.001,0) [0|0] "rev/s" Master',
            ' SG_ Torque_FF : 48|16@1- (0.001,0) [0|0] "Nm" Master',
            f"BO_ {got} Axis{node}_Get_Encoder_Estimates: 8 Master",
            ' SG_ Pos_Estimate : 0|32@1+ (1,0) [0|0] "rev" Master',
            ' SG_ Vel_Estimate : 32|32@1+ (1,0) [0|0] "rev/s" Master',
        ]
        floats += [f"SIG_VALTYPE_ {put} Input_Pos : 1;", f"SIG_VALTYPE_ {got} Pos_Estimate : 1;"]
        floats += [f"SIG_VALTYPE_ {got} Vel_Estimate : 1;"]
    return cantools.database.load_string("\n".join([*lines, "", *floats, ""]), "dbc")


class ODrivePeer:
    def __init__(self, port: str, case: Case) -> None:
        nodes = [joint.id for joint in case.joints]
        database = _database(nodes)
        self._puts = [database.get_message_by_name(f"Axis{node}_Set_Input_Pos") for node in nodes]
        self._gots = {node << 5 | _ESTIMATES: database.get_message_by_name(f"Axis{node}_Get_Encoder_Estimates")
                      for node in nodes}  # fmt: skip
        self._questions = [can.Message(arbitration_id=can_id, is_remote_frame=True, is_extended_id=False, dlc=8)
                           for can_id in self._gots]  # fmt: skip
        self._bus = UnixBus(port)
        for node in nodes:
            state = _CLOSED_LOOP.to_bytes(4, "little")
            self._bus.send(can.Message(arbitration_id=node << 5 | _SET_STATE, data=state, is_extended_id=False))

    def exchange(self, setpoint: Sequence[float]) -> None:
        for message, value in zip(self._puts, setpoint, strict=True):
            data = message.encode({"Input_Pos": value / (2 * math.pi), "Vel_FF": 0.0, "Torque_FF": 0.0})
            self._bus.send(can.Message(arbitration_id=message.frame_id, data=data, is_extended_id=False))
        for question in self._questions:
            self._bus.send(question)
        waiting = set(self._gots)
        while waiting:
            heard = self._bus.recv(_PATIENCE_S)
            if heard is None:
                answered(sorted(waiting))
            elif heard.arbitration_id in waiting:
                self._gots[heard.arbitration_id].decode(bytes(heard.data))
                waiting.discard(heard.arbitration_id)

    def close(self) -> None:
        self._bus.shutdown()


def connect(port: str, case: Case) -> ODrivePeer:
    return ODrivePeer(port, case)
