"""The recorder writes down everything, and whatever happens to it or its disk costs the run nothing."""

import os
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
from mcap.reader import make_reader

from edgevla.control.exchange import Status
from edgevla.errors import BadInput
from edgevla.flight import encoding as form
from edgevla.flight.reader import observations_of, read_record, segments_of
from edgevla.flight.recorder import recorder_config
from edgevla.flight.segments import FlightFile
from tests.edgevla.flight.flown import Flight, Happens, write
from tests.edgevla.flight.recording import Recording


@pytest.fixture(scope="module")
def flight(tiny):
    return Flight(tiny, 120, Happens(status={40: Status.OLD_FRAME}))


def mounted(folder, size_mb):
    """An ext4 of its own on a loop device; skips, with the reason, where that is not permitted."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    for command in (
        ["truncate", "-s", f"{size_mb}M", image], ["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, place]
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs a loop mount (root): {command[0]}: {done.stderr.strip()}")
    return place


def test_everything_fed_is_read_back_bit_by_bit(tmp_path, flight):
    with Recording(tmp_path / "flight.mcap", flight.meta) as recording:
        recording.wait_for("recording")
        recording.event("armed")
        recording.feed(flight, pause_s=0.06)
        told = recording.end()
    assert told["lost"] == 0
    assert told["bytes"] == (tmp_path / "flight.mcap").stat().st_size
    record = read_record(tmp_path)
    assert (record.damage, record.cut, record.lost) == ((), False, {})
    assert record.ticks.tobytes() == flight.ticks.tobytes()
    assert record.inferences.tobytes() == flight.inferences.tobytes()
    assert [event["event"] for event in record.events] == ["armed"]
    assert record.meta["policy"] == "tiny"
    seen = list(observations_of(record))
    assert [wrong for _, _, wrong in seen] == [()] * len(flight.observations)
    for (row, got, _), fed in zip(seen, flight.observations, strict=True):
        assert int(row["tick"]) == fed.tick
        assert (got.frames["corner"].image == fed.frames["corner"].image).all()
        assert got.frames["corner"][:2] == fed.frames["corner"][:2]
        assert got.setpoints.tobytes() == fed.setpoints.tobytes()
        assert (got.chunk is None) == (fed.chunk is None)
        assert got.chunk is None or got.chunk.tobytes() == fed.chunk.tobytes()
    release = {int(row["tick"]): int(row["release"]) for row in record.chunks}
    assert (release[32], release[40], release[48]) == (34, -1, 50)  # k + d; none for the old frame


def test_any_mcap_reader_finds_the_topics_and_their_schemas(tmp_path, flight):
    with write(flight, tmp_path / "flight.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
    found = {c.topic: (c.message_encoding, summary.schemas[c.schema_id].encoding) for c in summary.channels.values()}
    assert found == {
        "/meta": ("json", "jsonschema"),
        "/events": ("json", "jsonschema"),
        "/ticks": ("edgevla-rows", "numpy-dtype"),
        "/inferences": ("edgevla-rows", "numpy-dtype"),
        "/observations": ("edgevla-rows", "numpy-dtype"),
        "/chunks": ("edgevla-rows", "numpy-dtype"),
        "/images/corner": ("cdr", "ros2msg"),
    }


def test_a_killed_recorder_leaves_a_record_up_to_its_last_second(tmp_path, flight):
    with Recording(tmp_path / "flight.mcap", flight.meta) as recording:
        recording.wait_for("recording")
        recording.feed(flight, pause_s=0.06)
        time.sleep(1.6)  # more than the second after which it flushes
        recording.process.kill()
        recording.process.wait()
        recording.feed(flight)  # the run goes on: nothing here waits for the dead
    record = read_record(tmp_path / "flight.mcap")
    assert record.cut
    assert record.damage == ()
    assert record.ticks.tobytes() == flight.ticks.tobytes()
    assert len(record.observations) == len(flight.observations)


@pytest.mark.parametrize("share", [0.15, 0.5, 0.999])
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_chunk(tmp_path, flight, share):
    path = tmp_path / "flight.mcap"
    file = FlightFile(path, flight.meta, 1 << 30)
    for first in range(0, 120, 10):
        file.rows(form.TICKS, flight.ticks[first : first + 10], 1)
        file.flush()
    file.finish()
    os.truncate(path, int(path.stat().st_size * share))
    record = read_record(path)
    assert record.cut
    assert record.damage == ()
    assert len(record.ticks) % 10 == 0
    assert record.ticks.tobytes() == flight.ticks[: len(record.ticks)].tobytes()
    assert (len(record.ticks) < 120) == (share < 0.9)


def test_a_full_disk_ends_the_record_and_nothing_else(tmp_path, flight):
    place = mounted(tmp_path, 1)
    try:
        with Recording(place / "flight.mcap", flight.meta) as recording:
            recording.wait_for("recording")
            for _ in range(40):
                recording.feed(flight, pause_s=0.002)
                if any(event["event"] == "recorder-failed" for event in recording.said):
                    break
                time.sleep(0.1)
                if (os.statvfs(place).f_bavail * 4096) < 4096:
                    break
            failed = recording.wait_for("recorder-failed")
            assert "No space left on device" in failed["message"]
            assert recording.process.poll() is None  # it keeps draining
            recording.feed(flight, pause_s=0.06)
            time.sleep(0.2)
            told = recording.end()
        assert told["lost_of"]["ticks"] >= 120
        assert told["lost_of"]["observations"] >= len(flight.observations)
        record = read_record(place)
        assert record.cut
        assert len(record.ticks) >= 120
        assert record.ticks[:120].tobytes() == flight.ticks.tobytes()
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_limit_on_the_size_of_files_is_an_error_and_no_death(tmp_path, flight):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with Recording(tmp_path / "flight.mcap", flight.meta, preexec=limit) as recording:
        recording.wait_for("recording")
        recording.feed(flight, pause_s=0.06)
        assert "File too large" in recording.wait_for("recorder-failed")["message"]
        assert recording.end()["lost"] > 0


def test_a_disk_that_stalls_costs_neither_the_run_nor_the_record(tmp_path, flight):
    place = mounted(tmp_path, 16)
    frozen = False
    try:
        with Recording(place / "flight.mcap", flight.meta) as recording:
            recording.wait_for("recording")
            subprocess.run(["fsfreeze", "-f", place], check=True)
            frozen = True
            recording.event("armed")
            begun = time.monotonic()
            recording.feed(flight, pause_s=0.1)  # as fast as a run makes observations: the ring holds 8
            assert time.monotonic() - begun < 15 * 0.1 + 2.0
            time.sleep(1.2)
            subprocess.run(["fsfreeze", "-u", place], check=True)
            frozen = False
            told = recording.end()
        assert told["lost"] == 0
        assert read_record(place).ticks.tobytes() == flight.ticks.tobytes()
    finally:
        if frozen:
            subprocess.run(["fsfreeze", "-u", place], check=True)
        subprocess.run(["umount", place], check=True)


def test_a_folder_that_is_not_there_fails_the_record_at_once(tmp_path, flight):
    with Recording(tmp_path / "none" / "flight.mcap", flight.meta) as recording:
        assert "No such file" in recording.wait_for("recorder-failed")["message"]
        recording.feed(flight, pause_s=0.06)
        time.sleep(0.2)
        assert recording.end()["lost_of"]["ticks"] == 120


def test_an_older_record_is_never_overwritten(tmp_path, flight):
    (tmp_path / "flight.mcap").write_bytes(b"precious")
    with Recording(tmp_path / "flight.mcap", flight.meta) as recording:
        assert "exists" in recording.wait_for("recorder-failed")["message"]
        recording.end()
    assert (tmp_path / "flight.mcap").read_bytes() == b"precious"


def test_rings_that_were_overrun_are_counted_in_the_file_and_in_the_report(tmp_path, flight):
    with Recording(tmp_path / "flight.mcap", flight.meta, capacity=50) as recording:
        recording.wait_for("recording")
        os.kill(recording.process.pid, signal.SIGSTOP)
        recording.feed(flight)  # 120 rows into a ring of 50, 15 observations into one of 8
        os.kill(recording.process.pid, signal.SIGCONT)
        time.sleep(0.3)
        told = recording.end()
    record = read_record(tmp_path)
    assert told["lost_of"]["ticks"] == record.lost["ticks"] == 120 - len(record.ticks) > 0
    assert told["lost_of"]["observations"] == record.lost["observations"] == 15 - len(record.observations) > 0


def test_the_newest_is_kept_when_the_limit_is_reached(tmp_path, flight):
    path = tmp_path / "flight.mcap"
    limit = 6 << 20
    file = FlightFile(path, flight.meta, limit)
    noise = np.random.default_rng(0)
    for number in range(2000):
        rows = flight.ticks[:100].copy()
        rows["tick"] = number
        rows["state"] = noise.standard_normal(rows["state"].shape)
        rows["setpoint"] = noise.standard_normal(rows["setpoint"].shape)
        rows["wake_ns"] = noise.integers(0, 1 << 62, 100)
        file.rows(form.TICKS, rows, number)
        if number % 50 == 49:
            file.flush()
    file.finish()
    kept = segments_of(tmp_path)
    assert len(kept) > 2
    total = sum(part.stat().st_size for part in kept)
    assert limit // 2 < total <= limit
    assert file.deleted_bytes > 0
    record = read_record(tmp_path)
    assert record.damage == ()
    ticks = record.ticks["tick"]
    assert ticks[-1] == 1999
    assert (np.diff(np.unique(ticks)) == 1).all()
    assert read_record(kept[0]).ticks["tick"][0] == ticks[0]  # any segment can be read alone


def test_events_may_stand_on_the_wall_clock_s_head_and_bad_lines_are_counted(tmp_path, flight):
    with Recording(tmp_path / "flight.mcap", flight.meta) as recording:
        recording.wait_for("recording")
        recording.tell_line("no json\n[1]\n")
        recording.tell_line('{"event": "half')
        recording.tell_line('-told"}\n')
        time.sleep(0.2)
        told = recording.end()
    assert told["lost_of"] == {"events": 2}
    (event,) = [e for e in read_record(tmp_path).events if e["event"] == "half-told"]
    assert abs(event["at_ns"] - time.monotonic_ns()) < 60e9  # stamped with CLOCK_MONOTONIC where it had no time


def test_the_recorder_yields_to_everybody(tmp_path, flight):
    with Recording(tmp_path / "flight.mcap", flight.meta) as recording:
        recording.wait_for("recording")
        pid = recording.process.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH


def test_a_bad_configuration_is_one_clear_error():
    with pytest.raises(BadInput, match="configuration of the recorder"):
        recorder_config('{"path": 1}')


def test_a_path_without_a_record_is_one_clear_error(tmp_path):
    with pytest.raises(BadInput, match=r"flight\.mcap"):
        read_record(tmp_path)
    (tmp_path / "flight.mcap").write_bytes(b"no mcap at all, but some bytes")
    with pytest.raises(BadInput, match="no readable meta"):
        read_record(tmp_path)
