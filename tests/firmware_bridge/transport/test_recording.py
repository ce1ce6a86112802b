"""What passed on a line, byte for byte, into a file and back; candump's files too."""

import os
import resource
import struct
import time
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import pytest

from firmware_bridge.errors import BadRecording, PortError, PortGone, ReplayDiffers
from firmware_bridge.transport import log
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.log import What, candump_line, frame_of, read_log
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.recording import Recording, Replaying, units
from firmware_bridge.transport.serial import SerialTransport


def soon(seconds=2.0):
    return time.monotonic_ns() + int(seconds * 1e9)


class Bus:
    """A frame transport in memory."""

    name = "bus"

    def __init__(self):
        self.answers = []

    def open(self):
        pass

    def write(self, frames):
        self.answers += [frame._replace(id=frame.id + 1, data=frame.data[::-1]) for frame in frames]

    def read(self):
        answers, self.answers = self.answers, []
        return answers

    def wait_readable(self, deadline_ns):
        return bool(self.answers)

    def close(self):
        pass


@pytest.fixture
def recorded(tmp_path):
    """A file of two exchanges over a real pty."""
    path = tmp_path / "line.bus"
    with PtyPair() as line:
        port = Recording(SerialTransport(line.port, 1_000_000), path, "serial", protocol="feetech")
        port.open()
        for question, answer in ((b"\xff\xff\x01", b"\xff\xff\x01\x02"), (b"\x00\x0a\x0d\x11", b"\x13")):
            port.write(question)
            line.write(answer)
            assert port.wait_readable(soon())
            assert port.read() == answer
        port.close()
        port.finish()
    return path


def test_a_recording_holds_every_byte_its_direction_and_its_time(recorded):
    got = read_log(recorded)
    assert got.head["format"] == "edgevla-bus/1"
    assert (got.kind, got.head["protocol"]) == ("serial", "feetech")
    assert [r.what for r in got.records] == [What.OPENED, What.WROTE, What.READ, What.WROTE, What.READ, What.CLOSED]
    assert units(got.records, What.WROTE) == [b"\xff\xff\x01", b"\x00\x0a\x0d\x11"]
    assert units(got.records, What.READ) == [b"\xff\xff\x01\x02", b"\x13"]
    times = [r.ns for r in got.records]
    assert times == sorted(times)
    assert 0 <= time.monotonic_ns() - times[-1] < 60 * 10**9
    assert (got.torn, got.lost) == (False, 0)


def test_the_file_is_what_its_description_says(recorded):
    head, _, rest = recorded.read_bytes().partition(b"\n")
    ns, what, length = struct.unpack_from("<QBI", rest, 17)  # behind OPENED: 13 bytes of head, no data, 4 of CRC
    assert (what, length, rest[30:33]) == (0, 3, b"\xff\xff\x01")
    assert struct.unpack_from("<I", rest, 33)[0] == crc32(rest[17:33])
    assert ns > 0
    assert head.startswith(b'{"format": "edgevla-bus/1", "kind": "serial", "port": "/dev/pts/')


def test_a_torn_tail_loses_the_torn_record_only(recorded):
    whole = recorded.read_bytes()
    records = read_log(recorded).records
    for cut in range(1, 20):
        recorded.write_bytes(whole[:-cut])
        got = read_log(recorded)
        assert got.torn == (cut != 17)  # the last record is 17 bytes
        assert got.records == records[: len(got.records)]
        assert len(got.records) >= len(records) - 2


def test_a_spoiled_byte_in_the_middle_is_named_by_its_place(recorded):
    spoiled = bytearray(recorded.read_bytes())
    start = spoiled.index(b"\n") + 1
    spoiled[start + 17 + 13] ^= 0x10
    recorded.write_bytes(spoiled)
    with pytest.raises(BadRecording, match="a spoiled one at byte 17 behind the first line") as caught:
        read_log(recorded)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "head", [b'{"format": "edgevla-bus/9", "kind": "can"}\n', b'{"format"\n', b'{"format": "edgevla-bus/1"}\n']
)
def test_another_format_is_refused(tmp_path, head):
    path = tmp_path / "x"
    path.write_bytes(head)
    with pytest.raises(BadRecording, match="record it again"):
        read_log(path)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(BadRecording, match="No such file"):
        read_log(tmp_path / "nothing")
    with pytest.raises(PortError, match="cannot record"):
        Recording(Bus(), tmp_path / "no" / "folder", "can")


def test_a_recording_is_bounded_and_the_line_goes_on(tmp_path):
    path = tmp_path / "full.bus"
    bus = Recording(Bus(), path, "can", most_bytes=200)
    bus.flush()
    for _ in range(3):
        bus.write([Frame(1, bytes(8))])
        bus.flush()
        assert bus.read() == [Frame(2, bytes(8))]
        bus.flush()
    bus.finish()
    bus.finish()
    assert path.stat().st_size < 200 + 100
    assert len(read_log(path).records) == 6


def test_records_without_room_in_memory_are_counted_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_bridge.transport.recording._MOST_WAITING", 2)
    bus = Recording(Bus(), tmp_path / "x", "can")
    with bus._writing:  # the disk stands still
        for _ in range(5):
            bus.write([Frame(1, b"")])
    bus.finish()
    got = read_log(tmp_path / "x")
    assert got.lost == 3
    assert len(units(got.records, What.WROTE)) == 2


def test_a_replay_gives_the_answers_back_as_long_as_the_same_is_written(recorded):
    port = Replaying(recorded)
    port.open()
    assert port.wait_readable(soon()) is False  # nothing was said unasked
    port.write(b"\xff\xff")  # in other pieces than then
    assert port.wait_readable(soon()) is False
    port.write(b"\x01")
    assert port.wait_readable(soon())
    assert port.read() == b"\xff\xff\x01\x02"
    port.write(b"\x00\x0a\x0d\x11")
    assert (port.read(), port.read()) == (b"\x13", b"")
    with pytest.raises(PortGone, match="over"):
        port.wait_readable(soon())
    with pytest.raises(PortGone, match="over"):
        port.write(b"more")


def test_a_replay_names_the_first_byte_that_differs(recorded):
    port = Replaying(recorded)
    port.open()
    port.write(b"\xff\xff\x01")
    with pytest.raises(
        ReplayDiffers, match=r"another byte is written than then, number 5 from 0\s+expected: 0d\s+got: +0e"
    ):
        port.write(b"\x00\x0a\x0e\x11")


def test_frames_are_recorded_and_replayed_one_by_one(tmp_path):
    path = tmp_path / "can.bus"
    bus = Recording(Bus(), path, "can")
    bus.open()
    sent = [Frame(0x10, b"\x01\x02"), Frame(0x18DAF110, bytes(range(8)), extended=True)]
    bus.write(sent)
    answers = bus.read()
    bus.close()
    bus.finish()
    again = Replaying(path)
    again.open()
    again.write(sent)
    assert again.read() == answers
    other = Replaying(path)
    other.open()
    with pytest.raises(ReplayDiffers, match=r"another frame[\s\S]*number 1 from 0\s+expected: 18DAF110#00010203"):
        other.write([sent[0], sent[0]])


def test_a_closed_replay_says_so(recorded):
    port = Replaying(recorded)
    with pytest.raises(PortGone, match="closed"):
        port.read()


# Lines as `candump -L` of can-utils writes them; the first two are those of its manual page's example.
CANDUMP = """(1345212884.318850) can0 123#1122334455667788
(1345212885.001000) can0 18DAF110#
(1345212885.001001) can0 7FF#R
(1345212885.001002) can0 123##1112233
(1345212885.001003) can0 123##0AB R
(1345212885.001004) can0 20000004#0004000000000000
"""


def test_a_log_of_candump_is_read(tmp_path):
    path = tmp_path / "candump.log"
    path.write_text(CANDUMP)
    got = read_log(path)
    assert [r.unit for r in got.records] == [
        Frame(0x123, bytes.fromhex("1122334455667788")),
        Frame(0x18DAF110, b"", extended=True),
        Frame(0x7FF, b"", remote=True),
        Frame(0x123, b"\x11\x22\x33", fd=True, brs=True),
        Frame(0x123, b"\xab", fd=True),
    ]  # without the error frame
    assert got.records[0].ns == 1345212884_318850_000
    assert candump_line(got.records[0], "can0") == CANDUMP.splitlines()[0]
    assert candump_line(got.records[3], "can0") == CANDUMP.splitlines()[3]
    assert candump_line(got.records[2], "can0") == CANDUMP.splitlines()[2]


def test_what_is_no_log_is_named_by_its_line(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(CANDUMP + "hello\n")
    with pytest.raises(BadRecording, match=r"line 7: 'hello'"):
        read_log(path)


@pytest.mark.parametrize("text", ["", "12#00", "123#1", "123#112", "xyz#11", "123", "123##", "1234567#00"])
def test_text_that_is_no_frame_is_none(text):
    assert frame_of(text) is None


def test_garbage_is_never_more_than_a_bad_recording(tmp_path):
    path = tmp_path / "garbage"
    for seed in range(200):
        noise = os.urandom(seed)
        path.write_bytes(log.head_line("can", "can0") + noise if seed % 2 else noise)
        try:
            read_log(path)
        except BadRecording:
            continue


@contextmanager
def files_of_at_most(size):
    """The system refuses what is longer (EFBIG), as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file_and_leaves_none(tmp_path):
    with files_of_at_most(0), pytest.raises(PortError, match=r"cannot record to .*/x"):
        Recording(Bus(), tmp_path / "x", "can")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_takes_nothing_is_not_removed():
    with pytest.raises(PortError, match="cannot record to /dev/full"):
        Recording(Bus(), "/dev/full", "can")
    assert Path("/dev/full").is_char_device()


def test_a_recording_that_the_disk_ended_says_so_and_the_line_goes_on(tmp_path):
    bus = Recording(Bus(), tmp_path / "x", "can")
    with files_of_at_most((tmp_path / "x").stat().st_size):
        bus.write([Frame(1, bytes(8))])
        bus.finish()
    assert bus.failed == "File too large"
    assert bus.read() == [Frame(2, bytes(8))]
    assert read_log(tmp_path / "x").records == ()
