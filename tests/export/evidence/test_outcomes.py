"""Evidence files: outcomes are read back as they were written, and what was played is never played again."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgevla.errors import BadInput, Usage
from edgevla.sim.lockstep import HALF_WAY_TICKS, Episode, Outcome, play
from export.evidence import outcomes
from export.evidence.outcomes import (
    COLUMNS,
    SCHEMA,
    Row,
    append_rows,
    play_recorded,
    read_rows,
    recorded,
    share,
    write_rows,
)
from export.evidence.paired import Design, compare, count_pairs, sequential_verdict
from export.evidence.rollouts import RAY_LOCAL, Played, PolicySpec, _batches, loop_of, play_all
from export.extras import library
from tests.export.tiny import write_teacher

ROOT = Path(__file__).parents[3]
ROWS = [
    Row("int8 a", Episode("drawer-open-v3", 9_000_001, "slide the drawer open, please"), True, 71, 9, 0.0, 0.73),
    Row("int8 a", Episode("window-close-v3", 9_500_000, 'push the "window" closed', True), False, 200, 25, -0.01234567),
]
# Words of tests/tiny_bundle.py. Its random policy never solves a scene: half-way episodes end after 200 ticks.
HALVES = [Episode("drawer-open-v3", seed, "open the drawer", True) for seed in (3, 4, 5)]


def test_rows_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "rows.parquet"
    write_rows(path, ROWS)
    assert read_rows(path) == ROWS
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"]


def test_any_parquet_reader_finds_seed_task_policy_success_ticks_and_wall_time(tmp_path):
    write_rows(tmp_path / "rows.parquet", ROWS)
    table = pq.read_table(tmp_path / "rows.parquet").to_pydict()
    assert list(table) == list(COLUMNS)
    assert (table["policy"], table["seed"]) == (["int8 a", "int8 a"], [9_000_001, 9_500_000])
    assert (table["success"], table["ticks"], table["wall_s"]) == ([True, False], [71, 200], [0.73, None])


def test_a_part_is_added_behind_the_rows_that_are_there(tmp_path):
    path = tmp_path / "rows.parquet"
    append_rows(path, ROWS[:1])
    append_rows(path, ROWS[1:])
    assert read_rows(path) == ROWS


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    append_rows(path, ROWS[:1])

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outcomes.os, "fsync", disk_full)
    with pytest.raises(BadInput, match="No space"):
        append_rows(path, ROWS[1:])
    assert read_rows(path) == ROWS[:1]


def _other_columns(path):
    pq.write_table(pa.table({"a": [1]}), path)


def _truncated(path):
    write_rows(path, ROWS)
    path.write_bytes(path.read_bytes()[:-9])


def _no_parquet(path):
    path.write_text("task,seed\n")


def _missing_value(path):
    write_rows(path, ROWS)
    table = pq.read_table(path).to_pydict()
    fields = [pa.field(f.name, f.type) for f in pq.read_schema(path)]
    table["ticks"][0] = None
    pq.write_table(pa.table(table, pa.schema(fields, {"edgevla": SCHEMA})), path)


@pytest.mark.parametrize("spoil", [_other_columns, _truncated, _no_parquet, _missing_value])
def test_another_table_or_a_damaged_one_is_refused(tmp_path, spoil):
    path = tmp_path / "rows.parquet"
    spoil(path)
    with pytest.raises(BadInput, match=r"rows\.parquet"):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="none"):
        read_rows(tmp_path / "none.parquet")


def test_a_missing_library_names_the_extra_that_brings_it():
    with pytest.raises(Usage, match=r"pip install 'edgevla\[data\]'"):
        library("no_such_library_anywhere", "data")


def test_the_share_of_successes_is_counted():
    assert share(ROWS) == 0.5


def test_a_recount_takes_the_rows_of_one_policy_and_only_what_is_there(tmp_path):
    path = tmp_path / "rows.parquet"
    write_rows(path, ROWS)
    assert recorded(path, [ROWS[1].episode]) == ROWS[1:]
    with pytest.raises(BadInput, match="1 missing"):
        recorded(path, [ROWS[0].episode, HALVES[0]])
    append_rows(path, [replace(ROWS[0], policy="int8 b")])
    with pytest.raises(BadInput, match="one policy"):
        recorded(path, [row.episode for row in ROWS])


def test_the_committed_evidence_follows_from_the_committed_outcomes():
    """The verdict and the p-value in evidence.json, counted again from the raw rows."""
    folder = ROOT / "bench/results/metaworld"
    evidence = json.loads((folder / "evidence.json").read_text())
    told, policies = evidence["sequential"], evidence["policies"]
    names = ("sequential-teacher", "sequential-int8")
    # The files keep what students before played too.
    pair = [
        [row for row in read_rows(folder / f"outcomes/{name}.parquet") if row.policy == policies[name]]
        for name in names
    ]
    assert [row.episode for row in pair[0]] == [row.episode for row in pair[1]]
    flags = [[row.success for row in rows] for rows in pair]
    assert compare(*flags).as_dict() == told["paired"]
    # Rows lie look by look: what was played for the first look comes first.
    design = Design(told["margin"], told["alpha"], tuple(told["declared_looks"]))
    counts = [count_pairs(flags[0][:n], flags[1][:n]) for n in (246, 498, 750)]
    assert sequential_verdict(design, counts).as_dict()["looks"] == told["looks"]


def test_episodes_of_one_scene_are_handed_out_together_and_in_order():
    other = Episode("window-open-v3", 1, "open the window", False)
    episodes = [*HALVES, *HALVES, other, HALVES[0]]
    batches = _batches(episodes)
    assert [len(batch) for batch in batches] == [5, 1, 1, 1]
    assert [episode for batch in batches for episode in batch] == episodes


def test_only_episodes_that_are_missing_are_played_and_the_answer_is_in_the_order_asked(tiny_bundle_path, tmp_path):
    path, spec = tmp_path / "outcomes.parquet", PolicySpec("int8", tiny_bundle_path)
    kept = [Row(spec.identity(), episode, True, 1, 1, 0.5) for episode in HALVES[:2]]  # not what playing would say
    write_rows(path, kept)
    done = []
    asked = [HALVES[2], HALVES[1], HALVES[0]]
    rows = play_recorded(spec, asked, path, 1, done.append)
    assert rows[1:] == [kept[1], kept[0]]
    assert rows[0].episode == HALVES[2]
    assert rows[0].ticks == HALF_WAY_TICKS
    assert rows[0].wall_s > 0.01
    assert done == [3]
    assert {row.episode for row in read_rows(path)} == set(HALVES)
    assert play_recorded(spec, asked, path, 1) == rows


def test_outcomes_of_another_policy_are_kept_and_never_taken_for_its_own(tiny_bundle_path, tmp_path):
    path, spec = tmp_path / "outcomes.parquet", PolicySpec("int8", tiny_bundle_path)
    foreign = Row("int8 of another bundle", HALVES[0], True, 1, 1, 0.5)
    write_rows(path, [foreign])
    (row,) = play_recorded(spec, HALVES[:1], path, 1)
    assert (row.policy, row.ticks) == (spec.identity(), HALF_WAY_TICKS)
    assert read_rows(path) == [foreign, row]


def test_parts_are_written_while_the_run_goes_on(tiny_bundle_path, tmp_path, monkeypatch):
    """A kill after the first part loses nothing of it."""
    path, sizes = tmp_path / "outcomes.parquet", []
    monkeypatch.setattr(outcomes, "SAVE_EVERY", 2)
    other = [Episode("window-open-v3", 3, "open the window", True)]
    asked = [*HALVES[:2], *other]
    progress = lambda done: sizes.append(len(read_rows(path)) if path.exists() else 0)  # noqa: E731
    rows = play_recorded(PolicySpec("int8", tiny_bundle_path), asked, path, 1, progress)
    assert sizes == [0, 2]
    assert [row.episode for row in rows] == asked


def test_what_was_played_before_ctrl_c_is_kept(tiny_bundle_path, tmp_path, monkeypatch):
    def stopped(spec, episodes, workers, ray):
        yield [Played(Outcome(True, 7, 2, 0.1), 0.5) for _ in episodes[:2]]
        raise KeyboardInterrupt

    monkeypatch.setattr(outcomes, "stream", stopped)
    path = tmp_path / "rows.parquet"
    with pytest.raises(KeyboardInterrupt):
        play_recorded(PolicySpec("int8", tiny_bundle_path), HALVES, path, 1)
    assert [row.episode for row in read_rows(path)] == HALVES[:2]


def test_identity_follows_what_decides_the_answers(tiny_bundle_path, bundle_copy, tmp_path):
    spec = PolicySpec("int8", tiny_bundle_path)
    assert spec.identity() == PolicySpec("int8", bundle_copy).identity()
    assert spec.identity() != PolicySpec("fp32", tiny_bundle_path).identity()
    folder = write_teacher(tmp_path / "teacher")
    before = PolicySpec("teacher", tiny_bundle_path, folder).identity()
    other = shutil.copytree(folder, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert PolicySpec("teacher", tiny_bundle_path, other).identity() != before


def test_two_workers_say_what_one_process_says(tiny_bundle_path):
    spec = PolicySpec("int8", tiny_bundle_path)
    policy, loop, expected = spec.open(), loop_of(tiny_bundle_path), []
    episodes = [HALVES[0], Episode("window-open-v3", 3, "open the window", True)]
    for episode in episodes:
        expected.append(play(policy, episode, loop)[0])
    assert play_all(spec, episodes, 2) == expected


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'edgevla[ray]'")
def test_ray_says_what_the_process_pool_says(tiny_bundle_path):
    spec = PolicySpec("int8", tiny_bundle_path)
    episodes = [HALVES[0], Episode("window-open-v3", 3, "open the window", True)]
    assert play_all(spec, episodes, 2, ray=RAY_LOCAL) == play_all(spec, episodes, 1)


def test_the_loop_is_that_of_the_bundle_s_own_target_and_arm(tiny_bundle_path):
    loop = loop_of(tiny_bundle_path)
    schedule = loop.schedule
    assert (schedule.horizon, schedule.delay, schedule.replan, schedule.survive) == (32, 2, 8, 2)
    assert loop.kinds == ("delta", "delta", "delta", "absolute")
    assert loop.scale == (0.01, 0.01, 0.01, 1.0)
    assert loop.arm.name == "metaworld-sawyer"


def test_a_teacher_is_opened_from_its_folder_with_the_bundle_s_noise(tiny_bundle_path, tmp_path):
    folder = write_teacher(tmp_path / "teacher")
    for kind in ("teacher", "blank", "teacher-noise"):
        policy = PolicySpec(kind, tiny_bundle_path, folder).open()
        policy.set_instruction("open the drawer")
    with pytest.raises(ValueError, match="expected a teacher folder"):
        PolicySpec("teacher", tiny_bundle_path).open()
