"""The guard's report: what it says of a run, and that a browser shows it without asking for more."""

import json

import numpy as np
import pytest

from bench.guard.budget import Budget, Limit, Soundness
from bench.guard.command import _setup
from bench.guard.document import guarded
from bench.guard.drive import Segment
from bench.guard.stages import stage_names
from bench.report.guard_command import page as page_command
from bench.report.guard_page import Source, as_text, page, read, verdict, write
from edgevla.errors import BadInput, Usage
from tests.bench.browser import Browser, chromium
from tests.bench.test_report import Page
from tests.tiny_bundle import write_tiny_bundle

SLOW = ("age", "preprocess", "graph:vision", "graph:head", "postprocess", "policy", "reply", "release", "sensor-to-bus")
ORIN = {"mean_w": {"VDD_IN": 4.264}, "samples": 30, "max_celsius": {"tj": 51.5}}
PAIRS = {
    "schema": "edgevla.pairs/1",
    "base": "0123456789abcdef",
    "outcomes": [
        {
            "path": "servo step",
            "verdict": "slower",
            "ratio": {"median": 1.21, "low": 1.18, "high": 1.24, "rounds": 80},
            "control": {"median": 1.001, "low": 0.99, "high": 1.01, "rounds": 80},
            "why": "",
        },
        {"path": "new codec", "verdict": "lacking", "ratio": None, "control": None, "why": "no module named codec"},
    ],
}


def segment(setup, slower, seed):
    """Invented times of every stage: what the report says of them is what is tested."""
    random = np.random.default_rng(seed)
    series = {}
    for at, name in enumerate(stage_names(setup.graphs)):
        count = 300 if name in SLOW else 2400
        series[name] = slower * 1e5 * (1 + at) * random.lognormal(0.0, 0.4, count)
    wake_us = (series["wake"] / 1e3).astype(int).tolist()
    facts = {
        "key": setup.key(),
        "wall_s": 33.0,
        "stolen_s": 0.01,
        "machine": [],
        "missing": [],
        "stop": {"reason": "", "code": 0, "operator": False},
        "past_expiry_ns": [],
        "commands": 2400,
        "misses": {"servo": 2, "released": 300, "release_misses": 1, "passed_over": 0},
        "ladder": [
            {"at_s": at_s, "tick": round(at_s / 0.0125), "phase": phase}
            for at_s, phase in ((0.0, "start"), (0.1, "track"), (12.0, "slow"), (12.2, "hold"), (13.0, "track"))
        ],
        "ticks": {
            "first_step": 200,
            "period_us": 12500.0,
            "wake_us": wake_us,
            "write_us": wake_us,
            "release_misses": [400, 401, 1000],
            "servo_misses": [7],
        },
        "memory": {"policy_resident_mb": 79.2, "policy_limit_mb": 1024},
        "energy": None,
    }
    return Segment(series, facts)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Documents that `bench.guard` itself makes of invented times: kept, broken, not sound, over its limits."""
    folder = tmp_path_factory.mktemp("bundle")
    write_tiny_bundle(folder / "tiny.bundle")
    setup = _setup(folder / "tiny.bundle", "", "", "none", 2.0, "")
    host = {"cpu": "Test CPU", "measured_at": "2026-01-01 00:00 UTC"}

    def document(limit_us, slower=1.0, quantile=0.99):
        budget = Budget((Limit("wake", quantile, limit_us),), Soundness())
        segments = [segment(setup, slower, seed) for seed in (1, 2)]
        return {**json.loads(json.dumps(guarded(setup, budget, segments, host).document)), "synthetic": True}

    return {
        "kept": document(1e6),
        "broken": document(1500.0),
        "unsound": document(1e6, quantile=0.99999),
        "over": document(10.0, quantile=0.99999),
        "slower": document(1e6, slower=2.0),
    }


def read_page(source):
    found = Page(page(source))
    assert found.open == []
    assert {load[1:] for load in found.loads} <= found.ids
    assert "script" not in found.tags
    return found.text


@pytest.mark.parametrize(
    ("name", "headline", "kind"),
    [
        ("kept", "Kept", "good"),
        ("broken", "Broken: wake p99", "bad"),
        ("unsound", "Not measured soundly", "open"),
        ("over", "Not sound, and over its limits", "bad"),
    ],
)
def test_the_verdict_stands_on_top_with_its_reasons(made, name, headline, kind):
    said = verdict(made[name])
    assert (said.headline, said.kind) == (headline, kind)
    text = read_page(Source(made[name]))
    assert text.index(headline) < text.index("claims kept") < text.index("Proved")
    for reason in made[name]["unsound_because"]:
        assert reason in text
    assert headline in as_text(Source(made[name])).splitlines()[2]


def test_every_claim_stands_under_its_kind_with_limit_value_and_slack(made):
    text = as_text(Source(made["kept"]))
    proved, bounded, observed = (text.index(f"### {word}") for word in ("Proved", "Bounded", "Observed"))
    claim = next(c for c in made["kept"]["claims"] if c["name"] == "wake p99")
    assert claim["effective_samples"] > 459
    line = next(line for line in text[bounded:observed].splitlines() if line.startswith("| wake p99 | kept |"))
    assert "| 1.00 s |" in line
    assert f"| 4,800 | {claim['effective_samples']:,.0f} | 99 % |" in line
    assert "| horizon | kept | " in text[proved:bounded]
    assert "late commands" in text[observed:]


def test_page_and_markdown_hold_the_same_tables(made):
    source = Source(made["kept"], [made["slower"], PAIRS], ORIN)
    text, markdown = read_page(source), as_text(source)
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) > 100
    for row in rows:
        for cell in row:
            assert cell.strip("*:- ").replace("\\|", "|") in text


def test_a_tail_is_called_an_estimate_wherever_it_stands(made):
    markdown = as_text(Source(made["kept"]))
    tail = markdown[markdown.index("## Tail (estimate)") : markdown.index("## Memory")]
    rows = [line for line in tail.splitlines() if line.startswith("| wake")]
    assert len(rows) == 1
    assert "(estimate)" in rows[0]
    short = {**made["kept"], "stages": {n: {**s, "tail": None} for n, s in made["kept"]["stages"].items()}}
    assert "Missing:" in read_page(Source(short))


def test_another_run_stands_beside_it_without_a_verdict(made):
    markdown = as_text(Source(made["slower"], [made["kept"]]))
    beside = markdown[markdown.index("## Beside base") : markdown.index("## Ticks")]
    assert "not paired" in beside
    row = next(line for line in beside.splitlines() if line.startswith("| wake |"))
    assert row.count("2.00×") >= 2  # to three digits of a histogram
    assert not any(word in beside for word in ("kept", "SLOWER", "faster", "BROKEN"))


def test_a_paired_result_keeps_its_verdicts(made):
    markdown = as_text(Source(made["kept"], [PAIRS]))
    row = "| servo step | SLOWER | 1.210 | 1.180 to 1.240 | 1.001 | 0.990 to 1.010 | 80 |"
    assert row in markdown.replace("**", "")
    assert "| new codec | only here | - | - |" in markdown
    assert "no module named codec" in markdown


def test_energy_is_shown_where_it_is_and_missed_where_it_is_not(made):
    assert "Missing: power of any rail" in as_text(Source(made["kept"]))
    assert "4.26 W" in as_text(Source(made["kept"], (), ORIN))
    own = {**made["kept"], "energy": {"mean_w": {"VDD_SOC": 1.5}, "samples": 9}}
    assert "1.50 W" in as_text(Source(own))


def test_markup_in_data_is_shown_and_not_obeyed(made):
    bad = json.loads(json.dumps(made["kept"]))
    bad["bundle"]["name"] = bad["host"]["cpu"] = "<script>alert(1)</script>"
    bad["segments"][0]["stop"]["reason"] = "<img src=x>"
    bad["stages"]["<b>wake"] = bad["stages"].pop("wake")
    assert "<script>alert(1)</script>" in read_page(Source(bad))
    assert "| <b>" not in as_text(Source(bad))


@pytest.mark.parametrize("change", [{"stages": 1}, {"ticks": None}, {"schedule": {}}, {"claims": [{}]}])
def test_a_document_of_the_wrong_shape_is_bad_input_and_writes_nothing(made, tmp_path, change):
    with pytest.raises(BadInput, match="cannot be shown"):
        write(Source({**made["kept"], **change}), tmp_path / "a.html", tmp_path / "a.md")
    assert list(tmp_path.iterdir()) == []


def test_a_histogram_that_is_none_is_bad_input(made, tmp_path):
    bad = json.loads(json.dumps(made["kept"]))
    bad["stages"]["wake"]["hdr"] = "nonsense"
    with pytest.raises(BadInput, match="no HDR histogram"):
        write(Source(bad), tmp_path / "a.html", None)


def test_the_command_writes_both_and_refuses_what_is_something_else(made, tmp_path):
    guard, pairs = tmp_path / "guard.json", tmp_path / "pairs.json"
    guard.write_text(json.dumps(made["kept"]))
    pairs.write_text(json.dumps(PAIRS))
    page_command(guard, None, tmp_path / "guard.md", [pairs], None, False)
    assert "Paired with base" in (tmp_path / "guard.html").read_text()
    assert "Paired with base" in (tmp_path / "guard.md").read_text()
    with pytest.raises(BadInput, match="something else"):
        page_command(pairs, None, None, [], None, False)
    with pytest.raises(Usage, match="replace its JSON"):
        page_command(guard, guard, None, [], None, False)
    guard.write_text("[1]")
    with pytest.raises(BadInput, match="no schema"):
        read(guard, "edgevla.guard/1")


def test_a_browser_shows_it_whole_and_asks_for_nothing(made, tmp_path):
    if chromium() is None:
        pytest.skip("no chromium on this machine: the page was checked as text only")
    path, bad = tmp_path / "guard.html", tmp_path / "bad.html"
    write(Source(made["slower"], [made["kept"], PAIRS], ORIN), path, None)
    bad.write_text("<p style='width:3000px'>x<script>console.error('no')</script><img src='http://127.0.0.1:9/a.png'>")
    with Browser(tmp_path / "profile") as browser:
        planted = browser.look(bad, 400)
        assert planted.complaints  # what follows could fail
        assert planted.requests == ["http://127.0.0.1:9/a.png"]
        assert planted.width > 400
        for width in (400, 1600):
            seen = browser.look(path, width)
            assert (seen.complaints, seen.requests, seen.width) == ([], [], width)
            assert seen.height > 4000
            assert len(seen.png) > 200_000  # an empty page of this size compresses to some 20 kB
