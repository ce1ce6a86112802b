"""Paired runs of two trees: the rule, and the processes that take turns."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from bench.pairs.compare import Comparison, Trees, compare
from bench.pairs.rounds import BASE, CONTROL, HEAD, Timed
from bench.pairs.rule import Outcome, Verdict, doubtful, outcome, settled
from bench.pairs.worker import Worker
from bench.pairs.workers import Measured
from bench.pairs.worktree import checked_out, commit_of
from bench.suites import paths
from edgevla.errors import Refused, Unsound, Usage
from firmware_bridge.errors import NotArmed

WORK = "def old():\n    return sum(range({size}))\n"


def series(ratio: float, control: float = 1.0, spread: float = 0.01, rounds: int = 60) -> Timed:
    """Rounds of a host that drifts by half while it is measured."""
    rng = np.random.default_rng(0)
    drift = np.linspace(1.0, 1.5, rounds)
    times = {BASE: 1.0, HEAD: ratio, CONTROL: control}
    noise = {name: 1.0 + spread * rng.standard_normal(rounds) for name in times}
    ns = {name: (2e6 * drift * factor * noise[name]).astype(np.int64) for name, factor in times.items()}
    return Timed("a", True, 10, ns)


@pytest.mark.parametrize(
    ("timed", "verdict"),
    [
        (series(1.00), Verdict.KEPT),
        (series(1.04), Verdict.KEPT),
        (series(1.10), Verdict.SLOWER),
        (series(0.80), Verdict.FASTER),
        (series(1.10, control=1.08), Verdict.UNSOUND),
        (series(1.10, control=0.90), Verdict.UNSOUND),
        (series(1.10, spread=0.5), Verdict.UNSOUND),
    ],
)
def test_slower_needs_the_whole_interval_and_a_control_that_holds(timed: Timed, verdict: Verdict) -> None:
    assert outcome(timed, 0.05).verdict is verdict


def test_what_waits_for_others_may_cost_twice_the_tolerance() -> None:
    timed = series(1.08)
    assert outcome(timed, 0.05).verdict is Verdict.SLOWER
    assert outcome(Timed("a", False, 10, timed.ns), 0.05).verdict is Verdict.KEPT


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (Verdict.SLOWER, Verdict.SLOWER, Verdict.SLOWER),
        (Verdict.SLOWER, Verdict.KEPT, Verdict.KEPT),
        (Verdict.UNSOUND, Verdict.KEPT, Verdict.KEPT),
        (Verdict.UNSOUND, Verdict.UNSOUND, Verdict.UNSOUND),
        (Verdict.SLOWER, Verdict.UNSOUND, Verdict.UNSOUND),
        (Verdict.UNSOUND, Verdict.SLOWER, Verdict.UNSOUND),
    ],
)
def test_a_doubtful_path_is_believed_only_when_a_second_look_agrees(
    first: Verdict, second: Verdict, said: Verdict
) -> None:
    one, other = Outcome("a", first), Outcome("a", second)
    assert doubtful([one]) == ["a"]
    assert (settled(one, other).verdict, settled(one, other).looks) == (said, 2)


def test_a_slower_path_is_refused_before_one_that_is_not_sound() -> None:
    slower, unsound = outcome(series(1.2)), outcome(series(1.0, control=1.3))
    with pytest.raises(Refused, match=r"1\.20x"):
        Comparison([unsound, slower], 0.0).require_kept()
    with pytest.raises(Unsound, match="base differs from itself"):
        Comparison([unsound], 0.0).require_kept()
    Comparison([outcome(series(1.0)), Outcome("new", Verdict.LACKING)], 0.0).require_kept()


def tree(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "work.py").write_text(text)
    return folder


def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path, min(os.sched_getaffinity(0)), "work", Path(__file__).parent / "paired")


def test_a_tree_with_three_times_the_work_is_slower_and_a_path_that_base_lacks_is_listed(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", WORK.format(size=1000))
    head = tree(tmp_path / "head", WORK.format(size=3000) + "new = old\n")
    said: list[str] = []
    found = compare(Trees(base, head), measured(tmp_path), ["old", "new"], 0.5, 0.3, say=said.append)
    old, new = found.outcomes
    assert (old.verdict, old.looks) == (Verdict.SLOWER, 2)
    assert old.ratio is not None
    assert old.ratio.low > 2.0
    assert new.verdict is Verdict.LACKING
    assert "AttributeError" in new.why
    assert len(said) == 3


def test_the_product_of_another_tree_is_never_measured_as_this_one(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", WORK.format(size=10))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unsound, match="the process of empty"):
        compare(Trees(base, tmp_path / "empty"), measured(tmp_path), ["old"], seconds=0.1)


def test_a_version_is_checked_out_for_as_long_as_it_is_measured(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True, capture_output=True, timeout=60)

    git("init", "-q")
    (tmp_path / "a.txt").write_text("old")
    git("add", "a.txt")
    git("commit", "-q", "-m", "a")
    (tmp_path / "a.txt").write_text("new")
    with checked_out(tmp_path, commit_of(tmp_path, "HEAD")) as found:
        assert (found / "a.txt").read_text() == "old"
    assert not found.exists()
    with pytest.raises(Usage, match="no-such-branch"):
        commit_of(tmp_path, "no-such-branch")


def test_an_arm_that_its_watchdog_stopped_while_the_other_tree_had_its_turn_is_armed_again() -> None:
    worker = Worker(paths, Path("no bundle"))
    try:
        assert worker.make("bus/dynamixel: exchange").get("ready")
        time.sleep(1.0)  # the watchdog of the virtual servos ends after at most 0.5 s
        assert worker.run(5)["ns"] > 0
        worker._again = None
        time.sleep(1.0)
        with pytest.raises(NotArmed, match="WATCHDOG"):
            worker.run(5)
    finally:
        worker.close()
