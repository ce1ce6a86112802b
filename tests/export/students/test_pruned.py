"""Students of the teacher's own layers: a SmolVLA's, and those of a module of one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.errors import Refused
from edgevla.policy.engine import open_session
from examples.own_module import OwnPolicy
from export.distill.loop import Recipe, Run, train
from export.distill.losses import DistilObjective
from export.distill.start import Wish, make_student
from export.onnx.stages import export_stage
from export.students import pruned
from export.students.interface import load_student, save_student
from export.students.pruned import OneStepStudent, kept_layers, prune
from export.teachers.load import load_policy

TINY = Path(__file__).parents[1] / "teachers/lerobot/fixtures/smolvla"
D_MAX = 2


@pytest.fixture(scope="module")
def smolvla():
    return load_policy(TINY / "policy", tokenizer=TINY / "vlm")


@pytest.fixture(scope="module")
def question(smolvla):
    """inputs, noise, prefix, mask of three frames that the real library answered"""
    with np.load(TINY / "recorded.npz") as file:
        arrays = dict(file)
    inputs = {n: torch.from_numpy(arrays[n]) for n in ("camera_mask", "tokens", "token_mask", "state")}
    inputs["image"] = torch.from_numpy((arrays["image"] / 127.5 - 1).astype(np.float32))
    noise = torch.from_numpy(arrays["noise"])
    mask = (torch.arange(noise.shape[1]) < torch.tensor([[0], [1], [2]])).float()[..., None]
    prefix = torch.randn(3, noise.shape[1], len(smolvla.spec.actions), generator=torch.Generator().manual_seed(0))
    return inputs, noise, prefix * mask, mask


@pytest.mark.parametrize(
    ("count", "depth", "kept"),
    [
        (16, 1.0, list(range(16))),
        (16, 0.5, [0, 2, 4, 6, 9, 11, 13, 15]),
        (3, 0.4, [0]),
        (2, 0.01, [0]),
        (4, 0.5, [0, 3]),
    ],
)
def test_layers_are_kept_evenly_with_both_ends(count, depth, kept):
    assert kept_layers(count, depth) == kept


@torch.inference_mode()
def test_a_whole_smolvla_student_starts_as_one_step_of_the_teacher(smolvla, question):
    inputs, noise, prefix, _ = question
    student = prune(smolvla, 1.0, D_MAX)
    none = torch.zeros_like(noise[..., :1])
    one = load_policy(TINY / "policy", tokenizer=TINY / "vlm", steps=1)
    assert torch.allclose(student(inputs, noise, prefix, none)[0], one(inputs, noise, prefix, none), atol=1e-5)


@torch.inference_mode()
def test_half_of_the_layers_are_the_teacher_s_own(smolvla, question):
    student = prune(smolvla, 0.5, D_MAX)
    assert student.parameters_total < smolvla.parameters_total
    mine, theirs = student.policy.net.expert.layers[0].state_dict(), smolvla.net.expert.layers[0].state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    chunk, _ = student(*question)
    kept = question[3].expand_as(chunk) > 0
    assert torch.equal(chunk[kept], question[2][kept])


def test_only_the_expert_learns_and_it_comes_nearer_to_the_ten_step_endpoint(smolvla, question, tmp_path):
    """Self-distillation: 60 steps on three frames, prefix rows from the teacher's own chunk."""
    inputs, noise, _, mask = question
    torch.manual_seed(0)
    student, feeding = make_student(smolvla, Wish(depth=1.0, d_max=D_MAX), "distil", noise[0], ("push the red cube",))
    with torch.no_grad():
        endpoint = smolvla(inputs, noise, torch.zeros_like(noise[..., :6]), torch.zeros_like(mask))
    batch = {**inputs, "noise": noise, "prefix": endpoint * mask, "mask": mask, "endpoint": endpoint}
    objective = DistilObjective(student, "distil")
    seeing = {name: value.clone() for name, value in student.policy.net.vlm.state_dict().items()}
    with torch.no_grad():
        before = float(objective(batch))
    run = Run(objective, Recipe(1e9, 1e-3, ema=0.5, bf16=False, steps=60), tmp_path / "c.safetensors")
    train(run, objective, lambda: batch, lambda progress: None)
    with torch.no_grad():
        assert float(objective(batch)) < 0.5 * before
    assert all(torch.equal(value, seeing[name]) for name, value in student.policy.net.vlm.state_dict().items())
    assert not [name for name in run.average if "vlm" in name]
    assert feeding.teacher_tokens
    assert feeding.cameras == smolvla.spec.cameras


@torch.inference_mode()
def test_a_saved_smolvla_student_comes_back_and_exports_with_its_prefix(smolvla, question, tmp_path):
    student, feeding = make_student(smolvla, Wish(depth=0.5, d_max=D_MAX), "distil", question[1][0], ())
    save_student(tmp_path / "s.safetensors", student, feeding, {})
    saved = load_student(tmp_path / "s.safetensors").student
    assert torch.equal(saved(*question)[0], student(*question)[0])
    inputs, noise, prefix, mask = ({k: v[2:] for k, v in p.items()} if isinstance(p, dict) else p[2:] for p in question)
    values = {**inputs, "noise": noise, "prefix": prefix, "prefix_mask": mask}
    stages = saved.stages()
    assert [stage.name for stage in stages] == ["vision", "prefix", "head"]
    with torch.inference_mode(False):
        graphs = [export_stage(stage) for stage in stages]
    for stage, graph in zip(stages, graphs, strict=True):
        got = open_session(graph, stage.name).run(None, {name: values[name].numpy() for name in stage.inputs})
        values |= {name: torch.from_numpy(value) for name, value in zip(stage.outputs, got, strict=True)}
    expected = saved(inputs, noise, prefix, mask)[0]
    np.testing.assert_allclose(values["chunk"][..., :6].numpy(), expected.numpy(), atol=1e-4)


class Cuttable(OwnPolicy):
    """The example with a student of its own: one step instead of four."""

    def pruned(self, depth, d_max):
        student = OneStepStudent(build({"seed": 0}), "own", {"seed": 0}, d_max)
        student.policy.load_state_dict(self.state_dict())
        return student


def build(sizes):
    policy = Cuttable(sizes["seed"])
    policy.decode = lambda context, noise, prefix, mask: OwnPolicy.decode(policy, context, noise, prefix, mask)
    return policy


def test_a_module_of_ones_own_offers_its_student_and_it_can_be_loaded_again(tmp_path, monkeypatch):
    monkeypatch.setitem(pruned.BUILDERS, "own", build)
    student, feeding = make_student(Cuttable(), Wish(), "distil", torch.ones(12, 5), ())
    assert (student.kind, student.d_max) == ("one-step", 3)
    save_student(tmp_path / "s.safetensors", student, feeding, {})
    saved = load_student(tmp_path / "s.safetensors").student
    inputs = {"image": torch.zeros(1, 2, 32, 48, 3), "state": torch.ones(1, 2)}
    empty = torch.zeros(1, 12, 3)
    with torch.inference_mode():
        one, two = (s(inputs, torch.ones(1, 12, 5), empty, empty[..., :1])[0] for s in (student, saved))
    assert torch.equal(one, two)
    assert saved.d_max == 3


def test_a_teacher_in_half_precision_cannot_be_cut(smolvla):
    half = OwnPolicy().to(torch.bfloat16)
    with pytest.raises(Refused, match="weights in float32"):
        prune(half, 0.5, 2)


def test_a_teacher_of_an_architecture_without_a_cutter_is_refused():
    teacher = OwnPolicy()
    teacher.spec = replace(teacher.spec, name="unknown")
    with pytest.raises(Refused, match="student cut from unknown"):
        prune(teacher, 0.5, 2)
