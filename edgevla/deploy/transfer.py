"""Send the chunks that a robot misses, in batches, some of them on their way at once against latency."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgevla.deploy.agent_client import AgentClient
from edgevla.deploy.chunks import places
from edgevla.deploy.index import Chunk, ChunkIndex
from edgevla.errors import DeviceFault, explain

BATCH_BYTES = 128 * 1024  # what a lost connection costs at most: the robot keeps whole batches
ON_THEIR_WAY = 16  # batches that are not confirmed yet

Advance = Callable[[int], None]  # bytes more that the robot has


def wanted_chunks(index: ChunkIndex, hashes: Sequence[Any]) -> list[Chunk]:
    """The robot's list as chunks of ours. Raises DeviceFault where it asks for what nobody offered."""
    known = {chunk.hash: chunk for chunk in index.chunks()}
    strange = [text for text in hashes if text not in known]
    if strange:
        expected, todo = "chunks of the offered index", "deploy again; if it stays, both ends are of different versions"
        raise DeviceFault(explain("the robot asks for an unknown chunk", expected, str(strange[0])[:40], todo))
    return [known[text] for text in hashes]


async def send_chunks(
    client: AgentClient, folder: Path, index: ChunkIndex, wanted: Sequence[Chunk], advance: Advance
) -> None:
    """Send them in that order; `advance` is called as the robot confirms. Raises what `request` raises, OSError."""
    waiting: deque[tuple[asyncio.Task[dict[str, Any]], int]] = deque()
    try:
        for lengths, payload in _batches(folder, index, wanted):
            if len(waiting) == ON_THEIR_WAY:
                await _confirm(waiting, advance)
            task = asyncio.create_task(client.request("chunks", {"lengths": lengths}, payload))
            waiting.append((task, len(payload)))
            await asyncio.sleep(0)  # so that requests leave in this order
        while waiting:
            await _confirm(waiting, advance)
    finally:
        for task, _ in waiting:
            task.cancel()
        await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)


async def _confirm(waiting: deque[tuple[asyncio.Task[dict[str, Any]], int]], advance: Advance) -> None:
    task, size = waiting.popleft()
    await task
    advance(size)


def _batches(folder: Path, index: ChunkIndex, wanted: Sequence[Chunk]) -> Iterator[tuple[list[int], bytes]]:
    where, lengths, parts = places(index), list[int](), list[bytes]()
    for chunk in wanted:
        place = where[chunk.hash]
        with (folder / place.path).open("rb") as file:
            file.seek(place.offset)
            parts.append(file.read(chunk.length))
        lengths.append(chunk.length)
        if sum(lengths) >= BATCH_BYTES:
            yield lengths, b"".join(parts)
            lengths, parts = [], []
    if lengths:
        yield lengths, b"".join(parts)
