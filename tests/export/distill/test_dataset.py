"""Shards as training batches, on a dataset whose every number is the tick it belongs to."""

import json
import shutil

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.distill.dataset import MAX_IMAGE_LAG, Batches, Demonstrations, Sampling, normalise_image
from tests.export.tiny import EXPERT, words

STARTS, ENDS = (0, 50, 90), (50, 90, 135)  # of the three episodes, see tests/export/tiny.py
HORIZON, D_MAX = 32, 8


def batches(data, seed=0, **changes):
    settings = {"horizon": HORIZON, "d_max": D_MAX, "max_tokens": 16, "hold_start": 0.0, **changes}
    return Batches(data, Sampling(**settings), 64, seed)


def test_every_tick_knows_the_bounds_of_its_episode(counting):
    assert len(counting) == 135
    for start, end in zip(STARTS, ENDS, strict=True):
        assert set(counting.start[start:end]) == {start}
        assert set(counting.end[start:end]) == {end}


def test_prefix_rows_are_what_was_executed_and_the_others_what_the_expert_wanted(counting):
    batch = batches(counting).next()
    mean, std = counting.state_statistics()
    state = batch["state"].numpy() * std + mean
    for i in range(64):
        tick, depth = round(float(state[i, 0])), int(batch["mask"][i].sum())
        end = counting.end[tick]
        row = np.minimum(tick + np.arange(HORIZON), end - 1)
        expected = np.where(np.arange(HORIZON) < depth, row, row + EXPERT)
        assert batch["actions"][i, :, 0].tolist() == expected.tolist()
        assert batch["mask"][i, :, 0].tolist() == [1.0] * depth + [0.0] * (HORIZON - depth)
        assert batch["valid"][i, :, 0].tolist() == [float(tick + r < end) for r in range(HORIZON)]


def test_the_prefix_is_of_every_length_from_none_to_the_longest(counting):
    depths = batches(counting).at(np.full(500, 10))["mask"].sum((1, 2))
    counted = np.bincount(depths.int().numpy(), minlength=D_MAX + 1)
    assert len(counted) == D_MAX + 1
    assert counted.min() > 25  # of 55 expected


def test_rows_past_the_end_of_an_episode_do_not_count_and_never_show_the_next_one(counting):
    batch = batches(counting).at(np.full(50, 48))  # two ticks before the end of the first episode
    assert (batch["valid"][:, :2] == 1).all()
    assert (batch["valid"][:, 2:] == 0).all()
    assert ((batch["actions"] % EXPERT) <= 49).all()


def test_a_held_start_is_a_still_prefix_and_then_the_expert_from_its_first_tick(counting):
    batch = batches(counting, hold_start=1.0).at(np.full(40, 50))
    for actions, mask, valid in zip(batch["actions"], batch["mask"], batch["valid"], strict=True):
        depth = int(mask.sum())
        assert (actions[:depth] == torch.tensor([0.0, 0.0, 0.0, -1.0])).all()
        assert actions[depth:, 0].tolist() == [50 + EXPERT + r for r in range(HORIZON - depth)]
        assert valid.all()


def test_only_first_ticks_are_ever_held(counting):
    batch = batches(counting, hold_start=1.0).at(np.arange(51, 60))
    assert (batch["actions"][:, 0, 0] % EXPERT).tolist() == list(range(51, 60))


def test_the_camera_may_lag_but_never_into_the_episode_before(counting):
    for tick in (50, 51, 60):
        batch = batches(counting).at(np.full(200, tick))
        seen = set(batch["frame"].tolist())
        oldest = max(50, tick - MAX_IMAGE_LAG)
        assert seen == {int(counting.frame[t]) for t in range(oldest, tick + 1)}


def test_the_image_is_the_frame_that_the_batch_names(counting):
    batch = batches(counting).next()
    pixels = ((batch["image"] + 1) * 127.5).round()
    assert (pixels[:, 0, 0, 0] == batch["frame"]).all()
    assert (pixels == pixels[:, :1, :1, :1]).all()


def test_words_are_trained_sentences_of_the_tick_s_own_task(counting):
    batch = batches(counting, word_dropout=0.0).at(np.array([0, 60, 100, 134]))
    for tick, tokens in zip((0, 60, 100, 134), batch["tokens"], strict=True):
        task = "drawer-open-v3" if tick < 90 else "window-close-v3"
        allowed = {tuple(words().encode(text)) for text in counting.instructions[task]["train"]}
        assert tuple(tokens.tolist()) in allowed


def test_dropped_words_become_padding_and_blank_words_are_all_padding(counting):
    kept = batches(counting, word_dropout=0.0).at(np.zeros(100, int))["tokens"]
    dropped = batches(counting, word_dropout=0.5).at(np.zeros(100, int))["tokens"]
    assert (dropped != 0).sum() < 0.9 * (kept != 0).sum()
    assert not batches(counting, blank_words=True).next()["tokens"].any()


def test_the_same_seed_draws_the_same_batches(counting):
    one, two, other = batches(counting, 3), batches(counting, 3), batches(counting, 4)
    for _ in range(3):
        a, b, c = one.next(), two.next(), other.next()
        assert all((a[key] == b[key]).all() for key in a)
        assert any((a[key] != c[key]).any() for key in a)


def test_bytes_become_minus_one_to_one():
    assert normalise_image(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


@pytest.fixture
def copy(counting_path, tmp_path):
    return shutil.copytree(counting_path, tmp_path / "data")


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = {**dict(archive), **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_a_truncated_shard_is_refused_by_name(copy):
    shard = copy / "drawer-open-v3.npz"
    raw = shard.read_bytes()
    for keep in (0, 10, len(raw) // 2, len(raw) - 30):
        shard.write_bytes(raw[:keep])
        with pytest.raises(BadInput, match="a whole drawer-open-v3"):
            Demonstrations(copy)


def test_an_altered_shard_is_refused(copy):
    shard = copy / "drawer-open-v3.npz"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    shard.write_bytes(raw)
    with pytest.raises(BadInput, match="drawer-open-v3"):
        Demonstrations(copy)


def test_a_missing_shard_is_refused_and_nothing_is_to_be_deleted(copy):
    (copy / "window-close-v3.npz").unlink()
    with pytest.raises(BadInput, match="window-close-v3") as caught:
        Demonstrations(copy)
    assert "record again" in str(caught.value)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": None}, "state"),
        ({"expert": np.full((90, 4), np.nan, np.float32)}, "NaN or infinity in drawer-open-v3.npz"),
        ({"state": np.zeros((80, 4), np.float32)}, "one row per tick"),
        ({"executed": np.zeros((90, 3), np.float32)}, "executed"),
        ({"frame": np.full(90, 1000, np.int32)}, "frame"),
        ({"frame": np.full(90, -1, np.int32)}, "frame"),
        ({"image": np.zeros((45, 48, 48, 3), np.uint8)}, "image"),
        ({"image": np.zeros((45, 96, 96, 3), np.float32)}, "image"),
        ({"episode": np.arange(90)[::-1].astype(np.int32)}, "episode"),
        ({"image": np.array([{"a": 1}], dtype=object)}, "drawer-open-v3.npz"),
    ],
)
def test_a_shard_with_wrong_arrays_is_refused_before_training(copy, changes, told):
    rewrite(copy / "drawer-open-v3.npz", **changes)
    with pytest.raises(BadInput, match=told):
        Demonstrations(copy)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": "edgevla.demos/9"}', '{"schema": "edgevla.demos/1"}'],
)
def test_a_dataset_json_that_is_none_is_refused(copy, text):
    (copy / "dataset.json").write_text(text)
    with pytest.raises(BadInput, match="record"):
        Demonstrations(copy)


def test_a_dataset_without_shards_or_with_one_outside_is_refused(copy):
    meta = json.loads((copy / "dataset.json").read_text())
    for shards in ([], [{"file": "../drawer-open-v3.npz", "task": "drawer-open-v3"}], [{"task": "drawer-open-v3"}]):
        (copy / "dataset.json").write_text(json.dumps({**meta, "shards": shards}))
        with pytest.raises(BadInput, match="record"):
            Demonstrations(copy)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shards": [1]}, r"shards\[0\] is wrong"),
        ({"shards": {"a": 1}}, "`shards` is wrong"),
        ({"shards": "drawer"}, "`shards` is wrong"),
        ({"shards": [{"file": 3, "task": "drawer-open-v3"}]}, "`file` is wrong"),
        ({"shards": [{"file": "drawer-open-v3.npz"}]}, "`task` is wrong"),
        ({"shards": [{"file": "drawer-open-v3.npz", "task": "fridge-open-v3"}]}, "drawer-open-v3, "),
        ({"vocabulary": "open the drawer"}, "`vocabulary` is wrong"),
        ({"vocabulary": ["open", 3]}, "`vocabulary` is wrong"),
        ({"vocabulary": ["open", "open"]}, "a word twice"),
        ({"instructions": []}, "`instructions` is wrong"),
        ({"instructions": {}}, "`instructions` is wrong"),
        ({"instructions": {"drawer-open-v3": ["open"]}}, "instructions of drawer-open-v3 is wrong"),
        ({"instructions": {"drawer-open-v3": {"held_out": ["open"]}}}, "`train` is wrong"),
        ({"instructions": {"drawer-open-v3": {"train": []}}}, "`train` is wrong"),
        ({"instructions": {"drawer-open-v3": {"train": ["open"], "held_out": 1}}}, "`held_out` is wrong"),
        ({"known_instructions": ["open the drawer"]}, "`known_instructions` is wrong"),
        ({"known_instructions": {}}, "`known_instructions` is wrong"),
        ({"known_instructions": {"drawer-open-v3": 5}}, "`drawer-open-v3` is wrong"),
    ],
)
def test_a_dataset_json_with_wrong_values_is_refused_by_name(copy, changes, told):
    meta = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**meta, **changes}))
    with pytest.raises(BadInput, match=told) as caught:
        Demonstrations(copy)
    assert "to do:    record it again" in str(caught.value)


def test_held_out_sentences_may_be_left_out(copy):
    meta = json.loads((copy / "dataset.json").read_text())
    for wording in meta["instructions"].values():
        del wording["held_out"]
    (copy / "dataset.json").write_text(json.dumps(meta))
    assert len(Demonstrations(copy)) == 135


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(BadInput, match="record demonstrations first"):
        Demonstrations(tmp_path)
