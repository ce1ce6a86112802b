"""canopen: RPDO1 of every node by its mapped variables, SYNC, then TPDO1 of every node, received by its own thread.

Used as its documentation does: `node.rpdo[1][...].raw = ...`, `transmit()`, `network.sync.transmit()`, and
`node.tpdo[1].wait_for_reception()`. The PDOs are mapped in the nodes through SDO once, before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import canopen
from canopen.objectdictionary import ODRecord, ODVariable, datatypes

from bench.bus.case import Case, same
from bench.bus.measure import answered
from bench.bus.peers.unix_can import UnixBus

LIBRARY = "canopen 2.4"
_PATIENCE_S = 1.0
_COUNTS_PER_RAD = 65536 / (2 * math.pi)
_CONTROL, _STATUS, _TARGET, _POSITION = 0x6040, 0x6041, 0x607A, 0x6064
_ENABLED = 0x0F
_VARIABLES = (
    ("control", _CONTROL, datatypes.UNSIGNED16),
    ("status", _STATUS, datatypes.UNSIGNED16),
    ("target", _TARGET, datatypes.INTEGER32),
    ("position", _POSITION, datatypes.INTEGER32),
)


def case(joints: int) -> Case:
    """Drives in cyclic synchronous position mode at 1 Mbit/s; heartbeats off the cycle."""
    alike = same(joints, unit="rad", minimum=-1.5, maximum=1.5, model="cia402")
    return Case("cia402", alike, 1_000_000, watchdog_s=1.0)


def _dictionary() -> canopen.ObjectDictionary:
    """The four objects, and the records of RPDO1 and TPDO1 (CiA 301: 1400, 1600, 1800, 1A00)."""
    found = canopen.ObjectDictionary()
    for name, index, kind in _VARIABLES:
        variable = ODVariable(name, index)
        variable.data_type = kind
        found.add_object(variable)
    for communication, mapping in ((0x1400, 0x1600), (0x1800, 0x1A00)):
        for index, entries in ((communication, (1, 2)), (mapping, (1, 2))):
            record = ODRecord(f"pdo {index:x}", index)
            for sub in (0, *entries):
                variable = ODVariable(f"entry {sub}", index, sub)
                wide = sub == 1 or index == mapping
                variable.data_type = datatypes.UNSIGNED32 if sub and wide else datatypes.UNSIGNED8
                record.add_member(variable)
            found.add_object(record)
    return found


class CanopenPeer:
    def __init__(self, port: str, case: Case) -> None:
        self._network = canopen.Network(UnixBus(port))
        self._network.connect()
        self._nodes = [self._network.add_node(joint.id, _dictionary()) for joint in case.joints]
        for node, joint in zip(self._nodes, case.joints, strict=True):
            self._map(node, joint.id)

    def _map(self, node: canopen.RemoteNode, number: int) -> None:
        node.nmt.state = "PRE-OPERATIONAL"
        for pdo, base, variables in (
            (node.rpdo[1], 0x200, (_CONTROL, _TARGET)),
            (node.tpdo[1], 0x180, (_STATUS, _POSITION)),
        ):
            pdo.clear()
            for index in variables:
                pdo.add_variable(index)
            pdo.cob_id, pdo.enabled, pdo.trans_type = base + number, True, 1
            pdo.save()
        node.nmt.state = "OPERATIONAL"

    def exchange(self, setpoint: Sequence[float]) -> None:
        for node, value in zip(self._nodes, setpoint, strict=True):
            pdo = node.rpdo[1]
            pdo[0].raw, pdo[1].raw = _ENABLED, round(value * _COUNTS_PER_RAD)
            pdo.transmit()
        seen = [node.tpdo[1].timestamp for node in self._nodes]
        self._network.sync.transmit()
        for node, before in zip(self._nodes, seen, strict=True):
            pdo = node.tpdo[1]
            if pdo.timestamp == before and pdo.wait_for_reception(_PATIENCE_S) is None:
                answered([node.id])
            _ = pdo[0].raw, pdo[1].raw

    def close(self) -> None:
        self._network.disconnect()


def connect(port: str, case: Case) -> CanopenPeer:
    return CanopenPeer(port, case)
