"""`canopen` over the bridge's own CAN transport: SDO, NMT and PDO configuration, no second socket, no thread.

canopen's documentation foresees networks of one's own: frames go out through `send_message`, what comes in is handed to
`notify`. Here an SDO client that waits for its answer reads the transport itself, so nothing runs in the background.
This module needs the extra `can`; it is imported when a driver connects.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import canopen
from canopen.sdo import SdoAbortedError, SdoClient, SdoCommunicationError

from firmware_bridge.cia402 import sentences
from firmware_bridge.cia402.objects import EDS
from firmware_bridge.errors import BridgeError, JointSilent, WrongJoint, explain
from firmware_bridge.transport.base import Frame, FrameTransport

logging.getLogger("canopen").addHandler(logging.NullHandler())  # its errors come to us as exceptions
SDO_TIMEOUT_S = 0.3


class _Client(SdoClient):
    """An SDO client that reads the bus while it waits."""

    def read_response(self) -> Any:
        deadline_ns = time.monotonic_ns() + int(SDO_TIMEOUT_S * 1e9)
        while self.responses.empty():
            network: Any = self.network  # ours, below
            if time.monotonic_ns() >= deadline_ns or not network.pump(deadline_ns):
                raise SdoCommunicationError("No SDO response received")
        return super().read_response()


class _Node(canopen.RemoteNode):
    def add_sdo(self, rx_cobid: int, tx_cobid: int) -> Any:
        client = _Client(rx_cobid, tx_cobid, self.object_dictionary)
        self.sdo_channels.append(client)
        return client


class Network(canopen.Network):
    """`also` is handed every frame that arrives while something waits: heartbeats and EMCYs are not lost."""

    def __init__(self, transport: FrameTransport, also: Callable[[Frame], None]) -> None:
        super().__init__()
        self._transport, self._also = transport, also

    def send_message(self, can_id: int, data: bytes, remote: bool = False) -> None:
        self._transport.write([Frame(can_id, bytes(data), extended=can_id > 0x7FF, remote=remote)])

    def pump(self, deadline_ns: int) -> bool:
        """Read once; False when nothing came until the deadline."""
        if not self._transport.wait_readable(deadline_ns):
            return False
        for frame in self._transport.read():
            self._also(frame)
            if not frame.extended and not frame.remote and not frame.fd:
                self.notify(frame.id, bytearray(frame.data), time.monotonic())
        return True


class Drive:
    """One node's object dictionary over SDO. Raises JointSilent, WrongJoint with the object's name and the reason."""

    def __init__(self, network: Network, node: int, name: str, dictionary: canopen.ObjectDictionary) -> None:
        self._name = f"drive {name} (node {node})"
        self.node = _Node(node, dictionary)
        network[node] = self.node

    def read(self, index: int, sub: int = 0) -> int:
        return int(self._call("read", index, sub, lambda: self._at(index, sub).raw))

    def write(self, index: int, sub: int, value: int) -> None:
        """Write an object and read it back."""

        def both() -> int:
            self._at(index, sub).raw = value
            return int(self._at(index, sub).raw)

        got = self._call("write", index, sub, both)
        if got != value:
            todo = "check the drive's own limits for this object"
            raise WrongJoint(explain(f"{self._name}: {_where(index, sub)} was not taken", value, got, todo))

    def write_if_there(self, index: int, sub: int, value: int) -> bool:
        """False when the drive has no such object."""
        try:
            self.write(index, sub, value)
        except AbsentObject:
            return False
        return True

    def read_if_there(self, index: int, sub: int = 0) -> int | None:
        """None when the drive has no such object."""
        try:
            return self.read(index, sub)
        except AbsentObject:
            return None

    def text(self, index: int) -> str:
        """A string object, empty when the drive has none."""
        try:
            return str(self._call("read", index, 0, lambda: self._at(index, 0).raw))
        except AbsentObject:
            return ""

    def map_pdo(self, kind: str, number: int, cob_id: int, objects: tuple[int, ...]) -> None:
        """RPDO or TPDO `number`, synchronous, of those objects. `kind`: rpdo or tpdo."""

        def save() -> None:
            pdo = getattr(self.node, kind)[number]
            pdo.clear()
            for index in objects:
                pdo.add_variable(index)
            pdo.cob_id, pdo.trans_type, pdo.enabled = cob_id, 1, True
            pdo.rtr_allowed = (
                kind == "rpdo"
            )  # bit 30 says that a TPDO cannot be asked for by RTR; RPDOs have no such bit
            pdo.save()

        self._call("write", (0x1600 if kind == "rpdo" else 0x1A00) + number - 1, 0, save)

    def _at(self, index: int, sub: int) -> Any:
        found: Any = self.node.sdo[index]
        return found[sub] if hasattr(found, "__getitem__") else found

    def _call(self, verb: str, index: int, sub: int, action: Callable[[], Any]) -> Any:
        what = f"{self._name}: {verb} {_where(index, sub)}"
        try:
            return action()
        except SdoAbortedError as error:
            kind = AbsentObject if error.code in (0x0602_0000, 0x0609_0011) else WrongJoint
            todo = "check the drive's manual and its EDS (option `eds`)"
            raise kind(explain(what, "its value", sentences.abort(error.code), todo)) from None
        except SdoCommunicationError as error:
            todo = "check its power and plug, its node id and the bit rate; scan the bus"
            raise JointSilent(explain(what, f"an answer within {SDO_TIMEOUT_S:g} s", error, todo)) from None
        except KeyError as error:
            todo = "give the drive's EDS as option `eds`"
            raise WrongJoint(explain(what, "an object of the dictionary in use", f"no {error}", todo)) from None


class AbsentObject(WrongJoint):
    """A drive has not an object. Example cause: an optional one of CiA 402."""


def dictionary(file: str | None) -> canopen.ObjectDictionary:
    """The object dictionary of an EDS file, ours when None. Raises BridgeError."""
    try:
        return canopen.import_od(file or str(EDS))
    except Exception as error:  # canopen raises whatever its parser meets
        got = f"{type(error).__name__}: {error}"
        raise BridgeError(explain(f"cannot use {file or EDS}", "an EDS file", got, "check option `eds`")) from None


def _where(index: int, sub: int) -> str:
    return f"{index:04X}:{sub:02X}"
