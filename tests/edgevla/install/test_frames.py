"""Frames byte by byte, and how errors travel."""

from __future__ import annotations

import io

import pytest

from edgevla.errors import BadInput, DeviceFault, Refused
from edgevla.install.frames import MAX_HEADER_BYTES, Frame, encode_frame, error_of, read_frame, write_frame


def test_a_frame_is_its_length_its_header_and_its_payload() -> None:
    raw = encode_frame({"id": 7, "do": "chunks"}, b"abc")
    assert raw == b'\x00\x00\x00\x2d{"id": 7, "do": "chunks", "payload_bytes": 3}abc'
    assert encode_frame({"id": 1}) == b'\x00\x00\x00\x09{"id": 1}'
    stream = io.BytesIO()
    write_frame(stream, {"id": 7, "do": "chunks"}, b"abc")
    assert stream.getvalue() == raw


def test_frames_are_read_one_by_one_until_the_other_end_closes() -> None:
    stream = io.BytesIO(encode_frame({"id": 1}, b"x") + encode_frame({"id": 2}))
    assert read_frame(stream) == Frame({"id": 1, "payload_bytes": 1}, b"x")
    assert read_frame(stream) == Frame({"id": 2}, b"")
    assert read_frame(stream) is None


def test_the_payload_is_judged_by_the_header_before_it_is_read() -> None:
    stream = io.BytesIO(encode_frame({"id": 1, "do": "hello"}, b"x" * 10))
    with pytest.raises(BadInput, match=r"payload_bytes in \[0, 9\]"):
        read_frame(stream, lambda header: 9 if header["do"] == "hello" else 10)
    assert stream.read() == b"x" * 10


@pytest.mark.parametrize("cut", [1, 3, 5, 20, 46])
def test_a_stream_that_ends_inside_a_frame_is_an_error(cut: int) -> None:
    raw = encode_frame({"id": 7, "do": "chunks"}, b"abc")
    with pytest.raises(BadInput, match="the stream ended"):
        read_frame(io.BytesIO(raw[:cut]))


def test_nothing_is_read_behind_a_length_beyond_the_limit() -> None:
    stream = io.BytesIO((MAX_HEADER_BYTES + 1).to_bytes(4, "big") + b"x")
    with pytest.raises(BadInput, match="a header of"):
        read_frame(stream)
    with pytest.raises(BadInput, match="a header of"):
        encode_frame({"text": "x" * MAX_HEADER_BYTES})


def test_every_error_is_a_code_and_a_text() -> None:
    assert error_of(Refused("no")) == {"exit_code": 1, "text": "no"}
    assert error_of(DeviceFault("dead")) == {"exit_code": 5, "text": "dead"}
    full = error_of(OSError(28, "No space left on device", "/opt/x"))
    assert full["exit_code"] == 4
    assert full["text"].splitlines()[0] == "the robot's disk refused (/opt/x)"
    defect = error_of(KeyError("x"))
    assert defect["exit_code"] == 70
    assert "KeyError: 'x'" in defect["text"]
