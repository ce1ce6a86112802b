"""The ways of `bench.delay` do what they say, and its figures are those of the episodes in its file."""

import dataclasses

import numpy as np
import pytest

from bench.delay import journal
from bench.delay.__main__ import FIRST_SCENE, cells_of, key_of, play_missing
from bench.delay.journal import Cell, Played
from bench.delay.table import ZERO, goal, summarise
from bench.delay.ways import WAYS, runner_of
from edgevla.errors import BadInput
from edgevla.policy.blend import blend_ticks
from edgevla.sim.lockstep import Episode
from export.evidence.rollouts import PolicySpec
from tests.bench.loop_fakes import LOOP, START, Arm, Coded, R, code


def run(way, delay, ticks):
    arm, policy = Arm(), Coded()
    runner = runner_of(way, delay, policy, arm, LOOP)
    for tick in range(ticks):
        runner.tick(tick)
    return np.array(arm.commanded), policy, runner


@pytest.mark.parametrize("way", WAYS)
def test_at_zero_delay_every_way_asks_and_acts_in_the_same_tick(way):
    commanded, policy, runner = run(way, 0, 3 * R)
    assert policy.asked == [0, R, 2 * R]
    assert runner.inferences == 3
    for tick, row in enumerate(commanded):
        assert row[3] == pytest.approx(code(tick // R * R, tick % R), abs=1e-6)


@pytest.mark.parametrize("delay", [1, 4, 8])
@pytest.mark.parametrize("way", ["ours", "newest"])
def test_a_chunk_acts_from_its_row_d_when_its_delay_is_over(way, delay):
    commanded, policy, _ = run(way, delay, 4 * R)
    assert policy.asked == [0, R, 2 * R, 3 * R]
    assert (commanded[:delay] == START).all()
    for tick in range(delay, 4 * R):
        asked = (tick - delay) // R * R
        assert commanded[tick, 3] == pytest.approx(code(asked, tick - asked), abs=1e-6), tick


def test_ours_is_told_its_prefix_and_naive_switching_is_not():
    commanded, ours, _ = run("ours", 4, 3 * R)
    np.testing.assert_allclose(ours.prefixes[1][:, 3], commanded[R : R + 4, 3], atol=1e-6)
    _, newest, _ = run("newest", 4, 3 * R)
    assert {prefix.shape for prefix in newest.prefixes} == {(0, 4)}
    np.testing.assert_allclose(newest.anchors[1], commanded[R + 3], atol=1e-6)


def test_stop_and_think_holds_for_the_delay_and_then_executes_r_rows():
    commanded, policy, runner = run("think", 4, 3 * (4 + R))
    assert policy.asked == [0, 4 + R, 2 * (4 + R)]
    assert runner.inferences == 3
    for tick, row in enumerate(commanded):
        part = tick % (4 + R)
        expected = commanded[tick - 1] if tick else START
        if part >= 4:
            expected = np.array([*START[:3], code(tick - part, part - 4)])
        np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("way", ["blend", "both"])
def test_blended_ways_reach_the_chunks_own_rows_after_b_ticks(way):
    commanded, policy, _ = run(way, 2, 3 * R)
    for tick in (2 + blend_ticks(LOOP.period_s) - 1, R - 1, R + 1):
        asked = (tick - 2) // R * R
        assert commanded[tick, 3] == pytest.approx(code(asked, tick - asked), abs=1e-6), tick
    assert {len(prefix) for prefix in policy.prefixes} == {0 if way == "blend" else 2}


def test_ensembling_asks_as_often_as_one_inference_at_a_time_allows():
    _, policy, runner = run("ensemble", 4, 17)
    assert policy.asked == [0, 4, 8, 12, 16]
    assert runner.inferences == 5


def row(way="ours", delay=4, seed=0, success=True, ticks=80, task="drawer-open-v3"):
    return Played("int8 0", way, delay, task, seed, success, ticks, 10, 0.25)


def test_episodes_survive_their_file_and_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "delay.parquet"
    assert journal.read(path) == []
    journal.write(path, [row(seed=1), row(seed=2, success=False)])
    assert journal.read(path) == [row(seed=1), row(seed=2, success=False)]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"delay\.parquet"):
        journal.read(path)


def test_rows_of_a_blended_way_belong_to_its_b(tmp_path):
    episode = Episode("drawer-open-v3", 1, "open the drawer")
    assert key_of("p", (Cell("ours", 4), episode), 0.0125) == ("p", "ours", 4, "drawer-open-v3", 1)
    assert key_of("p", (Cell("blend", 4), episode), 0.0125)[0] == "p, b = 4"


def test_zero_delay_is_played_once_and_first():
    assert cells_of(["ours", "think"], [4, 0, 8]) == [
        ZERO,
        *(Cell(way, delay) for delay in (4, 8) for way in ("ours", "think")),
    ]


def test_the_scenes_are_nobody_elses():
    from examples.metaworld import evidence

    assert max(evidence.SEQUENTIAL_FIRST + 996 // 6, 2 * evidence.SEQUENTIAL_FIRST + 40) < FIRST_SCENE


def test_pairs_and_goal_are_counted_from_the_rows():
    zero = [row("zero", 0, seed, seed >= 3) for seed in range(120)]
    lost = [row("ours", 4, seed, seed >= 10, ticks=120) for seed in range(120)]
    (first, ours) = summarise(lost + zero)
    assert (first["way"], first["successes"], "against_zero" in first) == ("zero", 117, False)
    assert (ours["successes"], ours["slower_than_zero"]) == (110, 1.5)
    pairs = ours["against_zero"]
    assert (pairs["only_reference"], pairs["only_candidate"], pairs["neither"]) == (7, 0, 3)
    found = goal(zero + lost)
    assert found["loss"] == pytest.approx(7 / 120)
    assert (found["discordant"], found["kept"], found["shown_with_95_percent"]) == (7, False, False)
    assert found["loss_low95"] == pytest.approx(0.0255, abs=1e-4)  # Tango's interval of 7 of 120, 0 the other way
    assert goal(zero) is None
    assert goal(zero + [row("ours", 4, seed, seed >= 6) for seed in range(120)])["kept"]


def test_a_batch_is_written_as_it_ends(tmp_path, monkeypatch, tiny_bundle_path):
    from bench.delay import __main__ as program

    monkeypatch.setattr("export.evidence.rollouts.MAX_TICKS", 12)
    path, spec = tmp_path / "delay.parquet", PolicySpec("int8", tiny_bundle_path)
    episode = Episode("drawer-open-v3", 9_003_000, "open the drawer")
    todo = [(Cell(way, delay), episode) for way, delay in (("zero", 0), ("ours", 2), ("lerobot", 2))]
    play_missing(spec, todo, 1, path)
    rows = journal.read(path)
    assert [(r.way, r.delay, r.ticks, r.success) for r in rows] == [
        ("zero", 0, 12, False),
        ("ours", 2, 12, False),
        ("lerobot", 2, 12, False),
    ]
    assert {r.key for r in rows} == {program.key_of(spec.identity(), asked, 0.0125) for asked in todo}
    again = dataclasses.replace(rows[1], wall_s=0.0)
    play_missing(spec, todo[1:2], 1, tmp_path / "again.parquet")
    assert dataclasses.replace(journal.read(tmp_path / "again.parquet")[0], wall_s=0.0) == again
