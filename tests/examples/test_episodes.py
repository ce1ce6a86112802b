"""Episodes to judge by: scenes that no demonstration used, sentences that training never saw, the same for all."""

from itertools import pairwise

from edgevla.sim.metaworld import TASKS
from examples.metaworld.demos import plan
from examples.metaworld.episodes import half_way, paired
from examples.metaworld.instructions import WORDINGS

MOST_DROPPED = 50_000  # expert episodes that fail move the seed on by one; far more than could ever fail


def test_no_judged_scene_was_ever_recorded():
    for seed in (0, 1):  # of the committed teacher, of the demo
        groups = plan(500, 300, seed)
        recorded = [range(g.seed, g.seed + g.episodes + MOST_DROPPED) for g in groups]
        for episode in paired(200) + half_way(200):
            assert not any(episode.seed in seeds for seeds in recorded)


def test_the_seeds_of_two_recorded_groups_never_overlap():
    starts = sorted(g.seed for g in plan(130, 70, 0))
    assert all(b - a >= 100_000 for a, b in pairwise(starts))


def test_every_task_is_played_as_often_and_grouped():
    episodes = paired(3)
    assert [e.task for e in episodes] == [task for task in TASKS for _ in range(3)]
    assert len(set(episodes)) == 18


def test_later_batches_play_other_scenes():
    assert not set(paired(5)) & set(paired(5, first=5))
    assert {e.seed for e in paired(10)} == {e.seed for e in paired(5)} | {e.seed for e in paired(5, first=5)}


def test_every_instruction_is_a_held_out_one_of_its_task():
    for episode in paired(40) + half_way(40):
        assert episode.instruction in WORDINGS[episode.task].held_out


def test_both_instructions_of_a_mechanism_start_from_the_same_half_way_scenes():
    episodes = half_way(6)
    seeds = {task: [e.seed for e in episodes if e.task == task] for task in {e.task for e in episodes}}
    assert set(seeds) == {"drawer-open-v3", "drawer-close-v3", "window-open-v3", "window-close-v3"}
    assert len({tuple(value) for value in seeds.values()}) == 1
    assert all(e.half_way for e in episodes)
