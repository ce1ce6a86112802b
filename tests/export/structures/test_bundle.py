"""From a trained policy to the robot's engine: structures are packed in int8, remember, and answer as in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.control.timing import evaluate
from edgevla.errors import BadInput, DeviceFault, Refused
from edgevla.policy.engine import PolicyEngine
from export import compress as steps
from export.data.load import open_dataset
from export.distill.student import distil, settings_of
from export.launch import distillation_options
from export.request import DIRECT, ArtifactAsk, Request, StudentAsk, TeacherAsk
from export.structures.config import SEQUENTIAL
from export.structures.lessons import Lessons, Sizes, spec_of
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher, load_structure
from export.teachers.load import load_policy
from profiles import load_arm, load_target
from tests.export.structures.tiny import WORDS, own_backbone, tiny_config
from tests.export.user_files import JOINTS, TASKS, write_embodiment, write_recording

VOCABULARY = tuple(sorted({word for text in TASKS for word in text.split()} | {f"word{i}" for i in range(WORDS - 8)}))
KEPT = [
    ("one-step", "discrete", 1), ("one-step", SEQUENTIAL, 1), ("one-step", "flow-one-pass", 1),
    ("interleaved", "mlp", 3), ("policy-head", "lstm", 3), ("policy-head", "gpt", 3), ("policy-head", "flow", 3),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("structures")
    write_recording(folder / "data", {"front": (32, 32)}, 3, 2)
    write_embodiment(folder / "robot.toml", {"front": "front"}, JOINTS[:3], JOINTS[:2], 10.0)
    return folder


def teacher_of(desk: Path, structure: str, head: str, window: int) -> StructureTeacher:
    data = open_dataset(desk / "data", desk, False)
    spec = spec_of(data, "structure", (32, 32), 8, 2, 6, window, 4)
    config = tiny_config(structure, head, window)
    torch.manual_seed(0)
    return StructureTeacher(StructurePolicy(config, own_backbone()), spec, VOCABULARY[: WORDS - 1]).eval()


@pytest.mark.parametrize("cell", KEPT, ids=lambda cell: "-".join(map(str, cell)))
def test_a_policy_is_packed_and_the_engine_remembers_as_torch_does(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: tuple[str, str, int]
) -> None:
    for name, count in (("PARITY_FRAMES", 4), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, count)
    made = teacher_of(desk, *cell)
    made.save(tmp_path / "policy")
    request = Request(
        TeacherAsk(str(tmp_path / "policy")), str(desk / "data"), tmp_path / "p.bundle", tmp_path / "work", "2s", 0, 1,
        mode=DIRECT, embodiment=desk / "robot.toml", artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
    bundle = steps.compress(request).bundle
    assert [v for v in (*verify_graphs(bundle), *verify_golden(bundle)) if not v.kept] == []
    window = cell[2]
    assert bundle.noise is not None or not cell[1].startswith("flow")
    if bundle.noise is not None:  # the middle of what a flow learned from
        np.testing.assert_array_equal(bundle.noise, np.zeros((made.spec.horizon, made.spec.noise), np.float32))
    assert bundle.manifest.observations == 1
    assert bundle.manifest.timing.memory_ticks == (4 if window > 1 else 0)
    engine = PolicyEngine(bundle, float_model=True)
    assert engine.remembers == (window > 1)
    engine.set_instruction(TASKS[0])
    shown, states = _moments(window + 2)
    first = engine.infer({"front": shown[0]}, states[0], np.zeros((0, 2), np.float32))
    engine.forget()
    for moment in range(window + 2):
        got = engine.infer({"front": shown[moment]}, states[moment], np.zeros((0, 2), np.float32))
        begun = max(0, moment - window + 1)
        wanted = _torch(made, bundle.noise, shown[begun : moment + 1], states[begun : moment + 1])
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-4)
    engine.forget()
    assert np.array_equal(engine.infer({"front": shown[0]}, states[0], np.zeros((0, 2), np.float32)), first)


def _moments(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.normal(size=(count, 3)).astype(np.float32)


def _torch(teacher: StructureTeacher, noise: np.ndarray | None, shown: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The chunk (H, A) of rows of moments, in torch."""
    spec = teacher.spec
    tokens, mask = teacher.tokenize(TASKS[0])
    inputs = {
        "image": torch.from_numpy(shown.astype(np.float32) / 127.5 - 1.0)[None],
        "state": torch.from_numpy(spec.state_stats.apply(states)).flatten()[None],
        "tokens": torch.from_numpy(tokens)[None], "token_mask": torch.from_numpy(mask)[None],
    }  # fmt: skip
    start = torch.zeros(1, 8, 2) if noise is None else torch.from_numpy(noise)[None]
    with torch.no_grad():
        return teacher(inputs, start, torch.zeros(1, 8, 2), torch.zeros(1, 8, 1))[0].numpy()


def test_a_folder_is_read_back_and_a_damaged_one_is_named(desk: Path, tmp_path: Path) -> None:
    made = teacher_of(desk, "policy-head", "lstm", 3)
    made.save(tmp_path)
    again = load_policy(tmp_path)
    assert isinstance(again, StructureTeacher)
    shown, states = _moments(3)
    assert np.array_equal(_torch(made, None, shown, states), _torch(again, None, shown, states))
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BadInput, match="weights and sizes of one policy"):
        load_structure(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json and model\.safetensors"):
        load_structure(tmp_path)


def test_another_spacing_than_that_of_training_is_refused(desk: Path) -> None:
    from edgevla.bundle.manifest import Timing

    target, arm = load_target("host"), load_arm("metaworld-sawyer")
    timing = Timing(period_s=0.0125, horizon=32, d_max=8, memory_ticks=target.replan_ticks)
    kept = {claim.name: claim.kept for claim in evaluate(timing, target, arm)}
    assert kept["spacing of the memory"]
    other = {c.name: c for c in evaluate(replace(timing, memory_ticks=target.replan_ticks + 1), target, arm)}
    claim = other["spacing of the memory"]
    assert claim.kept is False
    assert f"replan_ticks = {target.replan_ticks + 1}" in claim.todo
    none = {claim.name for claim in evaluate(replace(timing, memory_ticks=0), target, arm)}
    assert "spacing of the memory" not in none


def test_rows_of_moments_say_what_was_seen_and_done_there(desk: Path) -> None:
    data = open_dataset(desk / "data", desk, False)
    spec = spec_of(data, "structure", (32, 32), 4, 2, 6, 3, 2)
    made = teacher_of(desk, "policy-head", "lstm", 3)
    lessons = Lessons(data, spec, made.tokenize, Sizes(16, 3), seed=1)
    batch = lessons.next()
    again = Lessons(data, spec, made.tokenize, Sizes(16, 3), seed=1).next()
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    assert batch["image"].shape == (16, 3, 1, 32, 32, 3)
    assert batch["actions"].shape == (16, 3, 4, 2)
    state = batch["state"].numpy() * spec.state_stats.scale + spec.state_stats.offset
    for row in range(16):
        wanted = [np.maximum(t - np.array([4, 2, 0]), data.start[t]) for t in range(len(data))]
        alike = [t for t in range(len(data)) if np.allclose(data.state[wanted[t]], state[row], atol=1e-4)]
        done = spec.action_stats.invert(batch["actions"][row, 0].numpy())
        firsts = [int(wanted[t][0]) for t in alike]
        ahead = [data.action[np.minimum(first + np.arange(4), data.end[first] - 1)] for first in firsts]
        assert any(np.allclose(done, one, atol=1e-5) for one in ahead)
    black = (
        (Lessons(data, spec, made.tokenize, Sizes(64, 3), seed=1, dark=0.5).next()["image"] == -1).flatten(2).all(-1)
    )
    assert 0.3 < float(black.float().mean()) < 0.7


def test_a_student_of_a_policy_with_steps_remembers_too_and_answers_in_one_pass(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("PARITY_FRAMES", 4), ("CALIBRATION_FRAMES", 2), ("SEAM_FRAMES", 4)):
        monkeypatch.setattr(steps, name, count)
    teacher_of(desk, "policy-head", "flow", 3).save(tmp_path / "policy")
    request = Request(
        TeacherAsk(str(tmp_path / "policy")), str(desk / "data"), tmp_path / "s.bundle", tmp_path / "work", "2s", 0, 1,
        examples=512, embodiment=desk / "robot.toml", artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
    scene = steps.open_scene(request)
    work = request.work / steps.fingerprint(request, scene)
    distil(settings_of([*distillation_options(request, work, "distil"), "--steps", "4", "--batch", "4"]))
    bundle = steps.compress(request).bundle
    assert [v for v in (*verify_graphs(bundle), *verify_golden(bundle)) if not v.kept] == []
    assert bundle.manifest.timing.memory_ticks == 4
    assert not any(stage.times for stage in bundle.manifest.stages)
    assert bundle.manifest.student.parameters < bundle.manifest.teacher.parameters
    with pytest.raises(Refused, match="ticks apart"):
        steps.compress(replace(request, student=StudentAsk(form="compact")))


def test_a_student_has_the_weights_of_the_layers_that_it_keeps(desk: Path) -> None:
    teacher = teacher_of(desk, "policy-head", "diffusion", 3)
    student = teacher.pruned(1.0, 2)
    mine, theirs = student.policy.policy.state_dict(), teacher.policy.state_dict()
    assert all(
        torch.equal(mine[name], theirs[name])
        for name in mine
        if name in theirs and mine[name].shape == theirs[name].shape
    )
    assert student.policy.policy.config.head == "flow-one-pass"
    with pytest.raises(Refused, match="a policy that speaks"):
        teacher_of(desk, "one-step", SEQUENTIAL, 1).pruned(1.0, 2)


def test_a_memory_that_is_no_number_stops_the_policy(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("PARITY_FRAMES", 2), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, count)
    teacher_of(desk, "policy-head", "discrete", 3).save(tmp_path / "policy")
    request = Request(
        TeacherAsk(str(tmp_path / "policy")), str(desk / "data"), tmp_path / "p.bundle", tmp_path / "work", "2s", 0, 1,
        mode=DIRECT, embodiment=desk / "robot.toml", artifact=ArtifactAsk("fp32"),
    )  # fmt: skip
    engine = PolicyEngine(steps.compress(request).bundle)
    engine.set_instruction(TASKS[0])
    shown, states = _moments(2)
    engine.infer({"front": shown[0]}, states[0], np.zeros((0, 2), np.float32))
    engine._memory = {name: np.full_like(value, np.nan) for name, value in engine._memory.items()}
    with pytest.raises(DeviceFault):
        engine.infer({"front": shown[1]}, states[1], np.zeros((0, 2), np.float32))
