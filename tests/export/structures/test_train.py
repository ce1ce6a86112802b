"""Recipes: a file says how a policy is trained; stopped, it goes on; another robot's stage keeps what fits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgevla.errors import BadInput, Refused, Usage
from export.data.load import open_dataset
from export.distill.alone import alone
from export.shards import files_of
from export.structures.recipe import read_recipe
from export.structures.train import STOPPED, Manner, Paused, Robot, _lessons, main, run_recipe
from export.teachers.load import load_policy
from tests.export.structures.tiny import backbone_of
from tests.export.user_files import write_recording

ROOT = Path(__file__).parents[3]
MOST_BYTES = 140_000  # of a file: no tensor of the policy below is larger
RECIPE = """
schema = "edgevla.recipe/1"
seed = 3
[policy]
structure = "policy-head"
head = "lstm"
window = 2
stride = 2
horizon = 8
d_max = 2
max_tokens = 6
width = 32
heads = 2
[backbone]
family = "ours"
picture = [32, 32]
width = 32
heads = 2
layers = 1
[[stage]]
name = "in-domain"
data = "DATA"
frames = 1280
learning_rate = 3e-3
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    write_recording(folder / "data", {"front": (32, 32)}, 3, 2)
    write_recording(folder / "other", {"front": (32, 32)}, 5, 4)
    return folder


def written(desk: Path, tmp_path: Path, text: str = RECIPE) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace("DATA", str(desk / "data")).replace("OTHER", str(desk / "other")))
    return path


def test_a_recipe_trains_and_leaves_a_folder_that_is_a_teacher(desk: Path, tmp_path: Path, capsys) -> None:
    main([str(written(desk, tmp_path)), "-o", str(tmp_path / "out"), "--json"])
    assert '"parameters"' in capsys.readouterr().out
    teacher = load_policy(tmp_path / "out")
    assert (teacher.spec.observations, teacher.spec.stride, teacher.spec.d_max) == (2, 2, 2)
    again, _ = run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out", False)
    before = teacher.policy.state_dict()
    assert all(torch.equal(v, before[n]) for n, v in again.policy.state_dict().items())  # nothing is trained again


def test_a_training_that_pauses_goes_on_to_the_same_end(desk: Path, tmp_path: Path, capsys) -> None:
    arguments = [str(written(desk, tmp_path)), "-o", str(tmp_path / "out"), "--json", "--minutes"]
    shares = []
    while not (tmp_path / "out" / "config.json").exists():
        main([*arguments, "0.0005"])  # 30 ms: less than any machine needs for all
        told = json.loads(capsys.readouterr().out)
        shares.append(told.get("share", 1.0))
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert shares[0] < 1.0
    assert "parameters" in told
    main([*arguments, "0.0005"])  # finished: nothing is trained again
    assert "parameters" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_refused(desk: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(written(desk, tmp_path)), "-o", str(tmp_path / "out"), "--device", "cuda:99"])
    assert ended.value.code == BadInput.exit_code
    assert "cuda:99" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_half_the_bytes_are_the_weights_that_play(desk: Path, tmp_path: Path) -> None:
    teacher, _ = run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out", False)
    whole = (tmp_path / "out" / "model.safetensors").stat().st_size
    before = {name: value.clone() for name, value in teacher.policy.state_dict().items()}
    rounded, _ = run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out", False, how=Manner(half=True))
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 0.6 * whole
    kept = load_policy(tmp_path / "out").policy.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in rounded.policy.state_dict().items())
    assert all(torch.allclose(value, kept[name], rtol=1e-3, atol=1e-6) for name, value in before.items())


def test_weights_travel_in_small_files_and_training_goes_on_elsewhere(desk: Path, tmp_path: Path) -> None:
    recipe, small = read_recipe(written(desk, tmp_path)), Manner(most_bytes=MOST_BYTES)
    with pytest.raises(Paused):
        run_recipe(recipe, tmp_path / "here", False, how=replace(small, most_s=1e-3))
    assert len(files_of(tmp_path / "here" / "work" / "stage-0" / "checkpoint.safetensors")) > 3
    for place in ("there", "one-file"):
        shutil.copytree(tmp_path / "here", tmp_path / place)
    shutil.rmtree(tmp_path / "here")
    run_recipe(recipe, tmp_path / "there", False, how=small)
    plain, _ = run_recipe(recipe, tmp_path / "one-file", False)
    assert max(path.stat().st_size for path in (tmp_path / "there").rglob("*.safetensors")) <= MOST_BYTES
    weights = files_of(tmp_path / "there" / "model.safetensors")
    assert len(weights) > 1
    kept = load_policy(tmp_path / "there").policy.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in plain.policy.state_dict().items())
    weights[0].write_bytes(weights[0].read_bytes()[:-1])
    with pytest.raises(BadInput, match="cut off"):
        load_policy(tmp_path / "there")


@pytest.mark.parametrize(
    ("option", "number", "says"),
    [
        ("--shards", "0", "1 or more MiB"),
        ("--shards", "-1", "1 or more MiB"),
        ("--minutes", "-3", "more than 0"),
        ("--minutes", "0", "more than 0"),
        ("--minutes", "nan", "more than 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    desk: Path, tmp_path: Path, option: str, number: str, says: str, capsys
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(written(desk, tmp_path)), "-o", str(tmp_path / "out"), option, number])
    assert ended.value.code == Usage.exit_code
    assert f"{option}\n  expected: {says}\n  got:      {number}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stage_of_another_robot_hands_on_what_has_the_same_shape(desk: Path, tmp_path: Path, capsys) -> None:
    second = RECIPE.split("[[stage]]")[1].replace("in-domain", "fine-tune")
    text = RECIPE.replace("in-domain", "pre-train").replace("DATA", "OTHER") + "[[stage]]" + second
    teacher, _ = run_recipe(read_recipe(written(desk, tmp_path, text)), tmp_path / "out")
    assert (len(teacher.spec.state), len(teacher.spec.actions)) == (3, 2)
    said = capsys.readouterr().err
    assert "fine-tune:" in said
    assert "body.weight" in said  # five joints before, three now
    assert "backbone.model.stem.embed.weight" not in said


def test_robots_that_learn_side_by_side_share_all_but_their_projections(desk: Path, tmp_path: Path, capsys) -> None:
    from safetensors import safe_open

    text = RECIPE + f'beside = ["{desk / "other"}"]\n'
    teacher, _ = run_recipe(read_recipe(written(desk, tmp_path, text)), tmp_path / "out")
    said = capsys.readouterr().err
    assert "beside it a robot of 4 actions" in said
    assert "body.weight" in said  # five joints beside three
    assert "backbone.model.stem.embed.weight" not in said
    with safe_open(tmp_path / "out/work/stage-0/checkpoint.safetensors", framework="pt") as kept:
        names = {key.removeprefix("model.") for key in kept.keys() if key.startswith("model.")}  # noqa: SIM118
    assert "0.backbone.model.stem.embed.weight" in names
    assert "1.backbone.model.stem.embed.weight" not in names  # one backbone, held once
    assert any(name.startswith("1.") and "body.weight" in name for name in names)
    again, _ = run_recipe(read_recipe(written(desk, tmp_path, text)), tmp_path / "out", False)
    before = teacher.policy.state_dict()
    assert all(torch.equal(v, before[n]) for n, v in again.policy.state_dict().items())  # nothing is trained again
    alone, _ = run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "alone", False)
    assert not torch.equal(alone.policy.backbone.model.stem.embed.weight, before["backbone.model.stem.embed.weight"])


def test_what_a_guest_learned_for_itself_goes_on_when_its_turn_comes(desk: Path, tmp_path: Path, capsys) -> None:
    own = RECIPE.split("[[stage]]")[1]
    text = (
        f'{RECIPE}beside = ["{desk / "other"}"]\n[[stage]]{own.replace("DATA", "OTHER").replace("in-domain", "next")}'
    )
    teacher, _ = run_recipe(read_recipe(written(desk, tmp_path, text)), tmp_path / "out")
    assert len(teacher.spec.actions) == 4
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ") and "go on" in line)
    assert said.endswith("anew: none")


def test_each_stage_draws_batches_of_its_own_and_keeps_the_mean_of_its_own_pictures(desk: Path, tmp_path: Path) -> None:
    second = RECIPE.split("[[stage]]")[1]
    text = RECIPE.replace("DATA", "OTHER").replace("1280", "64") + "[[stage]]" + second.replace("1280", "64")
    recipe = read_recipe(written(desk, tmp_path, text))
    both, _ = run_recipe(recipe, tmp_path / "both", False)
    alone, _ = run_recipe(read_recipe(written(desk, tmp_path, RECIPE.replace("1280", "64"))), tmp_path / "one", False)
    assert torch.equal(both.policy.backbone.model.stem.mean, alone.policy.backbone.model.stem.mean)
    data = open_dataset(desk / "data", tmp_path, False)
    batches = [_lessons([Robot(both, data)], recipe.stages[1], [3, 0, number])[1]() for number in (0, 1, 1)]
    assert torch.equal(batches[1]["state"], batches[2]["state"])
    assert not torch.equal(batches[0]["state"], batches[1]["state"])


def test_the_shared_gradient_is_the_mean_of_both_robots(desk: Path, tmp_path: Path) -> None:
    from torch import nn

    from export.structures.together import Together

    class Squared(nn.Module):
        def __init__(self, weight: nn.Parameter) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return (self.weight * batch["x"]).square().sum()

    weight = nn.Parameter(torch.tensor([2.0]))
    both = Together([Squared(weight), Squared(weight)])
    both({"0/x": torch.tensor([1.0]), "1/x": torch.tensor([3.0])}).backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx((2 * 2 * 1 + 2 * 2 * 9) / 2)


def test_a_pre_trained_folder_is_frozen_or_adapted(desk: Path, tmp_path: Path) -> None:
    made = backbone_of("smolvlm")
    made.model.save_pretrained(tmp_path / "vlm")
    _tokenizer(tmp_path / "vlm")
    head, tail = RECIPE.split("[backbone]")
    text = f"""{head}[backbone]
folder = "{tmp_path / "vlm"}"
picture = [32, 32]
freeze = ["vision", "words"]
lora_rank = 2
[[stage]]{tail.split("[[stage]]")[1]}"""
    before = {name: p.clone() for name, p in made.model.named_parameters()}
    teacher, _ = run_recipe(read_recipe(written(desk, tmp_path, text)), tmp_path / "out", False)
    after = dict(teacher.policy.backbone.model.named_parameters())
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("text_model.layers.") for name in moved)


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "push": 5, "lift": 6, "the": 7, "red": 8, "cube": 9}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('schema = "edgevla.recipe/1"', 'schema = "edgevla.recipe/9"', "schema"),
        ("seed = 3", "sead = 3", "seed"),
        ("window = 2", "window = 2\nactions = 7", "they come from the data"),
        ("window = 2", "windov = 2", "no window"),
        ("window = 2", "window = 2\nwindov = 2", "windov"),
        ('family = "ours"', 'family = "theirs"', "ours"),
        ("picture = [32, 32]", "picture = [32]", "2 numbers"),
        ("frames = 1280", "frames = 1", "frames"),
        ("learning_rate = 3e-3", "learning_rate = 3e-3\nlr = 1", "lr"),
        ("learning_rate = 3e-3", 'learning_rate = 3e-3\nbeside = "out/other"', "beside"),
        ("learning_rate = 3e-3", 'learning_rate = 3e-3\nbeside = ["DATA"]', "data of other robots"),
        ("max_tokens = 6", "", "max_tokens"),
        ("stride = 2", "", "stride"),
        ("layers = 1", 'layers = 1\nlora_rank = 2\nfreeze = ["language"]', "lora_rank"),
        ("layers = 1", "layers = 1\nlora_rank = 2", "from scratch"),
        ("layers = 1", "layers = 1\nfreeze = 5", "list of text"),
        ("layers = 1", "layers = 1\npatch = 7", "multiples of patch = 7"),
        ("heads = 2\nlayers = 1", "heads = 5\nlayers = 1", "heads = 5"),
        ('family = "ours"', 'family = "kosmos-2"', 'folder = "DIR"'),
        ('family = "ours"', 'folder = "nowhere"', "config.json"),
        ("picture = [32, 32]", "picture = [0, 32]", "whole pixels"),
        ("picture = [32, 32]", "picture = [31.5, 32]", "whole pixels"),
        ("d_max = 2", "d_max = 8", "less than the horizon"),
        ("d_max = 2", "d_max = -1", "d_max"),
        ("horizon = 8", "horizon = 0", "from 1 to"),
        ("horizon = 8", 'horizon = "8"', "whole number"),
        ("horizon = 8", "horizon = 6", "ticks_per_token"),
        ("stride = 2", "stride = 0", "from 1 to"),
        ("window = 2", "window = true", "whole number"),
        ("window = 2", "window = 2\nlatents = 0", "from 1 to"),
        ("window = 2", "window = 2\nbins = 1", "from 2 to"),
        ("window = 2", "window = 2\nbound = 0", "above 0"),
        ('"lstm"', '"lstmm"', "lstmm"),
        ("learning_rate = 3e-3", 'learning_rate = 3e-3\nbeside = ["DATA/"]', "data of other robots"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(desk: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in RECIPE
    path = written(desk, tmp_path, RECIPE.replace(old, new))
    with pytest.raises(BadInput, match=said) as refused:
        run_recipe(read_recipe(path), tmp_path / "out", False)
    assert str(refused.value).startswith(str(path))
    assert not (tmp_path / "out").exists()  # the corrected recipe may go there


def test_a_recipe_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="check the path"):
        read_recipe(tmp_path / "none.toml")


def test_data_that_cannot_be_learned_from_leaves_nothing_behind(desk: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        run_recipe(read_recipe(written(desk, tmp_path, RECIPE.replace("DATA", "nowhere"))), tmp_path / "out", False)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_policy_is_left_as_it_is(desk: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("{}")
    with pytest.raises(Refused, match="no recipe of ours"):
        run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out", False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    with pytest.raises(BadInput, match="a file"):
        run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out/config.json", False)


def test_two_sessions_do_not_train_in_one_folder(desk: Path, tmp_path: Path) -> None:
    with alone(tmp_path / "out/work"), pytest.raises(Refused, match="another is at work"):
        run_recipe(read_recipe(written(desk, tmp_path)), tmp_path / "out", False)
    assert not (tmp_path / "out/work/recipe.json").exists()


def test_ctrl_c_is_one_line_and_the_next_call_goes_on(desk: Path, tmp_path: Path) -> None:
    path = written(desk, tmp_path, RECIPE.replace("frames = 1280", "frames = 128000"))
    command = [sys.executable, "-m", "export.structures.train", str(path), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "out/work/stage-0/log.jsonl"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == STOPPED
    assert "the same command goes on" in said
    assert "Traceback" not in said
    run_recipe(read_recipe(written(desk, tmp_path, RECIPE)), tmp_path / "other", False)  # nothing is left locked


def test_ten_demonstrations_of_each_task_are_ten(desk: Path) -> None:
    import numpy as np

    from export.structures.lessons import _usable

    data = open_dataset(desk / "data", desk, False)
    for count in (1, 2):
        ticks = np.flatnonzero(_usable(data, count))
        begins = np.unique(np.asarray(data.start)[ticks])
        assert len(begins) == 2 * count  # two tasks


def test_checkpoints_of_another_recipe_are_not_gone_on_with(desk: Path, tmp_path: Path) -> None:
    short = RECIPE.replace("frames = 1280", "frames = 64")
    run_recipe(read_recipe(written(desk, tmp_path, short)), tmp_path / "out", False)
    with pytest.raises(BadInput, match="of another"):
        run_recipe(read_recipe(written(desk, tmp_path, short.replace("seed = 3", "seed = 4"))), tmp_path / "out", False)
