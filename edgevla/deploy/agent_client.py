"""The workstation's side of the protocol with the installer on the robot (`edgevla-agent rpc`), over two byte streams.

Several requests may be on their way at once; the robot answers them in order. Events of a request come before its
answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.install.frames import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, encode_frame, parse_header

ANSWER_TIMEOUT_S = 120.0  # without a frame; a slow card syncs for many seconds
STEP_TIMEOUT_S = 3_600.0  # an engine is built for minutes without an event
_ERRORS: dict[int, type[EdgevlaError]] = {1: Refused, 2: Usage, 3: Unsound, 4: BadInput, 5: DeviceFault}

_LAST_WORDS_S = 2.0
_LENGTH_BYTES = 4  # big-endian, of the header (edgevla.install.frames)

EventHandler = Callable[[dict[str, Any]], None]


class Reader(Protocol):
    """Bytes from the robot."""

    async def readexactly(self, n: int) -> bytes:
        """`n` bytes, or asyncio.IncompleteReadError at the end."""
        ...


class Writer(Protocol):
    """Bytes to the robot."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        ...

    async def drain(self) -> None:
        """Return when there is room for more."""
        ...


@dataclass
class _Pending:
    """One request that is not answered yet."""

    answer: asyncio.Future[dict[str, Any]]
    on_event: EventHandler | None
    heard: float  # loop time of its newest frame


class AgentClient:
    """Requests to one agent. Use as `async with`; `last_words` says why its process ended, e.g. its stderr."""

    def __init__(self, reader: Reader, writer: Writer, last_words: Callable[[], Awaitable[str]]) -> None:
        self._reader, self._writer, self._last_words = reader, writer, last_words
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count(1)
        self._fault: EdgevlaError | None = None
        self._listener: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self.sent_bytes = 0  # of frames, both ways
        self.received_bytes = 0

    async def __aenter__(self) -> AgentClient:
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    async def request(
        self,
        do: str,
        fields: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        on_event: EventHandler | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Ask, and return the result. timeout_s: the longest silence, each event counts.

        Raises what the robot says (Refused, BadInput, ...), DeviceFault when it is silent or the connection is lost.
        """
        number, loop = next(self._ids), asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), on_event, loop.time())
        self._pending[number] = pending
        try:
            await self._send(encode_frame({**(fields or {}), "id": number, "do": do}, payload))
            return await self._answer(do, pending, timeout_s)
        finally:
            del self._pending[number]

    async def _send(self, frame: bytes) -> None:
        async with self._writing:
            if self._fault is not None:
                raise self._fault
            try:
                self._writer.write(frame)
                await self._writer.drain()
            except (OSError, EOFError) as error:
                raise await self._lost(error) from error
        self.sent_bytes += len(frame)

    async def _answer(self, do: str, pending: _Pending, timeout_s: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        while True:
            left = pending.heard + timeout_s - loop.time()
            done, _ = await asyncio.wait([pending.answer], timeout=max(0.0, left))
            if done:
                return _result(do, pending.answer.result())
            if loop.time() >= pending.heard + timeout_s:
                todo = "look at the robot; `edgevla deploy status` says how far it came"
                got = f"nothing to `{do}`"
                raise DeviceFault(
                    explain("the robot's installer is silent", f"a word within {timeout_s:g} s", got, todo)
                )

    async def _listen(self) -> None:
        """Hand each frame to its request, until the end; then every request gets the reason."""
        try:
            while True:
                self._hand_out(await self._frame())
        except asyncio.CancelledError:
            raise
        except EdgevlaError as error:
            self._fault = error
        except Exception as error:  # whatever ends the stream: every request that waits must hear of it
            self._fault = await self._lost(error)
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(self._fault)

    async def _frame(self) -> dict[str, Any]:
        start = await self._reader.readexactly(_LENGTH_BYTES)
        length = int.from_bytes(start, "big")
        if length > MAX_HEADER_BYTES:  # text of a login script reads as a length of a gigabyte
            raise _garbled(f"a frame of {MAX_HEADER_BYTES} bytes at most", repr(start))
        header = parse_header(await self._reader.readexactly(length))
        payload = header.get("payload_bytes", 0)
        if type(payload) is not int or not 0 <= payload <= MAX_PAYLOAD_BYTES:
            raise _garbled(f"payload_bytes in [0, {MAX_PAYLOAD_BYTES}]", repr(payload)[:100])
        await self._reader.readexactly(payload)  # no answer has one today: a newer agent's is passed over
        self.received_bytes += _LENGTH_BYTES + length + payload
        return header

    def _hand_out(self, header: dict[str, Any]) -> None:
        pending = self._pending.get(header.get("id", 0))
        if pending is None or pending.answer.done():
            return  # of a request that was given up
        pending.heard = asyncio.get_running_loop().time()
        event = header.get("event")
        if isinstance(event, dict):
            if pending.on_event is not None:
                pending.on_event(event)
        else:
            pending.answer.set_result(header)

    async def _lost(self, error: BaseException) -> EdgevlaError:
        try:
            said = (await asyncio.wait_for(self._last_words(), _LAST_WORDS_S)).strip()
        except Exception:  # the same connection: it may be as dead as the stream
            said = ""
        reason = said or getattr(error, "reason", "") or str(error) or type(error).__name__
        todo = "call the same line again: what arrived is kept, and an install that began goes on without a connection"
        return DeviceFault(explain("the connection to the robot's installer was lost", "an answer", reason, todo))


def _garbled(expected: str, got: str) -> DeviceFault:
    todo = "does a login script on the robot (~/.bashrc) print something? It must not for a command"
    return DeviceFault(explain("what the robot's installer said is no frame", expected, got, todo))


def _result(do: str, header: dict[str, Any]) -> dict[str, Any]:
    result, error = header.get("result"), header.get("error")
    if header.get("ok") is True and isinstance(result, dict):
        return result
    if header.get("ok") is False and isinstance(error, dict):
        kind = _ERRORS.get(error.get("exit_code", 0), DeviceFault)
        raise kind(str(error.get("text", "the robot gives no reason")))
    todo = "update edgevla here, or the installer on the robot by a newer release"
    raise DeviceFault(
        explain(f"the answer to `{do}` is not understood", "ok with result or error", str(header)[:100], todo)
    )
