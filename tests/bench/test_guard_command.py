"""`edgevla bench guard` on a tiny bundle: the document it promises, its exit codes, and going on where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.guard.command import Store, judge, measure, parts_of
from bench.guard.drive import Segment, load, save
from bench.guard.stages import stage_names
from bench.hdr import decoded
from edgevla.errors import BadInput, Refused, Unsound, Usage
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
CLAIM = {"name", "stage", "kind", "limit_us", "value_us", "samples", "effective_samples", "confidence", "quantile"}
WIDE = "\n".join(
    f'[[stage]]\nname = "{name}"\nquantile = {quantile}\nlimit_us = 3e9'
    for name, quantile in (("wake", 0.5), ("policy", 0.9999))
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One short real run, with a budget that asks for more than so few inferences can say."""
    folder = tmp_path_factory.mktemp("guard")
    write_tiny_bundle(folder / "tiny.bundle")
    (folder / "budget.toml").write_text(
        f'schema = "edgevla.guard-budget/1"\n[sound]\nstolen_share = 10\nreal_time = false\n{WIDE}\n'
    )
    arguments = ["--bundle", "tiny.bundle", "--budget", "budget.toml", "--samples", "10", "--warm-up-s", "0.3"]
    command = [sys.executable, "-m", "edgevla.cli.entry", "bench", "guard", *arguments, "--json", "--out", "guard.json"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return folder, done


@pytest.mark.slow
def test_the_document_is_what_is_promised(ran):
    folder, done = ran
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "guard.json").read_text())
    assert document["schema"] == "edgevla.guard/1"
    assert (document["target"], document["arm"], document["load"]) == ("host", "metaworld-sawyer", "none")
    assert set(document["bundle"]) == {"name", "sha256"}
    assert document["host"]["cores_usable"] >= 1
    for claim in document["claims"]:
        assert set(claim) >= {*CLAIM, "slack_us", "kept"}
        assert claim["kind"] in ("proved", "bounded", "observed")
    assert {claim["kind"] for claim in document["claims"]} == {"proved", "bounded", "observed"}
    assert tuple(document["stages"]) == stage_names(("vision", "head"))
    for name, stage in document["stages"].items():
        histogram = decoded(stage["hdr"])
        assert histogram.count == stage["count"], name
        assert histogram.quantile_ns(0.5) / 1e3 == pytest.approx(stage["p50_us"], abs=1e-3)
        assert stage["tail"] is None or stage["tail"]["estimate"] is True
    assert len(document["ticks"]["wake_us"]) == len(document["ticks"]["write_us"]) > 0
    assert [event["phase"] for event in document["ladder"]][:2] == ["start", "track"]
    assert document["memory"]["policy_resident_mb"] > 1


@pytest.mark.slow
def test_a_budget_that_so_few_samples_cannot_answer_is_exit_3(ran):
    folder, done = ran
    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert document["sound"] is False
    assert any("policy p99.99" in reason and "46050" in reason for reason in document["unsound_because"])
    assert next(c for c in document["claims"] if c["name"] == "policy p99.99")["kept"] is None
    assert "not measured soundly" in done.stderr
    assert not parts_of(folder / "guard.json").exists()
    assert str(folder) not in done.stdout  # no path of this machine


class Fake:
    """What `measure` needs of a setup."""

    replan_s = 0.1

    def key(self):
        return {"bundle": "b"}


def segment(count, code=0, operator=False):
    stop = {"reason": "", "code": code, "operator": operator}
    return Segment({"preprocess": np.arange(count, dtype=float)}, {"key": {"bundle": "b"}, "stop": stop})


@pytest.fixture
def asked(monkeypatch):
    """Segments as they are asked for; each yields what was asked, or what `yields` says."""
    counts, yields = [], []

    def one(setup, count, tell):
        counts.append(count)
        return yields.pop(0) if yields else segment(count)

    monkeypatch.setattr("bench.guard.command.one_segment", one)
    return counts, yields


def test_segments_add_up_and_say_how_long_it_still_takes(asked, tmp_path):
    said = []
    found = measure(Fake(), 2500, None, said.append)
    assert asked[0] == [1200, 1200, 102]
    assert sum(one.inferences for one in found) >= 2500
    assert "4.2 min left" in said[0]


def test_a_stopped_guard_goes_on_where_it_was(asked, tmp_path):
    counts, yields = asked
    yields += [segment(1200), segment(300, operator=True)]
    measure(Fake(), 2400, tmp_path / "g.json", print)
    assert sorted(path.name for path in parts_of(tmp_path / "g.json").iterdir()) == ["001.npz"]
    counts.clear()
    found = measure(Fake(), 2400, tmp_path / "g.json", print)
    assert counts == [1200]
    assert [one.inferences for one in found] == [1200, 1200]


def test_a_segment_that_ended_early_or_answers_nothing_ends_the_measurement(asked):
    asked[1].append(segment(300, code=1))
    assert len(measure(Fake(), 2400, None, print)) == 1
    asked[1].append(segment(0))
    assert len(measure(Fake(), 2400, None, print)) == 1


def test_segments_of_other_options_or_foreign_files_are_refused(tmp_path):
    store = Store(tmp_path, {"bundle": "b"})
    store.add(1, segment(5))
    assert [one.inferences for one in store.read()] == [5]
    with pytest.raises(Usage, match="another guard"):
        Store(tmp_path, {"bundle": "c"}).read()
    (tmp_path / "002.npz").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="cannot be continued"):
        store.read()


def test_a_segment_survives_its_file(tmp_path):
    save(tmp_path / "1.npz", segment(7))
    again = load(tmp_path / "1.npz")
    assert again.series["preprocess"].tolist() == list(range(7))
    assert again.facts == segment(7).facts
    assert [path.name for path in tmp_path.iterdir()] == ["1.npz"]


def test_the_verdict_is_an_exit_code_and_a_sentence():
    class Found:
        broken, reasons, exit_code = (), (), 0

    judge(Found())
    Found.exit_code = 1
    with pytest.raises(Refused):
        judge(Found())
    Found.exit_code = 3
    with pytest.raises(Unsound):
        judge(Found())


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--load", "swimming"], 2, "no such load"),
        (["--budget", "missing.toml"], 4, "cannot read the budget"),
        (["--target", "jetson-orin-nano-8"], 1, "does not run on this machine"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(ran, options, code, words):
    folder, _ = ran
    command = [sys.executable, "-m", "edgevla.cli.entry", "bench", "guard", "--bundle", "tiny.bundle", *options]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
