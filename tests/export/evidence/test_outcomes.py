"""Evidence files: outcomes are read back as they were written, and what was played is never played again."""

from dataclasses import replace

import pytest

from edgevla.errors import BadInput
from edgevla.sim.lockstep import HALF_WAY_TICKS, Episode, play
from export.evidence.outcomes import FIELDS, Row, play_recorded, read_rows, share, write_rows
from export.evidence.rollouts import PolicySpec, _batches, loop_of, play_all
from tests.export.tiny import write_teacher

ROWS = [
    Row(Episode("drawer-open-v3", 9_000_001, "slide the drawer open, please", False), True, 71, 9, 0.0),
    Row(Episode("window-close-v3", 9_500_000, 'push the "window" closed', True), False, 200, 25, -0.0123),
]
# Words of tests/tiny_bundle.py. Its random policy never solves a scene: half-way episodes end after 200 ticks.
HALVES = [Episode("drawer-open-v3", seed, "open the drawer", True) for seed in (3, 4, 5)]


def test_rows_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "rows.csv"
    write_rows(path, ROWS)
    assert read_rows(path) == ROWS
    assert path.read_text().splitlines()[0] == ",".join(FIELDS)
    assert [p.name for p in path.parent.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        ",".join(FIELDS) + "\ndrawer-open-v3,0,7,open it,1,many,9,0.0\n",
        ",".join(FIELDS) + "\ndrawer-open-v3,0,7,open it,1\n",
    ],
)
def test_another_table_or_a_truncated_row_is_refused(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match="delete it"):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="none"):
        read_rows(tmp_path / "none.csv")


def test_the_share_of_successes_is_counted():
    assert share(ROWS) == 0.5


def test_episodes_of_one_scene_are_handed_out_together_and_in_order():
    other = Episode("window-open-v3", 1, "open the window", False)
    episodes = [*HALVES, *HALVES, other, HALVES[0]]
    batches = _batches(episodes)
    assert [len(batch) for batch in batches] == [5, 1, 1, 1]
    assert [episode for batch in batches for episode in batch] == episodes


def test_only_episodes_that_are_missing_are_played_and_the_answer_is_in_the_order_asked(tiny_bundle_path, tmp_path):
    path = tmp_path / "outcomes.csv"
    kept = [Row(episode, True, 1, 1, 0.5) for episode in HALVES[:2]]  # not what really playing would say
    write_rows(path, kept)
    done = []
    asked = [HALVES[2], HALVES[1], HALVES[0]]
    rows = play_recorded(PolicySpec("int8", tiny_bundle_path), asked, path, 1, done.append)
    assert rows[1:] == [kept[1], kept[0]]
    assert rows[0].episode == HALVES[2]
    assert rows[0].ticks == HALF_WAY_TICKS
    assert done == [3]
    assert {row.episode for row in read_rows(path)} == set(HALVES)
    assert play_recorded(PolicySpec("int8", tiny_bundle_path), asked, path, 1) == [
        replace(rows[0], opened_m=round(rows[0].opened_m, 4)),
        *rows[1:],
    ]


def test_two_workers_say_what_one_process_says(tiny_bundle_path):
    spec = PolicySpec("int8", tiny_bundle_path)
    policy, loop, expected = spec.open(), loop_of(tiny_bundle_path), []
    episodes = [HALVES[0], Episode("window-open-v3", 3, "open the window", True)]
    for episode in episodes:
        expected.append(play(policy, episode, loop)[0])
    assert play_all(spec, episodes, 2) == expected


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
