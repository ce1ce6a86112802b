"""The socket of a run: another instruction, or a look at its state. Unix, local, of this user only.

One connection, one line of JSON each way. The words it knows are `say` and `status`: no message arms, stops or
quits. The server lives in the loop of the run: it never waits for a client and holds a few of them at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.operate.place import OwnedSocket

MAX_LINE = 4096  # bytes of a message
MAX_TEXT = 400  # characters of an instruction
CLIENT_S = 1.0  # from connecting to the end
_MAX_CLIENTS = 8
_UCRED = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)
_KNOWN = 'one line of {"say": "an instruction"} or {"status": true}; this socket cannot arm, stop or quit'

Accept = Callable[[str], "str | None"]  # an instruction -> why it is refused, None: taken


class NoMessage(ValueError):
    """What came is none of the messages; its text says so to the client."""


@dataclass(frozen=True)
class Message:
    """`say` is an instruction, or None for a look at the state."""

    say: str | None


def parse(line: bytes) -> Message:
    """The message of one line without its newline. Raises NoMessage."""
    try:
        data = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NoMessage(f"this is no JSON of UTF-8: expected {_KNOWN}") from None
    if data == {"status": True} and data["status"] is True:
        return Message(None)
    if not isinstance(data, dict) or set(data) != {"say"} or not isinstance(data["say"], str):
        raise NoMessage(f"unknown message: expected {_KNOWN}")
    return Message(clean(data["say"]))


def clean(text: str) -> str:
    """An instruction without blanks around it. Raises NoMessage on an empty, endless or unprintable one."""
    text = text.strip()
    if not text or len(text) > MAX_TEXT or not text.isprintable():
        raise NoMessage(f"an instruction is one line of 1 to {MAX_TEXT} printable characters")
    return text


@dataclass
class _Client:
    socket: socket.socket
    until_ns: int
    heard: bytes = b""
    answer: bytes = b""


class SayServer:
    """Serves the clients of one socket from the loop of the run: select on `fd`, call `poll` every look.

    `accept` decides about an instruction, `status` gives the JSON of the moment, `acts_within_ticks` is r + d.
    Raises Refused when a living run has the name, BadInput when the socket cannot be made.
    """

    def __init__(
        self, place: Path, accept: Accept, status: Callable[[], Mapping[str, Any]], acts_within_ticks: int
    ) -> None:
        self._accept, self._status, self._within = accept, status, acts_within_ticks
        self._clients: dict[int, _Client] = {}
        self._owned = OwnedSocket(place)
        self.path = place
        self._selector = selectors.EpollSelector()
        self._selector.register(self._owned.socket, selectors.EVENT_READ)

    @property
    def fd(self) -> int:
        """Readable when `poll` has something to do before the next deadline of a client."""
        return self._selector.fileno()

    def poll(self, now_ns: int) -> None:
        """Serve what is there; never waits, never raises. `now_ns` is CLOCK_MONOTONIC."""
        for key, _ in self._selector.select(0.0):
            if key.fd == self._owned.socket.fileno():
                self._welcome(now_ns)
            elif key.fd in self._clients:
                self._serve(self._clients[key.fd])
        for client in [client for client in self._clients.values() if now_ns >= client.until_ns]:
            self._end(client)

    def close(self) -> None:
        """Every client away, the socket removed."""
        for client in list(self._clients.values()):
            self._end(client)
        self._selector.close()
        self._owned.close()

    def __enter__(self) -> SayServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _welcome(self, now_ns: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._owned.socket.accept()
            connection.setblocking(False)
            client = _Client(connection, now_ns + int(CLIENT_S * 1e9))
            self._clients[connection.fileno()] = client
            self._selector.register(connection, selectors.EVENT_READ)
            if len(self._clients) > _MAX_CLIENTS:
                self._reply(client, {"error": f"busy: {_MAX_CLIENTS} others are connected, try again"})
            elif peer_uid(connection) not in (0, os.geteuid()):
                self._reply(client, {"error": "this run belongs to another user"})

    def _serve(self, client: _Client) -> None:
        if client.answer:
            self._send(client)
            return
        try:
            data = client.socket.recv(MAX_LINE + 1 - len(client.heard))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.heard += data
        line, newline, _ = client.heard.partition(b"\n")
        if newline and len(line) <= MAX_LINE:
            self._reply(client, self._answer(line))
        elif len(client.heard) > MAX_LINE:
            self._reply(client, {"error": f"a message has {MAX_LINE} bytes at most"})
        elif not data:
            self._end(client)

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            message = parse(line)
        except NoMessage as error:
            return {"error": str(error)}
        if message.say is None:
            return self._status()
        refused = self._accept(message.say)
        if refused is not None:
            return {"error": refused}
        return {"ok": True, "instruction": message.say, "acts_within_ticks": self._within}

    def _reply(self, client: _Client, answer: Mapping[str, Any]) -> None:
        client.answer = json.dumps(answer).encode() + b"\n"
        self._selector.modify(client.socket, selectors.EVENT_WRITE)
        self._send(client)

    def _send(self, client: _Client) -> None:
        try:
            client.answer = client.answer[client.socket.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = b""
        if not client.answer:
            self._end(client)

    def _end(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            self._selector.unregister(client.socket)
            client.socket.close()


def peer_uid(connection: socket.socket) -> int:
    """User of the process at the other end, as the kernel says."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)
