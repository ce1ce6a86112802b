"""docs/benchmarks.md and README: every figure comes from a committed result, and none is written by hand."""

import json
import re
from pathlib import Path

import pytest

from bench.benchmarks import subjects
from bench.benchmarks.page import benchmarks
from bench.benchmarks.row import NOT_MEASURED, Row, Subject, block
from bench.readme import BEGIN, END
from edgevla.errors import BadInput
from tests.bench.test_verify import guard_document

ROOT = Path(__file__).parents[2]
UNITS = (
    r"(?:%|×|x|ns|us|µs|ms|s|seconds?|min|minutes?|hours?|h|Hz|kHz|[kMG]?B|[KMG]iB|ticks?|times|points|TOPS|GB/s|W|"
    r"episodes|pairs|scenes|samples|steps|frames|lines|words)"
)
FIGURE = re.compile(rf"(?<![\w./-])\d[\d,.]*(?:e-?\d+)?\s*(?:to\s+\d[\d,.]*\s*)?{UNITS}(?![\w/])|\b\d[\d.]*e-\d+\b")
DECLARED = {  # in README by hand: what a step is given or may take, and what the simulation holds; no measurement
    "7.5 minutes": "budget of the distillation, an argument of make demo",
    "20 min": "limit of the demo (bench/budgets/demo.toml)",
    "15 min": "limit of make test",
    "30 words": "the vocabulary of the reference policy",
}


def by_hand(document):
    """What no generator wrote: without the block, fenced and indented code, inline code and links."""
    before, _, rest = document.partition(BEGIN)
    text = before + rest.partition(END)[2]
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)


def test_no_measurement_in_readme_is_written_by_hand():
    found = {match.group().strip() for match in FIGURE.finditer(by_hand((ROOT / "README.md").read_text()))}
    assert found == set(DECLARED)


@pytest.mark.parametrize(
    "text", ["a p99 of 1.4 ms", "in 62 to 81 % of them", "2.4x as fast", "over 1,178 ticks", "equal to 1e-4", "1.2 GB"]
)
def test_a_measurement_would_be_found(text):
    assert FIGURE.search(by_hand(f"x\n{text}, it is\n{BEGIN}\n{END}\n"))


@pytest.mark.parametrize("text", ["Python 3.11 (to 3.13)", "LeRobot 0.4.4", "SO-101", "exit code 3", "`9 ms`", "v4l2"])
def test_a_version_or_a_name_is_no_measurement(text):
    assert not FIGURE.search(by_hand(text))


def test_every_figure_of_the_page_changes_with_its_result(tmp_path):
    document = json.loads((ROOT / "bench/results/steady.json").read_text())
    document["limits"]["minor_faults"], document["minor_faults"] = 77, 78
    (tmp_path / "steady.json").write_text(json.dumps(document))
    page = benchmarks(tmp_path)
    assert "| minor faults | 78 | 114,623 steps | limit 77 | counted |" in page
    assert page.count(NOT_MEASURED) == len(subjects.SUBJECTS) - 1


def test_an_empty_folder_has_no_figure(tmp_path):
    tables = [line for line in benchmarks(tmp_path).splitlines() if line.startswith("|")]
    assert tables == []


def test_a_result_that_lacks_a_part_is_one_error(tmp_path):
    (tmp_path / "steady.json").write_text('{"ticks": 3}')
    with pytest.raises(BadInput, match=r"steady.json lacks what its table shows"):
        benchmarks(tmp_path)


def test_a_subject_says_host_file_command_samples_largest_and_kind():
    subject = Subject("T", "t.json", "make t", lambda found: [Row("a | b", "1 ms", "9", "2 ms", "observed")])
    shown = block(subject, {"host": {"cpu": "C", "measured_at": "then"}})
    assert "Host: C, then. File: [t.json](../bench/results/t.json). Command: `make t`." in shown
    assert "| a / b | 1 ms | 9 | 2 ms | observed |" in shown


def test_a_guard_shows_kind_limit_and_verdict():
    first, second = subjects.guard(guard_document())
    assert (first.samples, first.kind) == ("3,000", "bounded at 99 %")
    assert first.value.endswith("<= 400 us")
    assert first.figure == "wake p99: kept"
    assert (second.kind, second.figure) == ("observed", "wake maximum: not judged")


def test_peers_and_scaling_have_their_lines():
    ratio = {"median": 2.0, "low": 1.9, "high": 2.1}
    row = {"kind": "model", "subject": "student", "parameters": 3e6, "threads": 1, "peer": "torch eager", "failed": "",
           "error": {"finite": True, "relative_rms": 1e-6}, "precision": "",
           "p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 4.0,
           "times_ours": ratio, "rss_mb": 90.0, "rounds": 500}  # fmt: skip
    (line,) = subjects.peers({"rows": [row]})
    assert line.cells == ("student (3.0 M): torch eager, 1 thread", "2.00 / 3.00 ms; 2.00 (1.90 to 2.10) times ours",
                          "500", "4 ms", "95 % interval")  # fmt: skip
    axis = {"axis": "chunk", "cost": "inference", "points": [1, 2, 3],
            "power_law": {"exponent": 1.0, "low": 0.9, "high": 1.1},
            "wall": {"value": 64.0, "beyond": True}}  # fmt: skip
    assert subjects.scaling({"axes": [axis]})[0].cells[1:4] == ("exponent 1.00 (0.90 to 1.10)", "3 points",
                                                               "wall at 64, continued")  # fmt: skip
