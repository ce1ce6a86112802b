"""How a host meets a device, by HELLO or by PING: the shortest of some exchanges tells the device's clock best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.clock import clock_offset
from firmware_bridge.edgelink.codec import Decoder, HelloAck, Message, State
from firmware_bridge.transport.base import Transport

HELLOS = 8  # round trips from which the shortest gives the clock offset
ANSWER_S = 0.1  # s, one request's patience: a virtual arm may be drawing a frame

Answer = TypeVar("Answer", HelloAck, State)
Exchange = tuple[int, int, Answer]  # round trip us, clock offset us, what was answered


def exchanges(
    transport: Transport,
    decoder: Decoder,
    next_seq: Callable[[], int],
    ask: Callable[[int], Message],
    kind: type[Answer],
    until_ns: int,
) -> Iterator[Exchange[Answer]]:
    """HELLOS of them that were answered by `kind`, or those until `until_ns`. Raises PortGone."""
    heard = 0
    while heard < HELLOS and time.monotonic_ns() < until_ns:
        seq = next_seq()
        sent_us = time.monotonic_ns() // 1000
        transport.write(codec.encode(ask(seq)))
        answer = _answer(transport, decoder, kind, seq)
        if answer is not None:
            received_us = time.monotonic_ns() // 1000
            heard += 1
            yield received_us - sent_us, clock_offset(answer.device_us, sent_us, received_us), answer


def shortest(found: Iterator[Exchange[Answer]], judge: Callable[[Answer], None]) -> Exchange[Answer] | None:
    """None where nobody answered. Raises what `judge` raises of any answer."""
    best: Exchange[Answer] | None = None
    for exchange in found:
        judge(exchange[2])
        if best is None or exchange[0] < best[0]:
            best = exchange
    return best


def _answer(transport: Transport, decoder: Decoder, kind: type[Answer], seq: int) -> Answer | None:
    deadline_ns = time.monotonic_ns() + int(ANSWER_S * 1e9)
    while transport.wait_readable(deadline_ns):
        for message in decoder.feed(transport.read()):
            if isinstance(message, kind) and message.seq == seq:
                return message
    return None
