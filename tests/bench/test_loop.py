"""bench/loop: histograms, the order of windows, the rows of a result, and real windows of both contenders."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import profiles
from bench.cli import app
from bench.loop import bus, cyclictest
from bench.loop.histogram import expanded, merged, of_ns, packed, quantile, tail, unpacked
from bench.loop.load import KINDS, UNITS, loaded
from bench.loop.ours import blank_row, measure, spin_until
from bench.loop.report import rows, table
from bench.loop.windows import OURS, YARDSTICK, Design, Window, busy_tail, check_design, contend, largest_duty, schedule
from edgevla.errors import DeviceFault, Unsound, Usage
from edgevla.telemetry.rows import Rows, tick_dtype
from profiles.bridge import wire_s

DESIGN = Design((200, 1000), ("idle", "disk"), 3, {200: 1000, 1000: 1000}, core=1, load_core=0, seed=5)


def window(round_, contender, histogram, load="idle", **changes):
    given = Window(round_, 1000, load, contender, True, histogram, 0, 0.0, 0.0, 0.02, True)
    return replace(given, **changes)


def test_a_histogram_counts_whole_microseconds_rounded_down():
    assert of_ns([0, 999, 1000, 1999, 2000]) == {0: 2, 1: 2, 2: 1}


def test_a_time_before_its_deadline_counts_as_on_time():
    assert of_ns([-5000]) == {0: 1}


def test_quantiles_of_a_histogram_are_those_of_its_samples():
    samples = np.random.default_rng(0).integers(0, 300, 5000)
    histogram = of_ns(samples * 1000)
    assert expanded(histogram).tolist() == sorted(samples)
    # nearest rank: the 4,950th and the 4,995th of 5,000
    assert quantile(histogram, 0.99) == sorted(samples)[4949]
    assert tail(histogram).p999_us == sorted(samples)[4994]


def test_histograms_add_up_and_survive_the_file():
    both = merged([{1: 2, 7: 1}, {7: 3}])
    assert both == {1: 2, 7: 4}
    assert packed(both) == "1:2 7:4"
    assert unpacked("1:2 7:4") == both


def test_every_case_has_both_contenders_once_a_round():
    order = schedule(DESIGN)
    windows = [(index, load, rate, who) for index, load, pairs in order for rate, pair in pairs for who in pair]
    assert len(windows) == len(set(windows)) == 3 * 2 * 2 * 2


def test_the_order_is_drawn_from_the_seed_and_changes():
    assert schedule(DESIGN) == schedule(DESIGN)
    firsts = {pair[0] for seed in range(8) for _, _, pairs in schedule(replace(DESIGN, seed=seed)) for _, pair in pairs}
    assert firsts == {OURS, YARDSTICK}


@pytest.mark.parametrize("change", [{"core": 0}, {"core": 99}, {"loads": ("noise",)}, {"rates_hz": (5000,)}])
def test_a_design_that_measures_nothing_is_refused(change):
    with pytest.raises(Usage):
        check_design(replace(DESIGN, **change))


def test_a_row_has_the_median_window_of_each_and_the_spread_of_the_ratios():
    ours = [{20: 990, 60: 10}, {20: 989, 90: 11}, {20: 989, 50: 11}]  # p99: 20, 90, 50
    theirs = [{10: 989, 40: 11}, {10: 989, 30: 11}, {10: 989, 50: 11}]  # p99: 40, 30, 50
    windows = [window(i, OURS, h) for i, h in enumerate(ours)] + [window(i, YARDSTICK, h) for i, h in enumerate(theirs)]
    (row,) = rows(windows)
    assert (row["rate_hz"], row["load"], row["windows"]) == (1000, "idle", 3)
    assert (row["ours_p99_us"], row["cyclictest_p99_us"]) == (50, 40)
    assert row["ratio_p99"] == {"median_window": 1.25, "median": 1.0, "low": 0.5, "high": 3.0}
    assert row["pooled"]["ours"]["p999_bound_us"] is None  # 3,000 samples bound no p99.9
    assert row["ratio_p999"]["median_window"] == 1.5  # 60 against 40
    assert table([row])[0][-1] == "kept"
    assert json.dumps(row)


def test_a_tail_above_the_goal_is_missed():
    (row,) = rows([window(0, OURS, {20: 990, 61: 10}), window(0, YARDSTICK, {20: 990, 40: 10})])
    assert row["ratio_p99"]["median_window"] == 1.0
    assert table([row])[0][-1] == "MISSED"


def test_the_maximum_is_told_and_never_judged():
    calm, stalled = {20: 1000}, {20: 999, 40_000: 1}
    (row,) = rows([window(0, OURS, stalled), window(0, YARDSTICK, calm)])
    assert row["ours_max_us"] == 40_000
    assert row["kept"]


def test_windows_with_stolen_time_are_marked():
    windows = [window(0, OURS, {1: 1000}, stolen_s=0.02), window(0, YARDSTICK, {1: 1000})]
    assert rows(windows)[0]["windows_with_stolen_time"] == 1
    assert windows[0].as_dict()["marked"] is True


def test_all_windows_together_bound_the_p999():
    windows = [window(i, who, {20: 1600}) for i in range(3) for who in (OURS, YARDSTICK)]
    assert rows(windows)[0]["pooled"]["ours"]["p999_bound_us"] == 20


def test_cycles_beyond_cyclictests_histogram_count_as_its_maximum():
    text = json.dumps({"thread": {"0": {"histogram": {"12": 7, "13": 2}, "cycles": 10, "max": 123456}}})
    assert cyclictest.parse(text) == {12: 7, 13: 2, 123456: 1}


@pytest.mark.parametrize("text", ["", "{}", '{"thread": {"0": {"histogram": {"a": 1}, "cycles": 1, "max": 1}}}', "[]"])
def test_json_of_another_form_is_unsound(text):
    with pytest.raises(Unsound):
        cyclictest.parse(text)


def test_no_cyclictest_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceFault, match="rt-tests"):
        cyclictest.version()


def test_our_loop_notes_one_row_a_period_and_never_wakes_early():
    dtype = tick_dtype(4, 4)
    kept = Rows.create(dtype, 50)
    measure(kept, blank_row(dtype), 2_000_000, 50)
    found = kept.newest()
    kept.close()
    assert len(found) == 50
    assert (found["wake_ns"] >= found["deadline_ns"]).all()
    assert (np.diff(found["step"]) >= 1).all()
    assert (np.diff(found["deadline_ns"]) == np.diff(found["step"]) * 2_000_000)[:-1].all() or found["step"][-1] > 49


@pytest.mark.parametrize(("runtime", "share"), [("950000", 0.95), ("-1", 1.0)])
def test_the_busy_tail_respects_the_kernels_throttle(tmp_path, runtime, share):
    (tmp_path / "sched_rt_runtime_us").write_text(runtime)
    (tmp_path / "sched_rt_period_us").write_text("1000000")
    assert largest_duty(tmp_path) == share


def test_a_busy_tail_that_would_be_throttled_is_refused(tmp_path):
    with pytest.raises(Usage, match="throttled"):
        busy_tail(7000, 100, 0, tmp_path)


def test_a_busy_tail_ends_at_the_deadline():
    deadline_ns = time.monotonic_ns() + 3_000_000
    assert spin_until(deadline_ns, 1_000_000) >= deadline_ns


@pytest.mark.skipif(shutil.which("cyclictest") is None, reason="cyclictest (rt-tests) is not installed")
def test_a_real_window_of_each_contender(tmp_path):
    theirs, *_ = contend(YARDSTICK, 1000, 300, 0, tmp_path)
    try:
        ours, skipped, share, _ = contend(OURS, 1000, 300, 0, tmp_path)
    except Unsound as refused:
        pytest.skip(f"no real-time class here: {refused}")
    assert sum(theirs.values()) == sum(ours.values()) == 300
    assert skipped >= 0
    assert 0 < share < 1


def test_a_window_that_is_not_granted_its_class_is_unsound(tmp_path):
    with pytest.raises(Unsound, match="core 4095"):
        contend(OURS, 1000, 100, 4095, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_load_works_and_says_how_much(kind, tmp_path):
    with loaded((kind,), 0, folder=str(tmp_path)) as loads:
        time.sleep(0.2)
    assert loads.worked[kind]["amount"] > 0
    assert loads.worked[kind]["unit"] == UNITS[kind]


def test_a_load_that_cannot_work_is_unsound(tmp_path):
    with pytest.raises(Unsound, match="'disk' does not work"), loaded(("disk",), 0, folder=str(tmp_path / "none")):
        pass


def test_the_loop_with_a_bus_gets_the_reply_to_each_command(tmp_path):
    found = bus.measure(100, 100, 1, 0, tmp_path)
    replied = found["round_trip"]["count"]
    assert found["link"]["sent"] + found["link"]["late"] == 200  # 100 of them to warm up
    assert replied + found["no_reply_in_half_a_period"] == 100
    assert replied >= 10  # none, were the replies taken for those of other commands
    assert 0 < found["wire_efficiency"] < 1
    assert found["wire_us"] == pytest.approx(1e6 * wire_s(profiles.load_arm(bus.ARM)))


def test_a_design_from_the_command_line_is_checked_before_anything_starts():
    for arguments in (["--rates", "fast"], ["--loads", "noise"], ["--core", "0"]):
        done = CliRunner().invoke(app, ["loop", *arguments])
        assert isinstance(done.exception, Usage)


def test_our_window_is_a_process_that_says_what_it_was_granted(tmp_path):
    out = tmp_path / "ours.npy"
    line = ["--rate-hz", "1000", "--samples", "50", "--core", "0", "--out", str(out)]
    done = subprocess.run([sys.executable, "-m", "bench.loop.ours", *line], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert set(told["granted"]) >= {"fifo_priority", "memory_locked", "shallow_idle"}
    assert np.load(out).shape == (50,)
