"""edgelink v2, pure: a stream of bytes, in any pieces, to its frames and messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from firmware_bridge.cobs import cobs_decode
from firmware_bridge.edgelink.frames import MAX_ENCODED, SHORTEST_BODY, WholeState, checksums, decode_body
from firmware_bridge.edgelink.messages import Message

_UNIT = re.compile(rb"\0*[^\0]+\0?|\0+")


def split(data: bytes) -> list[bytes]:
    """A stream cut at its zeros, in order and without a byte lost: frames, and what is between them."""
    return _UNIT.findall(data)


@dataclass
class DecoderCounts:
    """What a decoder threw away, and what it passed on."""

    frames: int = 0
    bad_stuffing: int = 0
    bad_crc: int = 0
    bad_message: int = 0  # right CRC, but no message of edgelink v2
    too_short: int = 0
    too_long: int = 0

    @property
    def spoiled(self) -> int:
        """Frames thrown away, for whatever reason."""
        return self.bad_stuffing + self.bad_crc + self.bad_message + self.too_short + self.too_long


class Decoder:
    """Bytes in any pieces to messages. Never raises, and is in step again at the next zero.

    `channels`: of the states that will come, where that is known. It changes how fast they are read, nothing else.
    """

    def __init__(self, channels: int | None = None) -> None:
        self.counts = DecoderCounts()
        self._whole_state = None if channels is None else WholeState(channels)
        self._partial = b""
        self._skipping = False  # inside a frame that is too long to be one

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, in order of arrival."""
        if self._whole_state is not None and not self._partial and not self._skipping:
            state = self._whole_state.read(data)
            if state is not None:
                self.counts.frames += 1
                return [state]
        *whole, rest = (self._partial + data).split(b"\0")
        messages = []
        for encoded in whole:
            skipped, self._skipping = self._skipping, False
            message = None if skipped else self._open(encoded)
            if message is not None:
                messages.append(message)
        self._keep(rest)
        return messages

    def _keep(self, rest: bytes) -> None:
        """Hold the start of a frame for the next call, never more than one frame may have."""
        if len(rest) > MAX_ENCODED:
            self.counts.too_long += not self._skipping
            self._skipping = True
        self._partial = b"" if self._skipping else rest

    def _open(self, encoded: bytes) -> Message | None:
        if not encoded:  # two delimiters in a row
            return None
        counts = self.counts
        if len(encoded) > MAX_ENCODED:
            counts.too_long += 1
            return None
        body = cobs_decode(encoded)
        if body is None:
            counts.bad_stuffing += 1
            return None
        if len(body) < SHORTEST_BODY:
            counts.too_short += 1
            return None
        carried, counted = checksums(body)
        if carried != counted:
            counts.bad_crc += 1
            return None
        message = decode_body(body)
        if message is None:
            counts.bad_message += 1
        else:
            counts.frames += 1
        return message
