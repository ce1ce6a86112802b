"""The tape carries what the policy saw and said, bit by bit, and refuses what does not fit."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from edgevla.flight import encoding as form
from edgevla.flight.tape import Observation, Seen, observation_bytes, pack_observation, unpack_observation

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def seen(**changes):
    frames = {
        "corner": Seen(77, 5, RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)),
        "wrist é": Seen(78, 9, RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8)),
    }
    values = (
        816, 1, 2, 3, 0, 2, True, 4, floats(5), floats(2, 3), floats(3, 3), frames, floats(8, 3), floats(8, 3),
    )  # fmt: skip
    return replace(Observation(*values), **changes)


def same(left, right):
    for name in ("state", "prefix", "commanded", "chunk", "setpoints"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None)
        assert a is None or a.tobytes() == b.tobytes(), name
    numbers = ("tick", "asked_ns", "begun_ns", "done_ns", "status", "instruction", "cleared", "state_stamp_ns")
    assert [getattr(left, n) for n in numbers] == [getattr(right, n) for n in numbers]
    assert list(left.frames) == list(right.frames)
    for name, frame in left.frames.items():
        assert frame[:2] == right.frames[name][:2]
        assert (frame.image == right.frames[name].image).all()


@pytest.mark.parametrize("changes", [{}, {"chunk": None, "status": 4}, {"frames": {}}, {"cleared": False}])
def test_an_observation_comes_back_bit_by_bit(changes):
    told = seen(**changes)
    payload = pack_observation(told)
    same(unpack_observation(payload), told)
    assert len(payload) <= observation_bytes(2, 3, 5, 8, {"corner": (4, 6), "wrist é": (2, 3)})


def test_the_declared_size_is_that_of_the_largest_entry():
    sizes = {"corner": (4, 6), "wrist é": (2, 3)}
    assert len(pack_observation(seen())) == observation_bytes(2, 3, 5, 8, sizes)


def test_nan_in_state_and_chunk_survives():
    told = seen(state=np.full(5, np.nan, np.float32), chunk=np.full((8, 3), np.nan, np.float32))
    same(unpack_observation(pack_observation(told)), told)


@pytest.mark.parametrize("cut", [0, 3, 70, 200, -1])
def test_a_payload_of_another_size_is_refused(cut):
    payload = pack_observation(seen())
    with pytest.raises(ValueError):
        unpack_observation(payload[:cut])
    with pytest.raises(ValueError):
        unpack_observation(payload + b"!")


def test_arrays_that_do_not_fit_one_another_are_refused():
    with pytest.raises(ValueError, match="prefix"):
        pack_observation(seen(commanded=floats(4)))
    with pytest.raises(ValueError, match="chunk"):
        pack_observation(seen(chunk=floats(9, 3)))
    with pytest.raises(ValueError, match="frame"):
        pack_observation(seen(frames={"corner": Seen(1, 1, np.zeros((2, 2, 3), np.float32))}))


def test_a_picture_is_a_ros_image_byte_by_byte():
    """CDR, little-endian: stamp, frame_id, height, width, encoding, is_bigendian, step, data."""
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    data = form.pack_image("cam", Seen(2_000_000_003, 1, pixels))
    expected = b"\x00\x01\x00\x00" + struct.pack("<iI", 2, 3)
    expected += struct.pack("<I", 4) + b"cam\0"  # string length counts its zero byte
    expected += struct.pack("<II", 1, 4)
    expected += struct.pack("<I", 5) + b"rgb8\0" + b"\0" + b"\0\0"  # is_bigendian, then alignment to 4
    expected += struct.pack("<II", 12, 12) + bytes(range(12))
    assert data == expected
    name, frame = form.unpack_image(data, 1)
    assert name == "cam"
    assert frame.stamp_ns == 2_000_000_003
    assert (frame.image == pixels).all()


@pytest.mark.parametrize("name", ["c", "corner", "a name with eight", "wrist é"])
def test_every_length_of_a_camera_name_is_aligned(name):
    frame = Seen(123_456_789_012, 3, RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8))
    told, back = form.unpack_image(form.pack_image(name, frame), 3)
    assert told == name
    assert back[:2] == frame[:2]
    assert (back.image == frame.image).all()


def test_a_picture_that_lies_about_its_size_is_refused():
    data = bytearray(form.pack_image("cam", Seen(1, 1, np.zeros((1, 4, 3), np.uint8))))
    data[20] = 9  # height
    with pytest.raises(ValueError, match="9 x 4"):
        form.unpack_image(bytes(data), 1)
    with pytest.raises(ValueError):
        form.unpack_image(bytes(data[:30]), 1)


def test_a_dtype_comes_back_from_its_schema_and_objects_are_refused():
    for dtype in (form.observation_dtype(seen()), form.chunk_dtype(seen())):
        assert form.dtype_of(form.dtype_text(dtype)) == dtype
    for text in ('[["a", "|O"]]', "[1]", '[["a"]]', "{}x"):
        with pytest.raises(ValueError):
            form.dtype_of(text)
