"""SmolVLA against answers of LeRobot 0.4.4, tiny and random: recorded by tests_lerobot/smolvla_fixture.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgevla.errors import BadInput, Refused
from edgevla.policy.engine import open_session
from export.onnx.stages import FORBIDDEN, export_stage
from export.teachers.lerobot.flow import euler_times
from export.teachers.lerobot.siglip import places_by_fraction
from export.teachers.lerobot.smolvla_smaller import kept_layers, smaller
from export.teachers.load import load_policy

FIXTURE = Path(__file__).parent / "fixtures/smolvla"
RAW = ("image", "camera_mask", "tokens", "token_mask", "state")


@pytest.fixture(scope="module")
def recorded():
    with np.load(FIXTURE / "recorded.npz") as file:
        arrays = dict(file)
    arrays["image"] = (arrays["image"] / 127.5 - 1).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def policy():
    return load_policy(FIXTURE / "policy", tokenizer=FIXTURE / "vlm")


@pytest.fixture(scope="module")
def student(policy):
    return policy.as_student(d_max=3)


@pytest.fixture(scope="module")
def graphs(policy, student):
    """name -> (spec, session, model); the student's head beside the teacher's stages."""
    specs = [*policy.stages(), student.stages()[-1]]
    exported = {spec.name: (spec, export_stage(spec)) for spec in specs}
    return {
        name: (spec, open_session(graph, name), onnx.load_model_from_string(graph))
        for name, (spec, graph) in exported.items()
    }


def tensors(arrays, names=RAW, rows=slice(None)):
    return {name: torch.from_numpy(arrays[name][rows]) for name in names}


def chunk_of(policy, recorded, prefix=None, mask=None, **changed):
    noise = torch.from_numpy(recorded["noise"])
    prefix = torch.zeros(*noise.shape[:2], 6) if prefix is None else prefix
    mask = torch.zeros(*noise.shape[:2], 1) if mask is None else mask
    with torch.inference_mode():
        return policy({**tensors(recorded), **changed}, noise, prefix, mask).numpy()


@pytest.mark.parametrize(("steps", "answer"), [(10, "ten"), (1, "one")])
def test_actions_are_those_of_the_library(recorded, steps, answer):
    policy = load_policy(FIXTURE / "policy", tokenizer=FIXTURE / "vlm", steps=steps)
    np.testing.assert_allclose(chunk_of(policy, recorded), recorded[answer], atol=1e-4)
    moved = np.abs(recorded[answer] - recorded["noise"][..., :6]).mean()
    assert moved > 0.5  # otherwise the noise alone would pass


@pytest.mark.parametrize("name", RAW)
def test_every_input_changes_the_actions(policy, recorded, name):
    changed = tensors(recorded)[name].clone()
    if name.endswith("mask"):
        changed[:, 0] = 0
    elif name == "tokens":
        changed[:, 0] = (changed[:, 0] + 1) % 16
    else:
        changed = changed + 0.5
    difference = np.abs(chunk_of(policy, recorded, **{name: changed}) - recorded["ten"]).max(axis=(1, 2))
    assert (difference > 1e-3).all()


def test_what_a_missing_camera_shows_does_not_matter(policy, recorded):
    image = tensors(recorded)["image"].clone()
    image[1, 1] = 1.0  # masked in the recording
    np.testing.assert_allclose(chunk_of(policy, recorded, image=image), recorded["ten"], atol=1e-4)


def test_words_become_the_tokens_of_the_library(policy, recorded):
    tokens, mask = policy.tokenize("push the red cube")
    np.testing.assert_array_equal(mask, recorded["text_mask"])
    np.testing.assert_array_equal(tokens * (mask > 0), recorded["text_tokens"] * (mask > 0))
    assert tokens[int(mask.sum()) - 1] == 2  # the new line that the library puts behind


def test_state_and_action_are_scaled_as_in_the_library(policy, recorded):
    state = policy.spec.state_stats.apply(recorded["raw_state"])
    np.testing.assert_allclose(state, recorded["normalised_state"], atol=1e-5)
    action = policy.spec.action_stats.invert(recorded["normalised_action"])
    np.testing.assert_allclose(action, recorded["raw_action"], atol=1e-5)


def test_the_spec_says_what_the_folder_says(policy):
    spec = policy.spec
    assert [camera.name for camera in spec.cameras] == ["camera1", "camera2"]
    assert {(camera.height, camera.width, camera.fit, camera.when_missing) for camera in spec.cameras} == {
        (64, 64, "pad", "refuse")
    }
    assert (spec.horizon, spec.d_max, spec.max_tokens, spec.noise) == (6, 0, 8, 32)
    assert len(spec.state) == len(spec.actions) == 6


def test_a_released_policy_does_not_look_at_a_prefix(policy, recorded):
    mask = torch.ones(3, 6, 1)
    np.testing.assert_allclose(chunk_of(policy, recorded, mask=mask), recorded["ten"], atol=1e-4)


def test_a_policy_in_bfloat16_answers_nearly_the_same(recorded, monkeypatch):
    monkeypatch.setattr("export.teachers.precision.SMALL_WEIGHTS", 0)  # or every layer of so small a policy stays FP32
    reduced = load_policy(FIXTURE / "policy", tokenizer=FIXTURE / "vlm", precision="bf16")
    halves = [name for name, p in reduced.named_parameters() if p.dtype == torch.bfloat16]
    assert len(halves) > 50
    got, expected = chunk_of(reduced, recorded), recorded["ten"]
    error = np.sqrt(np.mean((got - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    assert 1e-4 < error < 0.1


def test_a_student_keeps_committed_rows_and_hears_them(student, recorded):
    prefix, mask = torch.full((3, 6, 6), 0.7), (torch.arange(6) < 2).float()[None, :, None].repeat(3, 1, 1)
    held, free = chunk_of(student, recorded, prefix, mask), chunk_of(student, recorded)
    np.testing.assert_array_equal(held[:, :2], np.full((3, 2, 6), 0.7, np.float32))
    assert np.abs(held[:, 2:] - free[:, 2:]).max() > 1e-2
    other = chunk_of(student, recorded, prefix + 1, mask)
    assert np.abs(held[:, 2:] - other[:, 2:]).max() > 1e-3


def test_a_student_can_be_trained_on_prefixes(student, recorded):
    inputs, noise = tensors(recorded), torch.from_numpy(recorded["noise"])
    mask = (torch.arange(6) < 2).float()[None, :, None].repeat(3, 1, 1)
    student.requires_grad_(True)
    chunk = student(inputs, noise, torch.zeros(3, 6, 6), mask)
    chunk.square().mean().backward()
    silent = [name for name, p in student.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    student.requires_grad_(False)
    last = "net.vlm.text_model.layers.3."  # of the last layer only keys and values are read
    assert all(name.startswith(last) and not any(part in name for part in ("k_proj", "v_proj")) for name in silent)


@pytest.mark.parametrize("stage", ["vision", "prefix", "step", "head"])
def test_a_stage_answers_what_torch_answers(graphs, stage):
    spec, session, _ = graphs[stage]
    with torch.no_grad():
        expected = spec.module(*spec.inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = session.run(None, {name: value.numpy() for name, value in spec.inputs.items()})
    assert len(got) == len(spec.outputs)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("stage", ["vision", "prefix", "step", "head"])
def test_a_stage_is_static_and_without_control_flow(graphs, stage):
    _, _, model = graphs[stage]
    assert not {node.op_type for node in model.graph.node} & FORBIDDEN
    dimensions = [d for t in (*model.graph.input, *model.graph.output) for d in t.type.tensor_type.shape.dim]
    assert all(d.HasField("dim_value") for d in dimensions)


@pytest.mark.parametrize(("last", "answer"), [("step", "ten"), ("head", "one")])
def test_the_graphs_behind_each_other_answer_what_the_library_answers(graphs, recorded, last, answer):
    for row in range(3):
        values = {name: recorded[name][row : row + 1] for name in (*RAW, "noise")}
        values |= {"prefix": np.zeros((1, 6, 6), np.float32), "prefix_mask": np.zeros((1, 6, 1), np.float32)}
        for stage in ("vision", "prefix"):
            values |= run(graphs[stage], values)
        values["chunk"] = values["noise"]
        for time in graphs[last][0].times or (None,):
            values |= {"noisy": values["chunk"], "t": np.array([time], np.float32)}
            values |= run(graphs[last], values)
        np.testing.assert_allclose(values["chunk"][0, :, :6], recorded[answer][row], atol=1e-4)


def run(graph, values):
    spec, session, _ = graph
    outputs = session.run(None, {name: values[name] for name in spec.inputs})
    return dict(zip(spec.outputs, outputs, strict=True))


def test_the_step_runs_at_the_times_of_the_library(graphs):
    assert graphs["step"][0].times == pytest.approx((1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1))
    assert graphs["head"][0].times == ()
    assert euler_times(2) == (1.0, 0.5)


def test_fp32_towers_read_the_row_before_and_bfloat16_towers_their_own():
    """Recorded from SmolVLM's embeddings in transformers 4.57.6 for 32 x 32 patches."""
    own = list(range(32))
    rows = {dtype: places_by_fraction(32, 32, dtype)[:32].tolist() for dtype in (torch.float32, torch.bfloat16)}
    assert rows == {torch.float32: [0, *own[:-1]], torch.bfloat16: own}


def test_fewer_layers_keep_their_kind_of_attention(policy):
    sizes = policy.net.sizes
    assert kept_layers(sizes, 2) == [0, 1]
    short = smaller(policy, layers=2)
    assert short.net.sizes.text.layers == short.net.sizes.expert.layers == 2
    assert short.net.expert.layers[1].self_attn.k_proj.weight is policy.net.expert.layers[1].self_attn.k_proj.weight


def test_smaller_pictures_give_fewer_tokens(policy, recorded):
    small = smaller(policy, image_side=32)
    inputs = {**tensors(recorded), "image": torch.zeros(3, 2, 32, 32, 3)}
    with torch.inference_mode():
        _, _, present = small.encode(inputs)
    assert present.shape[1] == 2 * 4 + 8 + 1


@pytest.mark.parametrize("layers", [0, 3, 8])
def test_layers_that_cannot_be_kept_are_refused(policy, layers):
    with pytest.raises(BadInput, match="multiple of 2 up to 4"):
        kept_layers(policy.net.sizes, layers)


def folder_with(tmp_path, **settings):
    shutil.copytree(FIXTURE / "policy", tmp_path / "policy", copy_function=shutil.copyfile)
    config = json.loads((FIXTURE / "policy/config.json").read_text())
    (tmp_path / "policy/config.json").write_text(json.dumps({**config, **settings}))
    return tmp_path / "policy"


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"adapt_to_pi_aloha": True}, Refused, "adapt_to_pi_aloha"),
        ({"add_image_special_tokens": True}, Refused, "add_image_special_tokens"),
        ({"resize_imgs_with_padding": None}, Refused, "a square"),
        ({"resize_imgs_with_padding": [60, 60]}, BadInput, "multiple of 16"),
        ({"num_expert_layers": 3}, BadInput, "divides 4"),
        ({"num_expert_layers": 2}, BadInput, "cross where"),
        ({"max_state_dim": 4}, BadInput, "at most 4"),
        ({"num_vlm_layers": 2}, BadInput, "expert.layers.2"),
        ({"chunk_size": "six"}, BadInput, "chunk_size"),
    ],
)
def test_a_config_that_cannot_be_right_is_one_clear_error(tmp_path, settings, error, said):
    with pytest.raises(error, match=said):
        load_policy(folder_with(tmp_path, **settings), tokenizer=FIXTURE / "vlm")


def test_a_language_model_of_unknown_sizes_asks_for_its_config():
    with pytest.raises(BadInput, match="--tokenizer"):
        load_policy(FIXTURE / "policy")


def test_without_a_tokenizer_words_are_one_clear_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    shutil.copyfile(FIXTURE / "vlm/config.json", tmp_path / "config.json")
    policy = load_policy(FIXTURE / "policy", tokenizer=tmp_path)
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        policy.tokenize("push")


def test_too_many_words_are_refused_not_cut(policy):
    with pytest.raises(BadInput, match="1 to 8 tokens"):
        policy.tokenize("push the red cube and place it in the box")
