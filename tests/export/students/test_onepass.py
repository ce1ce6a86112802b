"""The compact student with any number of cameras, any sizes, words or none, noise of any width; and its file."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from edgevla.policy.engine import open_session
from export.onnx.stages import export_stage, interface
from export.students.interface import Feeding, load_student, save_student
from export.students.onepass import OnePassStudent, StudentConfig
from export.teachers.interface import CameraSpec

WIDE = {
    "vocabulary": 12, "max_tokens": 5, "pictures": 3, "picture_height": 32, "picture_width": 48, "state": 7,
    "actions": 6, "noise": 32, "horizon": 50, "d_max": 12, "ticks_per_token": 5, "width": 64, "heads": 2,
}  # fmt: skip


def made(**changes):
    torch.manual_seed(0)
    return OnePassStudent(StudentConfig(**{**WIDE, **changes})).eval()


def question(config, batch=2, seed=1):
    """inputs, noise, prefix, mask"""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    inputs = {
        "image": normal(batch, config.pictures, config.picture_height, config.picture_width, 3),
        "state": normal(batch, config.state),
        "tokens": torch.randint(1, max(config.vocabulary, 2), (batch, config.max_tokens), generator=generator),
    }
    mask = (torch.arange(config.horizon) < 4).float()[None, :, None].expand(batch, -1, 1)
    rest = normal(batch, config.horizon, config.noise), normal(batch, config.horizon, config.actions), mask
    return inputs, *rest


@torch.inference_mode()
def answer(model, *asked):
    return model(*asked)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},  # noise padded to 32 for 6 actions, as SmolVLA's
        {"noise": 2, "pictures": 1, "horizon": 7, "ticks_per_token": 7},
        {"vocabulary": 0, "noise": 0},
    ],
)
def test_every_interface_exports_and_answers_by_onnx_what_it_answers_in_torch(changes):
    model = made(**changes)
    inputs, noise, prefix, mask = question(model.config, batch=1)
    values = {"image": inputs["image"], "tokens": inputs["tokens"], "state": inputs["state"]}
    values |= {"noise": noise, "prefix": prefix, "prefix_mask": mask}
    stages = model.stages()
    assert ("text" in {stage.name for stage in stages}) == (model.config.vocabulary > 0)
    assert ("noise" in stages[-1].inputs) == (model.config.noise > 0)
    for stage in stages:
        assert {n: v.shape for n, v in stage.inputs.items()} == {
            n: values[n].shape if n in values else v.shape for n, v in stage.inputs.items()
        }
        session = open_session(export_stage(stage), stage.name)
        got = session.run(None, {name: values[name].numpy() for name in stage.inputs})
        values |= {name: torch.from_numpy(value) for name, value in zip(stage.outputs, got, strict=True)}
    expected = answer(model, inputs, noise, prefix, mask)
    assert expected.shape == (1, model.config.horizon, 6)
    np.testing.assert_allclose(values["chunk"].numpy(), expected.numpy(), atol=1e-4)
    assert interface(stages[-1], "head.onnx")["outputs"][0]["shape"] == list(expected.shape)


def test_prefix_rows_come_out_as_they_went_in_whatever_the_noise_holds():
    model = made()
    inputs, noise, prefix, mask = question(model.config)
    chunk = answer(model, inputs, noise, prefix, mask)
    assert torch.equal(chunk[:, :4], prefix[:, :4])
    assert torch.allclose(chunk, answer(model, inputs, noise + 9 * mask, prefix, mask), atol=1e-5)


@pytest.mark.parametrize("number", [0, 5, 6, 31])
def test_every_number_of_the_noise_bears_on_the_chunk_also_those_behind_the_actions(number):
    model = made()
    inputs, noise, prefix, mask = question(model.config)
    other = noise.clone()
    other[..., number] += 1.0
    assert (answer(model, inputs, noise, prefix, mask) - answer(model, inputs, other, prefix, mask)).abs().max() > 1e-4


def test_the_same_picture_from_another_camera_is_another_observation():
    model = made()
    inputs, *rest = question(model.config)
    swapped = {**inputs, "image": inputs["image"][:, [1, 0, 2]]}
    torch.nn.init.normal_(model.position)  # zero at the start, learned
    assert (answer(model, inputs, *rest) - answer(model, swapped, *rest)).abs().max() > 1e-3


def test_each_camera_has_a_mean_picture_of_its_own():
    model = made()
    inputs = question(model.config, batch=40)[0]
    shifted = inputs["image"] + torch.tensor([0.0, 1.0, 2.0])[:, None, None, None]
    model.stem.whiten(shifted.flatten(0, 1))
    assert model.stem.mean.mean((1, 2, 3)).tolist() == pytest.approx([0.0, 1.0, 2.0], abs=0.05)
    assert model.stem.patches(model.stem.mean).abs().max() < 1e-5


def test_sizes_that_patches_do_not_fill_are_refused():
    with pytest.raises(ValueError, match="multiples of 16 pixels, got 40 x 48"):
        made(picture_height=40)
    with pytest.raises(ValueError, match="a multiple of 4 ticks"):
        made(ticks_per_token=4)


FEEDING = Feeding((CameraSpec("top", 32, 48, "pad", "blank"),), 2, ("open", "push"), 5)


def test_a_saved_student_comes_back_with_its_words_and_cameras(tmp_path):
    model = made()
    model.fixed_noise = torch.randn(50, 32)
    save_student(tmp_path / "s.safetensors", model, FEEDING, {"mode": "distil"})
    saved = load_student(tmp_path / "s.safetensors")
    assert torch.equal(saved.student.fixed_noise, model.fixed_noise)
    asked = question(model.config)
    assert torch.equal(answer(saved.student, *asked), answer(model, *asked))
    assert saved.feeding == FEEDING
    assert saved.notes == {"mode": "distil"}
    assert not saved.student.training


@pytest.mark.parametrize("change", ["kind", "config", "nan", "cut", "missing"])
def test_a_file_that_is_no_student_is_refused(tmp_path, change):
    path = tmp_path / "s.safetensors"
    save_student(path, made(), FEEDING, {})
    weights, told = load_file(path), {"kind": "one-pass", "config": WIDE, "feeding": FEEDING.to_dict()}
    if change == "kind":
        told["kind"] = "os:system"
    elif change == "config":
        told["config"] = {**WIDE, "width": 128}
    elif change == "nan":
        weights["bias"][3] = float("nan")
    save_file(weights, path, {name: json.dumps(value) for name, value in told.items()})
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif change == "missing":
        path.unlink()
    with pytest.raises(BadInput, match="NaN or infinity in bias" if change == "nan" else "a whole s.safetensors"):
        load_student(path)
