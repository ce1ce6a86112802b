"""`edgevla profile` on the tiny bundle: a real cold start, a real traced run, real graphs; no word on speed."""

import json
import shutil
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench.profile.command import profile
from bench.roofline import run
from bench.roofline.peaks import measure_peaks
from edgevla.errors import BadInput
from tests.bench.test_report import Page
from tests.bench.trace_format import broken_rules

ROOT = Path(__file__).parents[2]
CLI = CliRunner()
APP = typer.Typer()
APP.command()(profile)
STAGES = (
    "capture", "age", "preprocess", "graph:vision", "graph:head", "postprocess", "reply", "release", "wake", "bus",
    "ack", "sensor-to-bus",
)  # fmt: skip


@pytest.fixture(scope="module")
def patient_arm(tmp_path_factory):
    """The reference arm, but a stalled test machine must not look like a stalled camera or policy."""
    text = (ROOT / "profiles" / "arms" / "metaworld-sawyer.toml").read_text()
    for line, patient in (
        ("max_state_age_s = 0.050", "max_state_age_s = 10.0"),
        ("max_age_s = 0.100", "max_age_s = 10.0"),
        ("max_skew_s = 0.075", "max_skew_s = 10.0"),
        ("hold_s = 0.5", "hold_s = 30.0"),
    ):
        assert line in text
        text = text.replace(line, patient)
    path = tmp_path_factory.mktemp("arm") / "patient.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def slow_target(tmp_path_factory):
    """Not pinned, and with a bound that a busy test machine keeps."""
    text = (ROOT / "tests" / "loose_target.toml").read_text()
    assert "latency_budget_s = 0.025" in text
    path = tmp_path_factory.mktemp("target") / "slow.toml"
    path.write_text(text.replace("latency_budget_s = 0.025", "latency_budget_s = 0.1"))
    return path


@pytest.fixture(scope="module")
def written(tiny_bundle_path, slow_target, patient_arm, tmp_path_factory):
    """The folder of one profile, and what it printed with --json."""
    out = tmp_path_factory.mktemp("profile")
    small = partial(measure_peaks, calls=2, shapes=((64, 256, 256),), copy_bytes=1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure_peaks", small)
        arguments = ["--bundle", tiny_bundle_path, "--target", slow_target, "--arm", patient_arm, "-o", out]
        arguments += ["--seconds", "1.5", "--rounds", "50", "--best-effort", "--json"]
        done = CLI.invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return out, json.loads(done.stdout)


def test_the_profile_holds_every_stage_operator_process_and_step(written):
    out, told = written
    assert json.loads((out / "profile.json").read_text()) == told
    assert told["schema"] == "edgevla.profile/1"
    assert set(STAGES) <= set(told["stages"])
    assert all(row["p50_us"] <= row["max_us"] and row["count"] > 0 for row in told["stages"].values())
    assert {"run", "policy", "servo", "recorder"} <= set(told["memory"]["processes"])
    assert told["memory"]["peak_rss_bytes"] == sum(told["memory"]["processes"].values())
    assert told["memory"]["arena_bytes"] > 0
    assert set(told["memory"]["per_stage"]) == {"graph:vision", "graph:head"}
    assert told["host"]["cores_usable"] >= 1
    assert "/" not in told["target"]  # no path of this machine


def test_every_operator_is_named_and_their_shares_are_one(written):
    rows = written[1]["operators"]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0, abs=1e-3)
    assert all(row["name"] and row["type"] and row["bytes"] > 0 for row in rows)
    assert any(row["origin"] for row in rows)
    assert sum(row["macs"] for row in rows) > 0


def test_the_cold_start_is_told_step_by_step(written):
    start = written[1]["startup"]
    assert 0 < start["import_s"] < start["first_command_s"]
    assert 0 < start["load_s"] < start["first_command_s"]
    assert start["kept"] == (start["first_command_s"] <= start["goal_s"] == 3.0)
    ends = [step["end_s"] for step in start["steps"] if step["process"] == "policy"]
    assert ends == sorted(ends)
    assert max(ends) <= start["first_command_s"]
    assert all("edgevla" in cost["packages"] for cost in start["imports"].values())


def test_each_graph_has_its_place_under_the_roofline(written):
    roof = written[1]["roofline"]
    assert [one["name"] for one in roof["graphs"]] == ["vision", "head"]
    assert all(one["bound"] in ("compute", "memory") and one["floor_us"] > 0 for one in roof["graphs"])
    assert sum(row["share_of_time"] for row in roof["classes"]) == pytest.approx(1.0)


def test_the_trace_is_one_that_viewers_load(written):
    trace = json.loads((written[0] / "trace.json").read_text())
    assert broken_rules(trace) == []
    slices = {event["name"] for event in trace["traceEvents"] if event["ph"] == "X"}
    assert {"frame", "inference", "graph:head", "MatMul", "track", "send", "exchange", "chunk waits"} <= slices
    flows = [event for event in trace["traceEvents"] if event["ph"] == "s" and event["pid"] == 1]
    assert flows, "an arrow begins at a frame"
    assert trace["otherData"]["clock"] == "CLOCK_MONOTONIC"


def test_the_page_is_well_formed_and_fetches_nothing(written):
    html = (written[0] / "profile.html").read_text()
    page = Page(html)
    assert page.open == []
    assert all(load.startswith("#") for load in page.loads)
    assert {load[1:] for load in page.loads} <= page.ids
    assert "script" not in page.tags
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "graph:head" in page.text


@pytest.mark.parametrize("width", [400, 1600])
def test_a_browser_draws_the_page(written, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine: the page was checked as text only")
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    where = [f"--user-data-dir={tmp_path / 'user'}", f"--screenshot={picture}", f"--window-size={width},3000"]
    page = (written[0] / "profile.html").as_uri()
    subprocess.run([browser, *flags, *where, page], check=True, capture_output=True, timeout=120)
    assert struct.unpack_from(">II", picture.read_bytes(), 16)[1] == 3000
    assert picture.stat().st_size > 50_000  # an empty page of this size compresses to some 10 kB


def test_what_is_no_bundle_is_bad_input(tmp_path):
    assert isinstance(CLI.invoke(APP, ["--bundle", str(tmp_path)]).exception, BadInput)


def test_a_start_that_is_refused_says_why_and_writes_nothing(tiny_bundle_path, slow_target, patient_arm, tmp_path):
    arguments = ["--bundle", tiny_bundle_path, "--target", slow_target, "--arm", patient_arm, "-o", tmp_path / "out"]
    done = CLI.invoke(APP, [*map(str, arguments), "--instruction", "dance on the table", "--best-effort"])
    assert isinstance(done.exception, BadInput)
    assert "outside the vocabulary" in str(done.exception)
    assert not (tmp_path / "out").exists()
