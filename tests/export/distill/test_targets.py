"""Cached teacher answers: the same whoever makes them, whole or not there."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from export.distill import targets as targets_module
from export.distill.targets import TargetPlan, Targets, make_shard, missing_shards, shard_path

NOISE = torch.from_numpy(np.random.default_rng(5).standard_normal((32, 4)).astype(np.float32))
PLAN = TargetPlan(2, 5, NOISE)


@pytest.fixture(scope="module")
def made(teacher, counting, tmp_path_factory):
    """Both shards of a plan, 64 examples each instead of 512."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets_module, "SHARD", 64)
        patch.setattr(targets_module, "BATCH", 32)
        folder = tmp_path_factory.mktemp("targets")
        for number in (1, 0):
            make_shard(teacher, counting, PLAN, number, folder)
        again = tmp_path_factory.mktemp("again")
        make_shard(teacher, counting, PLAN, 0, again)
    return folder, again


def test_a_shard_is_the_same_in_whatever_order_and_place_it_is_made(made):
    folder, again = made
    assert shard_path(folder, 0).read_bytes() == shard_path(again, 0).read_bytes()
    one, two = load_file(shard_path(folder, 0)), load_file(shard_path(folder, 1))
    assert (one["noise"] != two["noise"]).any()


def test_half_of_the_examples_start_from_the_noise_of_the_bundle(made):
    rows = [load_file(shard_path(made[0], number)) for number in (0, 1)]
    noise = torch.cat([r["noise"] for r in rows])
    fixed = (noise == NOISE).all((1, 2)).float().mean()
    assert 0.35 < fixed < 0.65  # 128 examples: 3 sigma is 0.13
    assert noise[~(noise == NOISE).all((1, 2))].std() == pytest.approx(1.0, abs=0.1)


def test_the_endpoint_is_where_the_teacher_s_flow_ends_and_keeps_the_prefix(made, teacher, counting):
    rows = load_file(shard_path(made[0], 0))
    kept = rows["mask"].expand(-1, -1, 4) > 0
    assert (rows["endpoint"][kept] == rows["prefix"][kept]).all()
    assert (rows["prefix"][~kept] == 0).all()
    pixels = [counting.image[s][f] for s, f in zip(rows["shard"].tolist(), rows["frame"].tolist(), strict=True)]
    image = torch.from_numpy(np.stack(pixels)).float() / 127.5 - 1
    with torch.inference_mode():
        names = ("tokens", "state", "noise", "prefix", "mask")
        expected = teacher.model(image, *(rows[name] for name in names))
    error = (rows["endpoint"] - expected)[~kept].square().mean().sqrt() / expected[~kept].square().mean().sqrt()
    assert error < 0.02  # bf16 autocast against float32


def test_the_state_is_normalised_as_the_teacher_was_trained_and_not_by_the_dataset(made, teacher, counting):
    rows = load_file(shard_path(made[0], 0))
    raw = rows["state"].numpy() * teacher.state_std + teacher.state_mean
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-3)  # states of the counting dataset are whole numbers
    assert set(np.round(raw[:, 0]).astype(int)) <= set(range(len(counting)))


def test_only_whole_shards_count_as_made(made, tmp_path):
    assert missing_shards(made[0], PLAN) == []
    assert missing_shards(tmp_path, PLAN) == [0, 1]
    (tmp_path / ".part-00001-4711.safetensors").write_bytes(shard_path(made[0], 1).read_bytes()[:1000])
    assert missing_shards(tmp_path, PLAN) == [0, 1]


def test_a_process_killed_while_writing_leaves_no_shard(teacher, counting, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(targets_module, "SHARD", 8)
    monkeypatch.setattr(targets_module, "BATCH", 8)
    monkeypatch.setattr(targets_module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make_shard(teacher, counting, PLAN, 0, tmp_path)
    assert missing_shards(tmp_path, PLAN) == [0, 1]


def test_a_truncated_shard_and_one_without_a_key_are_refused_by_name(made, counting, tmp_path):
    for number in (0, 1):
        shard_path(tmp_path, number).write_bytes(shard_path(made[0], number).read_bytes())
    whole = shard_path(tmp_path, 1).read_bytes()
    shard_path(tmp_path, 1).write_bytes(whole[:-50])
    with pytest.raises(BadInput, match="targets-00001"):
        Targets(tmp_path, PLAN, counting, 8, 0)
    rows = load_file(shard_path(made[0], 1))
    del rows["endpoint"]
    save_file(rows, shard_path(tmp_path, 1))
    with pytest.raises(BadInput, match="endpoint"):
        Targets(tmp_path, PLAN, counting, 8, 0)


def test_batches_bring_the_image_of_their_own_row(made, counting):
    targets = Targets(made[0], PLAN, counting, 16, 3)
    rows = {key: torch.cat([load_file(shard_path(made[0], n))[key] for n in (0, 1)]) for key in ("noise", "frame")}
    assert len(targets) == 128
    batch = targets.next()
    for i in range(16):
        frame = ((batch["image"][i, 0, 0, 0] + 1) * 127.5).round()  # pixels of the counting dataset are the frame
        assert ((rows["noise"] == batch["noise"][i]).all((1, 2)) & (rows["frame"] == frame)).any()


def test_the_same_seed_draws_the_same_batches(made, counting):
    one, two = (Targets(made[0], PLAN, counting, 8, 3).next() for _ in range(2))
    assert all((one[key] == two[key]).all() for key in one)


def test_the_teacher_s_observation_tokens_are_kept_in_half_precision(made, teacher, counting):
    rows = load_file(shard_path(made[0], 0))
    assert rows["features"].dtype == torch.float16
    frames = zip(rows["shard"].tolist(), rows["frame"].tolist(), strict=True)
    image = torch.from_numpy(np.stack([counting.image[s][f] for s, f in frames])).float() / 127.5 - 1
    with torch.inference_mode():
        expected = teacher.model.encode(image, rows["tokens"], rows["state"])[0]
    assert (rows["features"] - expected).abs().max() < 0.1  # bf16 autocast, numbers around one
