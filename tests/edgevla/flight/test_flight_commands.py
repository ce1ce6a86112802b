"""`edgevla flight` and `edgevla replay` on a record: what is printed, what the page holds, and how errors exit."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgevla.cli.flight import flight
from edgevla.cli.replay import replay
from edgevla.control.exchange import Status
from edgevla.errors import BadInput, Refused, Usage
from edgevla.flight.moments import moments_of, sparkline, window_of
from edgevla.flight.reader import read_record
from tests.edgevla.flight.flown import PERIOD_NS, Flight, Happens, write
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def record(tiny, tmp_path_factory):
    happens = Happens(
        status=dict.fromkeys(range(120, 400), Status.OLD_FRAME), oversleep={60: 3}, unsent=range(80, 82)
    )  # fmt: skip
    flown = Flight(tiny, 200, happens)
    at_ns = int(flown.ticks["deadline_ns"][0]) + 130 * PERIOD_NS
    flown.events.append({"event": "camera-stalled", "at_ns": at_ns, "name": "corner <b>", "age_s": 0.3})
    return write(flown, tmp_path_factory.mktemp("run") / "flight.mcap")


def called(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)


def test_flight_prints_the_stop_then_what_led_to_it(record):
    result = called(flight, record)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("latched at tick ")
    for text in ("old_frame", "the servo overslept 3 periods", "2 commands had expired", "camera-stalled", "SLOW"):
        assert text in result.stdout, text
    assert re.search(r"│ x +│ set-point │ m", result.stdout)


def test_the_window_is_as_long_as_asked(record):
    flown = read_record(record)
    short, long = (window_of(flown, seconds) for seconds in (0.5, 50.0))
    assert short.before_s.max() == pytest.approx(0.5, abs=PERIOD_NS / 1e9)
    assert len(long.rows) > len(short.rows) == pytest.approx(0.75 * 80, abs=2)  # a quarter of a second behind the stop
    seconds = [moment.before_s for moment in moments_of(flown, long)]
    assert seconds == sorted(seconds, reverse=True)


def test_json_holds_the_same(record):
    told = json.loads(called(flight, record.parent, "--json", "--last", 1).stdout)
    assert told["stop"].startswith("latched at tick")
    assert told["stopped"] is True
    assert {moment["kind"] for moment in told["moments"]} >= {"phase", "inference", "event"}


def test_the_page_is_one_whole_file_that_fetches_nothing(record, tmp_path):
    page = tmp_path / "stop.html"
    assert called(flight, record, "--html", page).exit_code == 0
    text = page.read_text()
    assert "latched at tick" in text
    assert "corner &lt;b&gt;" in text  # what was recorded is never markup
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert len([path for path in root.iter("path") if path.get("d").startswith("M")]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["stop.html"]


def test_numbers_that_are_not_finite_leave_a_gap_in_a_curve(tiny, tmp_path):
    flown = Flight(tiny, 60, Happens(stop=30))
    flown.ticks["state"][20:25] = np.nan
    page = tmp_path / "stop.html"
    assert called(flight, write(flown, tmp_path / "flight.mcap"), "--html", page).exit_code == 0
    assert "nan" not in page.read_text().lower()
    assert sparkline(np.array([0.0, 1.0, np.nan, 0.5])) == "▁█ ▅"
    assert sparkline(np.full(3, np.nan)) == "   "


def test_bad_options_and_files_are_one_clear_error(record, tmp_path):
    assert isinstance(called(flight, record, "--last", 0).exception, Usage)
    assert isinstance(called(flight, tmp_path).exception, BadInput)
    assert isinstance(called(replay, tmp_path).exception, BadInput)


def test_replay_of_a_sound_record_is_equal_bit_by_bit_and_says_on_what(record, tiny):
    result = called(replay, record, "--bundle", tiny)
    assert result.exit_code == 0, result.output
    assert "policy compared bit by bit: CPU as recorded, ONNX Runtime as recorded" in result.stdout
    told = json.loads(called(replay, record, "--bundle", tiny, "--json").stdout)
    assert told["equal"] is True
    assert told["terms"]["same_bundle"] is True
    assert told["schedule"]["compared"] == 197  # 200 less 3 that were overslept


def test_replay_with_another_bundle_names_the_first_inference_that_differs(record, tiny, tmp_path):
    other = write_tiny_bundle(tmp_path / "other.bundle", name="other", start_low=[-0.4, 0.40, 0.05, -1.0]).path
    result = called(replay, record, "--bundle", other)
    assert "this is not the bundle that was flown" in result.stdout  # the same graphs under another name
    assert result.exit_code == 0


def test_replay_exits_with_the_first_difference_of_both_halves(tiny, tmp_path):
    flown = Flight(tiny, 100)
    flown.ticks["phase"][70] = 4
    seen = flown.observations[5]
    setpoints = seen.setpoints.copy()
    setpoints.view(np.uint32)[9, 0] ^= 1
    flown.observations[5] = replace(seen, setpoints=setpoints)
    path = write(flown, tmp_path / "flight.mcap")
    result = called(replay, path, "--bundle", tiny)
    assert isinstance(result.exception, Refused)
    assert "replay differs first at tick 40, setpoints[9, 0]" in str(result.exception)
    result = called(replay, path)
    assert isinstance(result.exception, Refused)
    assert "tick 48, prefix[1, 0]" in str(result.exception)  # row 9 of chunk 40 is tick 49, which 48 foretold


def test_replay_of_a_damaged_file_names_the_chunk(tiny, tmp_path):
    path = write(Flight(tiny, 100), tmp_path / "flight.mcap")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    result = called(replay, path)
    assert isinstance(result.exception, BadInput)
    assert "the flight record" in str(result.exception)
