"""What is said of a run comes from its rows; a record is written whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.result import (
    RunResult,
    bus_stop,
    inference_figures,
    latched_stop,
    loop_figures,
    make_record,
    policy_stop,
    require_new_folder,
    servo_ended_stop,
    servo_hangs_stop,
    write_record,
)
from edgevla.errors import BadInput, Usage, explain
from edgevla.telemetry.rows import inference_dtype, tick_dtype

TS = 0.0125  # s


def ticks(wake_us, write_us, skipped=0):
    rows = np.zeros(len(wake_us), tick_dtype(4, 4))
    rows["tick"] = rows["step"] = np.arange(len(wake_us))
    rows["deadline_ns"] = 1_000_000_000 + rows["tick"] * 12_500_000
    rows["wake_ns"] = rows["deadline_ns"] + np.array(wake_us) * 1000
    rows["write_ns"] = np.where(np.array(write_us) < 0, 0, rows["deadline_ns"] + np.array(write_us) * 1000)
    rows["skipped"][-1] = skipped
    rows["phase"] = Phase.TRACK
    return rows


def test_a_first_byte_after_half_a_period_a_withheld_command_and_a_skipped_period_are_misses():
    rows = ticks([10, 20, 30, 40], [100, 6250, 6251, -1], skipped=2)
    figures = loop_figures(rows, TS, 0.0125, expired=1)
    assert figures["misses"] == 1 + 1 + 2
    assert (figures["late_commands"], figures["expired_commands"]) == (0, 1)
    assert figures["skipped_periods"] == 2
    assert (figures["wake_p50_us"], figures["wake_max_us"]) == (20.0, 40.0)
    assert figures["write_max_us"] == 6251.0


def test_a_write_that_returns_after_the_expiry_is_a_late_command():
    figures = loop_figures(ticks([10, 10], [12_500, 12_501]), TS, 0.0125, expired=0)
    assert figures["late_commands"] == 1


def test_a_run_that_never_armed_has_no_latencies():
    figures = loop_figures(np.zeros(0, tick_dtype(4, 4)), TS, 0.0125, 0)
    assert figures["ticks"] == 0
    assert figures["wake_p999_us"] is None
    assert inference_figures(np.zeros(0, inference_dtype()))["latency_p50_ms"] is None


def test_only_sound_inferences_are_timed_and_all_are_counted():
    rows = np.zeros(3, inference_dtype())
    rows["status"] = [Status.OK, Status.OLD_FRAME, Status.OK]
    rows["infer_ns"] = [1_000_000, 9_000_000, 3_000_000]
    figures = inference_figures(rows)
    assert figures["statuses"] == {"ok": 2, "old_frame": 1}
    assert figures["infer_max_ms"] == 3.0


def result():
    rows, inferences = np.zeros(2, tick_dtype(4, 4)), np.zeros(1, inference_dtype())
    return RunResult("duration reached", 0, False, {"seed": 3}, rows, inferences)


def test_a_record_holds_the_summary(tmp_path):
    folder = make_record(tmp_path / "a" / "record")
    write_record(folder, result())
    assert json.loads((folder / "run.json").read_text())["seed"] == 3
    assert [entry.name for entry in folder.iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_finished_leaves_nothing(tmp_path):
    broken = result()
    object.__setattr__(broken, "figures", {"nan": float("nan")})
    with pytest.raises(ValueError):
        write_record(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_never_overwritten(tmp_path):
    require_new_folder(tmp_path / "not" / "yet" / "new")
    require_new_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []  # tried, and nothing left
    (tmp_path / "precious").write_text("x")
    with pytest.raises(Usage, match=r"got: +files in it"):
        require_new_folder(tmp_path)
    with pytest.raises(Usage, match=r"got: +a file"):
        require_new_folder(tmp_path / "precious")


@pytest.mark.parametrize("place", ["/dev/null/record", "/dev/null/a/record", "/proc/record"])
def test_a_place_where_no_folder_can_be_made_is_bad_input_before_the_run(place):
    with pytest.raises(BadInput, match=r"to do: +choose another --record"):
        require_new_folder(Path(place))


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_record(make_record(tmp_path / "link"), result())
    assert (tmp_path / "there" / "run.json").exists()


INFERENCES = {"statuses": {"ok": 3, "old_frame": 9}, "latency_p999_ms": 21.5}
LATCHED = {"released": 2, "lost_in_a_row": 9, "release_misses": 9, "passed_over": 1}
LOOP = {"misses": 7, "servo_steps": 80}


@pytest.mark.parametrize(
    ("stop", "code", "reason", "told"),
    [
        (latched_stop(LATCHED, INFERENCES, "", 0.5, 32, 2), 1, "latched: chunk ran out after 9 misses", "9 old_frame"),
        (latched_stop({}, INFERENCES, "", 0.5, 32, 2), 1, "latched: no chunk within 0.5 s of arming", "edgevla check"),
        (latched_stop({}, INFERENCES, "boom", 0.5, 32, 2), 4, "latched: no chunk", "edgevla bundle verify"),
        (bus_stop("no reply from the arm for 501 ms", LOOP), 5, "bus: no reply", "7 servo misses in 80 steps"),
        (bus_stop(explain("dead", "a line", "none", "plug it in"), LOOP), 5, "bus: dead", "plug it in"),
        (servo_ended_stop("exit code -9", ""), 5, "servo process: exit code -9", "last words: none"),
        (servo_hangs_stop("no step for 1 s", 0.1), 5, "the servo process hangs", "the arm's own watchdog holds it"),
        (servo_hangs_stop("no step for 1 s", None), 5, "the servo process hangs", "switch it off"),
        (policy_stop("hung", 4, 1.0, "MemoryError"), 4, "the policy process hung 4 times", "MemoryError"),
    ],
)
def test_every_way_a_run_breaks_says_what_was_expected_what_came_and_what_to_do(stop, code, reason, told):
    assert stop.code == code
    assert stop.reason.startswith(reason)
    assert "\n" not in stop.reason
    first, *rest = stop.error.splitlines()
    assert first == stop.reason
    assert [line.split(":")[0].strip() for line in rest] == ["expected", "got", "to do"]
    assert told in stop.error
