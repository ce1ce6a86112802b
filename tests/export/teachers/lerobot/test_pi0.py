"""pi0 and pi05 against answers of LeRobot 0.4.4, small and random: recorded by tests_lerobot/pi0_fixture.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput, Refused
from edgevla.policy.engine import open_session
from export.onnx.stages import export_stage
from export.teachers.lerobot import pi0
from export.teachers.lerobot.decoder import DecoderSizes
from export.teachers.lerobot.pi0_net import Pi, fitted
from export.teachers.lerobot.siglip import VisionSizes
from export.teachers.load import load_policy

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = ("pi0", "pi05")
RAW = ("image", "camera_mask", "tokens", "token_mask", "state")
# As in tests_lerobot/pi0_fixture.py, in place of the released sizes.
SMALL = {
    "VARIANTS": {
        "gemma_2b": DecoderSizes(32, mlp=64, layers=3, heads=4, kv_heads=1, head=16, eps=1e-6, gemma=True),
        "gemma_300m": DecoderSizes(24, mlp=48, layers=3, heads=4, kv_heads=1, head=16, eps=1e-6, gemma=True),
    },
    "VISION": VisionSizes(width=32, mlp=64, layers=2, heads=4, image=28, patch=7),
    "VOCABULARY": 64,
}


@pytest.fixture(scope="module", autouse=True)
def small_sizes():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(pi0, name, value)
        yield


@pytest.fixture(scope="module", params=KINDS)
def policy(request, small_sizes):
    return load(request.param)


@pytest.fixture(scope="module")
def recorded(policy):
    with np.load(FIXTURES / policy.spec.name / "recorded.npz") as file:
        arrays = dict(file)
    arrays["image"] = (arrays["image"] / 127.5 - 1).astype(np.float32)
    return arrays


def load(kind, steps=None):
    return load_policy(FIXTURES / kind / "policy", tokenizer=FIXTURES / kind / "vlm", steps=steps)


def chunk_of(policy, recorded, prefix=None, mask=None, **changed):
    noise = torch.from_numpy(recorded["noise"])
    prefix = torch.zeros(*noise.shape[:2], 6) if prefix is None else prefix
    mask = torch.zeros(*noise.shape[:2], 1) if mask is None else mask
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(recorded[name]) for name in RAW}
        return policy({**inputs, **changed}, noise, prefix, mask).numpy()


@pytest.mark.parametrize(("steps", "answer"), [(10, "ten"), (1, "one")])
def test_actions_are_those_of_the_library(policy, recorded, steps, answer):
    chunk = chunk_of(load(policy.spec.name, steps), recorded)
    np.testing.assert_allclose(chunk, recorded[answer], atol=1e-4)
    assert np.abs(recorded[answer] - recorded["noise"][..., :6]).mean() > 0.1


def test_only_pi0_reads_the_state_as_a_number(policy, recorded):
    moved = chunk_of(policy, recorded, state=torch.from_numpy(recorded["state"]) + 0.5)
    difference = np.abs(moved - recorded["ten"]).max()
    assert difference > 1e-3 if policy.spec.name == "pi0" else difference < 1e-4


@pytest.mark.parametrize("name", ["image", "tokens", "token_mask", "camera_mask"])
def test_the_scene_changes_the_actions(policy, recorded, name):
    changed = torch.from_numpy(recorded[name]).clone()
    if name.endswith("mask"):
        changed[:, 0] = 0
    elif name == "tokens":
        changed[:, 0] = (changed[:, 0] + 1) % 16
    else:
        changed = changed + 0.5
    difference = np.abs(chunk_of(policy, recorded, **{name: changed}) - recorded["ten"]).max(axis=(1, 2))
    assert (difference > 1e-4).all()


@pytest.fixture(scope="module")
def graphs(policy):
    """(spec, session) of vision, prefix, step, and head."""
    specs = [*policy.stages(), load(policy.spec.name, steps=1).stages()[-1]]
    return {spec.name: (spec, open_session(export_stage(spec), spec.name)) for spec in specs}


@pytest.mark.parametrize(("last", "answer"), [("step", "ten"), ("head", "one")])
def test_the_graphs_behind_each_other_answer_what_the_library_answers(graphs, recorded, last, answer):
    for row in range(3):
        values = {name: recorded[name][row : row + 1] for name in (*RAW, "noise")}
        values["chunk"] = values["noise"]
        for spec, session in (graphs[name] for name in ("vision", "prefix", last)):
            for time in spec.times or (1.0,):
                values |= {"noisy": values["chunk"], "t": np.array([time], np.float32)}
                outputs = session.run(None, {name: values[name] for name in spec.inputs})
                values |= dict(zip(spec.outputs, outputs, strict=True))
        np.testing.assert_allclose(values["chunk"][0, :, :6], recorded[answer][row], atol=1e-4)


def test_pictures_are_padded_on_both_sides_with_what_the_library_pads():
    wide = fitted(torch.ones(1, 14, 28, 3), 28)
    assert wide.shape == (1, 28, 28, 3)
    assert (wide[0, :7] == -3).all()
    assert (wide[0, 7:21] == 1).all()
    assert (wide[0, 21:] == -3).all()


def test_words_begin_with_the_token_that_the_tokenizer_leaves_out(policy):
    if policy.spec.name == "pi05":
        with pytest.raises(Refused, match="tokenize_with_state"):
            policy.tokenize("push")
        with pytest.raises(BadInput, match="1 to 8 tokens"):
            policy.tokenize_with_state("push", np.zeros(6, np.float32))  # 32 numbers, in a table of 8 words
        return
    tokens, mask = policy.tokenize("push the red cube")
    assert mask.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert tokens[:2].tolist() == [pi0.BOS, 3]


def test_the_state_of_pi05_is_words():
    prompt = pi0.prompt_of(" push_the\ncube ", np.array([-1.5, -1.0, 0.0, 0.9999, 2.0], np.float32), 6)
    assert prompt == "Task: push the cube, State: -1 0 128 255 255 128;\nAction: "


def test_released_sizes_are_three_billion(monkeypatch):
    monkeypatch.undo()
    text = DecoderSizes(2048, mlp=16384, layers=18, heads=8, kv_heads=1, head=256, eps=1e-6, gemma=True)
    expert = DecoderSizes(1024, mlp=4096, layers=18, heads=8, kv_heads=1, head=256, eps=1e-6, gemma=True)
    with torch.device("meta"):
        sizes = pi0.PiSizes(VisionSizes(1152, 4304, 27, 16, 224, 14), text, expert, 257152, five=False)
        count = sum(p.numel() for p in Pi(sizes).parameters())
    assert 3.2e9 < count < 3.6e9
