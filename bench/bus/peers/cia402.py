"""canopen: RPDO1 of every node by its mapped variables, SYNC, then TPDO1 of every node, received by its own thread.

Used as its documentation does: `node.rpdo[1][...].raw = ...`, `transmit()`, `network.sync.transmit()`, a callback of
each TPDO1: the caller is woken once, by the last of them, where `wait_for_reception` would wake it for each. The PDOs
are mapped in the nodes through SDO, and the drives taken to operation enabled, before anything is timed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import canopen
from canopen.objectdictionary import ODRecord, ODVariable, datatypes

from bench.bus.case import Case, same
from bench.bus.measure import answered
from bench.bus.peers.unix_can import UnixBus

LIBRARY = "canopen 2.4"
_PATIENCE_S = 1.0
_COUNTS_PER_RAD = 65536 / (2 * math.pi)
_CONTROL, _STATUS, _TARGET, _POSITION, _MODE = 0x6040, 0x6041, 0x607A, 0x6064, 0x6060
_CSP = 8
_UP, _ENABLED = (0x06, 0x07, 0x0F), 0x0F  # controlwords: one transition with each
_STATE, _OPERATION_ENABLED = 0x6F, 0x27  # of the statusword
_VARIABLES = (
    ("mode", _MODE, datatypes.INTEGER8),
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
    """The objects of a cycle, the mode, and the records of RPDO1 and TPDO1 (CiA 301: 1400, 1600, 1800, 1A00)."""
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
        self._missing: set[int] = set()  # CAN ids of the TPDO1 that this cycle still waits for
        self._whole = threading.Event()
        for node, joint in zip(self._nodes, case.joints, strict=True):
            self._map(node, joint.id)
            node.tpdo[1].add_callback(self._heard)
        self._enable()

    def _map(self, node: canopen.RemoteNode, number: int) -> None:
        node.nmt.state = "PRE-OPERATIONAL"
        node.sdo[_MODE].raw = _CSP
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

    def _enable(self) -> None:
        """Raises Unsound when a drive does not get there."""
        self._cycle(0, [0] * len(self._nodes))  # where they are; 0 is no transition, and no target is followed yet
        found = [node.tpdo[1][1].raw for node in self._nodes]
        for word in (*_UP, _ENABLED):
            self._cycle(word, found)
        answered([node.id for node in self._nodes if node.tpdo[1][0].raw & _STATE != _OPERATION_ENABLED])

    def exchange(self, setpoint: Sequence[float]) -> None:
        self._cycle(_ENABLED, [round(value * _COUNTS_PER_RAD) for value in setpoint])
        for node in self._nodes:
            _ = node.tpdo[1][0].raw, node.tpdo[1][1].raw

    def _cycle(self, controlword: int, counts: Sequence[int]) -> None:
        for node, value in zip(self._nodes, counts, strict=True):
            pdo = node.rpdo[1]
            pdo[0].raw, pdo[1].raw = controlword, value
            pdo.transmit()
        self._missing = {node.tpdo[1].cob_id for node in self._nodes}
        self._whole.clear()
        self._network.sync.transmit()
        if not self._whole.wait(_PATIENCE_S):
            answered(sorted(self._missing))

    def _heard(self, pdo: Any) -> None:
        self._missing.discard(pdo.cob_id)
        if not self._missing:
            self._whole.set()

    def close(self) -> None:
        self._network.disconnect()


def connect(port: str, case: Case) -> CanopenPeer:
    return CanopenPeer(port, case)
