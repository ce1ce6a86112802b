"""What is said of a run comes from its rows; a record is written whole or not at all."""

import json

import numpy as np
import pytest

from edgevla.control.exchange import Status
from edgevla.control.result import (
    RunResult,
    inference_figures,
    loop_figures,
    require_new_folder,
    write_record,
)
from edgevla.errors import Usage
from edgevla.telemetry.rows import inference_dtype, tick_dtype

TS = 0.0125  # s


def ticks(wake_us, write_us, skipped=0):
    rows = np.zeros(len(wake_us), tick_dtype(4, 4))
    rows["tick"] = rows["step"] = np.arange(len(wake_us))
    rows["deadline_ns"] = 1_000_000_000 + rows["tick"] * 12_500_000
    rows["wake_ns"] = rows["deadline_ns"] + np.array(wake_us) * 1000
    rows["write_ns"] = np.where(np.array(write_us) < 0, 0, rows["deadline_ns"] + np.array(write_us) * 1000)
    rows["skipped"][-1] = skipped
    return rows


def test_a_first_byte_after_half_a_period_a_withheld_command_and_a_skipped_period_are_misses():
    rows = ticks([10, 20, 30, 40], [100, 6250, 6251, -1], skipped=2)
    figures = loop_figures(rows, TS, link_late=1)
    assert figures["misses"] == 1 + 1 + 2
    assert figures["late_commands"] == 1
    assert figures["skipped_periods"] == 2
    assert (figures["wake_p50_us"], figures["wake_max_us"]) == (20.0, 40.0)
    assert figures["write_max_us"] == 6251.0


def test_a_run_that_never_armed_has_no_latencies():
    figures = loop_figures(np.zeros(0, tick_dtype(4, 4)), TS, 0)
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
    return RunResult("duration reached", 0, False, {"seed": 3}, rows, inferences, np.zeros((1, 2, 2, 3), np.uint8))


def test_a_record_holds_the_summary_and_the_arrays(tmp_path):
    folder = tmp_path / "a" / "record"
    write_record(folder, result())
    assert json.loads((folder / "run.json").read_text())["seed"] == 3
    assert np.load(folder / "ticks.npy").shape == (2,)
    assert np.load(folder / "frames.npy").shape == (1, 2, 2, 3)
    assert [entry.name for entry in folder.parent.iterdir()] == ["record"]


def test_a_record_that_cannot_be_finished_leaves_nothing(tmp_path):
    broken = result()
    object.__setattr__(broken, "figures", {"nan": float("nan")})
    with pytest.raises(ValueError):
        write_record(tmp_path / "record", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_never_overwritten(tmp_path):
    require_new_folder(tmp_path / "new")
    require_new_folder(tmp_path)
    (tmp_path / "precious").write_text("x")
    with pytest.raises(Usage, match="new or empty"):
        require_new_folder(tmp_path)
