"""The protocol's client against a peer that says what a test wants, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgevla.deploy.agent_client import AgentClient
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage
from edgevla.install.frames import encode_frame, parse_header

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(peer: Peer, ask: Callable[[AgentClient], Awaitable[Any]], words: str = "") -> Any:
    """What `ask` returns with a client whose other end is `peer`."""

    async def last_words() -> str:
        return words

    async def run() -> Any:
        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await peer(reader, writer)
            writer.close()

        server = await asyncio.start_server(served, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            async with AgentClient(reader, writer, last_words) as client:
                return await ask(client)
        finally:
            writer.close()
            server.close()

    return asyncio.run(run())


async def read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    header = parse_header(await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")))
    await reader.readexactly(header.get("payload_bytes", 0))
    return header


def answering(**answer: Any) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        writer.write(encode_frame({"id": request["id"], **answer}))
        await reader.read()

    return peer


def saying(raw: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(raw)
        await writer.drain()

    return peer


def test_a_request_gets_its_events_and_then_its_result() -> None:
    seen: list[dict[str, Any]] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = (await read_request(reader))["id"]
        for step in (1, 2):
            writer.write(encode_frame({"id": number, "event": {"step": step}}))
        writer.write(encode_frame({"id": 99, "ok": True, "result": {}}))  # of a request that was given up
        writer.write(encode_frame({"id": number, "ok": True, "result": {"good": True}}, b"a payload of a newer agent"))
        await reader.read()

    assert talk(peer, lambda client: client.request("install", on_event=seen.append)) == {"good": True}
    assert seen == [{"step": 1}, {"step": 2}]


def test_several_requests_are_on_their_way_at_once() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [await read_request(reader) for _ in range(3)]
        for request in asked:
            writer.write(encode_frame({"id": request["id"], "ok": True, "result": {"n": request["n"]}}))
        await reader.read()

    async def ask(client: AgentClient) -> list[Any]:
        return list(await asyncio.gather(*(client.request("chunks", {"n": n}, b"x" * 1000) for n in range(3))))

    assert talk(peer, ask) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("code", "kind"), [(1, Refused), (2, Usage), (3, Unsound), (4, BadInput), (5, DeviceFault), (70, DeviceFault)]
)
def test_what_the_robot_refuses_is_the_same_error_here(code: int, kind: type[EdgevlaError]) -> None:
    with pytest.raises(kind, match=r"^the counter is too low$"):
        talk(
            answering(ok=False, error={"exit_code": code, "text": "the counter is too low"}),
            lambda client: client.request("offer"),
        )


@pytest.mark.parametrize(
    "answer", [{}, {"ok": True}, {"ok": "yes", "result": {}}, {"ok": False}, {"ok": True, "result": 1}]
)
def test_an_answer_of_another_form_is_a_fault(answer: dict[str, Any]) -> None:
    with pytest.raises(DeviceFault, match="is not understood"):
        talk(answering(**answer), lambda client: client.request("hello"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"Last login: today\n", "is no frame"),
        (b"\0\0\0\2[]", "wrong"),
        (encode_frame({"id": 1, "payload_bytes": -1}), "payload_bytes"),
        (b"\0\0\0\5nojso", "wrong"),
        (b"\0\0", "was lost"),
        (b"", "was lost"),
    ],
)
def test_a_stream_that_is_garbled_or_ends_is_one_error(raw: bytes, said: str) -> None:
    with pytest.raises(EdgevlaError, match=said):
        talk(saying(raw), lambda client: client.request("hello"))


def test_the_last_words_of_the_robots_process_are_the_reason() -> None:
    with pytest.raises(DeviceFault, match="sudo: a password is required"):
        talk(saying(b""), lambda client: client.request("hello"), "sudo: a password is required\n")


def test_after_a_loss_every_request_says_so_at_once() -> None:
    async def ask(client: AgentClient) -> None:
        with pytest.raises(DeviceFault, match="was lost"):
            await client.request("hello")
        await client.request("status")

    with pytest.raises(DeviceFault, match="was lost"):
        talk(saying(b""), ask)


def test_silence_is_given_up_and_an_event_counts_as_a_word() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = (await read_request(reader))["id"]
        for _ in range(4):
            await asyncio.sleep(0.25)
            writer.write(encode_frame({"id": number, "event": {}}))
        await reader.read()

    seen: list[dict[str, Any]] = []
    with pytest.raises(DeviceFault, match="is silent"):
        talk(peer, lambda client: client.request("install", on_event=seen.append, timeout_s=0.8))
    assert len(seen) == 4
