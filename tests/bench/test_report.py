"""The report: every part shown, every missing part said, nothing fetched, nothing half-written."""

import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from bench.report import build_report, print_figures, read_report
from bench.report.page import ORDER, render
from edgevla.errors import BadInput
from edgevla.telemetry.png import encode_png
from tests.bench.synthetic import TASKS, synthetic_report

VOID = {"meta", "img", "line", "circle", "path", "link", "br"}


class Page(HTMLParser):
    """Checks nesting and collects what the page would load."""

    def __init__(self, html):
        super().__init__()
        self.open, self.loads, self.ids, self.tags, self.words = [], [], set(), set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.ids |= {given["id"]} if "id" in given else set()
        self.loads += [given[a] for a in ("src", "href", "data", "srcset") if a in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def full():
    return Page(render(synthetic_report(ticks=6000)))


@pytest.fixture(scope="module")
def empty():
    return Page(render({}))


def test_the_page_is_well_formed(full, empty):
    assert full.open == []
    assert empty.open == []


def test_the_page_loads_nothing_and_runs_nothing(full):
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in full.loads)
    assert "script" not in full.tags
    assert "url(" not in render(synthetic_report(ticks=10))


def test_every_link_of_the_navigation_leads_somewhere(full, empty):
    for page in (full, empty):
        assert {load[1:] for load in page.loads if load.startswith("#")} <= page.ids
        assert len(page.ids) == len(ORDER)


def test_the_policy_of_ten_tasks_is_told_task_by_task(full, empty):
    assert "reach done, push not done; 0 late commands" in full.text
    assert "ten tasks" not in empty.text


def test_a_full_report_misses_nothing(full):
    assert "missing" not in full.text.lower().replace("0 missing", "")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_named(full, task):
    assert task in full.text


def test_an_empty_report_says_what_is_missing_and_shows_no_number(empty):
    said = empty.text
    for part in (
        "wake latency of every tick",
        "parity",
        "frames of an episode",
        "success per task",
        "the host",
    ):
        assert part in said
    assert "0 kept, 0 broken, 11 missing" in said
    assert not re.search(r"\b0\.0 %", said)


def test_the_host_stands_under_every_figure(full):
    assert full.text.count("Host: Test CPU") >= 10


def test_a_figure_from_another_host_names_that_host():
    report = synthetic_report(ticks=10)
    report["figures"]["hosts"] = {"success": {"cpu": "Other CPU"}}
    assert "Host: Other CPU" in Page(render(report)).text


def test_invented_numbers_are_marked_as_such(full, empty):
    assert "Nothing on this page was measured" in full.text
    assert "Nothing on this page was measured" not in empty.text


def test_markup_in_data_is_shown_and_not_obeyed():
    report = synthetic_report(ticks=10)
    report["host"]["cpu"] = report["figures"]["frames"]["instruction"] = "<script>alert(1)</script>"
    report["figures"]["per_task"][0]["task"] = "<b onclick=x>"
    page = Page(render(report))
    assert "script" not in page.tags
    assert "<b onclick=x>" in page.text


def test_nan_counts_as_missing():
    assert "missing" in Page(render({"total_s": float("nan")})).text


def test_one_absent_model_is_named():
    report = synthetic_report(ticks=10)
    del report["models"]["student_fp32"]
    assert "parameters of Student FP32" in Page(render(report)).text


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("per_task", {"drawer-open": 1}),
        ("latencies_ns", [1, 2]),
        ("ticks", {"period_s": 0.01, "wake_ns": ["late"]}),
        ("frames", {"images": [[1, 2], [3, 4]]}),
        (
            "per_task",
            [{"task": "t", "pairs": 5, "teacher": 1, "student_int8": 1, "only_teacher": 3, "only_int8": 0}],
        ),
    ],
)
def test_a_part_of_the_wrong_shape_is_one_clear_error(part, value):
    with pytest.raises(BadInput):
        render({"figures": {part: value}})


def test_arrays_are_read_from_files_beside_the_json(tmp_path):
    np.save(tmp_path / "wake.npy", np.full(100, 25_000))
    report = {"figures": {"ticks": {"period_s": 0.0125, "wake_ns": {"file": "wake.npy"}}}}
    assert "p99.9 25.0 µs" in Page(render(report, tmp_path)).text


@pytest.mark.parametrize("name", ["../wake.npy", "/etc/passwd", "wake.pkl"])
def test_files_outside_the_folder_are_never_read(tmp_path, name):
    with pytest.raises(BadInput, match="unsafe file"):
        render({"figures": {"ticks": {"period_s": 0.0125, "wake_ns": {"file": name}}}}, tmp_path)


def test_a_pickle_in_a_npy_file_is_refused(tmp_path):
    np.save(tmp_path / "wake.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(BadInput, match="no pickle"):
        render({"figures": {"ticks": {"period_s": 0.0125, "wake_ns": {"file": "wake.npy"}}}}, tmp_path)


def test_an_error_leaves_the_old_page_and_no_half_written_one(tmp_path):
    page = build_report({}, tmp_path / "report.html")
    before = page.read_bytes()
    with pytest.raises(BadInput):
        build_report({"figures": {"per_task": 3}}, page)
    assert page.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_broken_json_is_one_clear_error(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(BadInput, match="expected:"):
        read_report(tmp_path / "report.json")


def test_the_module_is_a_command(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(synthetic_report(ticks=100)))
    command = [sys.executable, "-m", "bench.report", str(tmp_path / "report.json"), "--figures"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Student int8" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 20_000


def test_the_command_ends_with_4_and_no_traceback_on_bad_input(tmp_path):
    command = [sys.executable, "-m", "bench.report", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(5, 7, 3), (4, 6)])
def test_a_png_holds_the_pixels_that_went_in(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(image)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + size
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (height, width, depth, colour) == (*shape[:2], 8, 2 if len(shape) == 3 else 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 1).all()  # every row uses filter 1, Sub
    steps = rows[:, 1:].reshape(height, width, -1)
    assert (np.cumsum(steps, axis=1, dtype=np.uint8).reshape(shape) == image).all()


def test_a_png_of_another_type_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((4, 4, 3), np.float32))


def test_the_terminal_prints_the_same_figures():
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    print_figures(synthetic_report(ticks=10), console)
    said = console.export_text()
    for words in (
        "Student int8",
        "3.42 M",
        "late commands",
        "4.8 %",
        "13 min 40 s",
        "kept",
        "1 of 2 done",
        "Host: Test CPU",
    ):
        assert words in said


def test_the_terminal_says_missing_for_an_empty_report():
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    print_figures({}, console)
    assert console.export_text().count("missing") > 20


@pytest.mark.parametrize("width", [400, 1600])
def test_a_browser_draws_the_page(tmp_path, width):
    """Headless chromium draws it, at the width of a phone and of a desk."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine: the page was checked as text only")
    page = build_report(synthetic_report(ticks=3000), tmp_path / "report.html")
    picture = tmp_path / "page.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
    ]
    where = [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={picture}",
        f"--window-size={width},2400",
    ]
    subprocess.run([browser, *flags, *where, page.as_uri()], check=True, capture_output=True, timeout=120)
    size = struct.unpack_from(">II", picture.read_bytes(), 16)
    assert size[1] == 2400
    assert picture.stat().st_size > 50_000  # an empty page of this size compresses to some 10 kB


def test_text_never_shows_a_python_none_or_nan(full, empty):
    for page in (full, empty):
        assert not re.search(r"\b(None|nan)\b", page.text)
