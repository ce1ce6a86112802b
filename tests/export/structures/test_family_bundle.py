"""Every family the whole way: a training step with part of it frozen, graphs, int8, a bundle, a run in the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

import profiles
from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.control.schedule import Schedule
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Loop
from export import compress as steps
from export.data.load import open_dataset
from export.eval.record import open_record
from export.eval.replay import replay
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk
from export.structures.backbone import freeze
from export.structures.families import FAMILIES
from export.structures.lessons import Lessons, Sizes, spec_of
from export.structures.lora import add_lora, merge_lora
from export.structures.objective import StructureObjective
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher
from export.teachers.load import load_policy
from tests.export.structures.tiny import backbone_of, rows, tiny_config, tiny_policy
from tests.export.user_files import JOINTS, TASKS, write_embodiment, write_recording

STRIDE = 4


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    write_recording(folder / "data", {"front": (32, 32)}, 3, 2)
    write_embodiment(folder / "robot.toml", {"front": "front"}, JOINTS[:3], JOINTS[:2], 10.0)
    words = {"<pad>": 0, **{word: 5 + i for i, word in enumerate(sorted({w for t in TASKS for w in t.split()}))}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_is_trained_packed_in_int8_and_run_in_the_loop(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    for name, count in (("PARITY_FRAMES", 3), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, count)
    data = open_dataset(desk / "data", desk, False)
    spec = spec_of(data, "structure", (32, 32), 8, 2, 6, 2, STRIDE)
    backbone = backbone_of(family)
    torch.manual_seed(0)
    policy = StructurePolicy(tiny_config("policy-head", "lstm", 2, horizon=12), backbone)
    spec = spec_of(data, "structure", (32, 32), 12, 2, 6, 2, STRIDE)
    words = tuple(sorted({w for t in TASKS for w in t.split()})) if family == "ours" else ()
    made = StructureTeacher(policy, spec, words, None if words else desk / "tokenizer.json")
    _one_step(made, data)
    made.eval().save(tmp_path / "policy")
    assert isinstance(load_policy(tmp_path / "policy"), StructureTeacher)
    request = Request(
        TeacherAsk(str(tmp_path / "policy")), str(desk / "data"), tmp_path / "p.bundle", tmp_path / "work", "2s", 0, 1,
        mode=DIRECT, embodiment=desk / "robot.toml", artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
    result = steps.compress(request)  # refuses where FP32 graphs are more than 1e-4 from torch
    bundle = result.bundle
    assert [v for v in (*verify_graphs(bundle), *verify_golden(bundle)) if not v.kept] == []
    assert bundle.manifest.artifact == "cpu-dynamic-s8"
    _in_the_loop(bundle, desk, tmp_path)


def _one_step(teacher: StructureTeacher, data: object) -> None:
    """Vision frozen: its weights stay, others move."""
    policy = teacher.policy.train()
    freeze(policy.backbone, vision=True, language=False, words=False)
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    lessons = Lessons(data, teacher.spec, teacher.tokenize, Sizes(4, 2), seed=0)
    optimiser = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], 0.05)
    StructureObjective(policy, torch.Generator().manual_seed(0))(lessons.next()).backward()
    optimiser.step()
    frozen = {id(p) for p in policy.backbone.vision.parameters()}
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name in moved for name, p in policy.named_parameters() if id(p) in frozen)
    assert any(name.startswith("backbone.") for name in moved)
    assert any(name.startswith("head.") for name in moved)


def _in_the_loop(bundle: object, desk: Path, work: Path) -> None:
    """One recorded episode through schedule, limiter and ladder, in lockstep."""
    manifest = bundle.manifest
    record = open_record(desk / "data", manifest, work)
    channels = manifest.channels
    loop = Loop(
        schedule=Schedule(horizon=12, delay=2, replan=STRIDE, survive=1),
        arm=_arm(len(channels)),
        period_s=manifest.timing.period_s,
        kinds=tuple(c.kind for c in channels), scale=tuple(c.scale for c in channels),
        offset=tuple(c.offset for c in channels),
    )  # fmt: skip
    played = replay(PolicyEngine(bundle), record, 0, manifest, loop)
    assert np.isfinite(played.commanded).all()
    assert len(played.commanded) == record.episodes[0][1] - record.episodes[0][0]
    assert np.ptp(played.commanded, axis=0).max() > 0  # it moved


def _arm(channels: int) -> object:
    from dataclasses import replace

    arm = profiles.load_arm("so101")
    return replace(arm, channels=arm.channels[:channels])


def test_adapters_train_alone_and_vanish_into_the_weights() -> None:
    policy = tiny_policy("policy-head", "lstm", 2, family="llava").train()
    whole = {name for name, _ in policy.backbone.named_parameters()}
    assert add_lora(policy.backbone, rank=2) > 0
    trained = {name for name, p in policy.backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    batch = rows(policy, 4)
    objective = StructureObjective(policy, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = objective(batch)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    policy.eval()
    mask = torch.zeros(4, 8, 1)
    with torch.no_grad():
        before = policy.act(batch, torch.zeros(4, 8, 2), mask.expand(-1, -1, 2), mask)
        assert merge_lora(policy.backbone) > 0
        after = policy.act(batch, torch.zeros(4, 8, 2), mask.expand(-1, -1, 2), mask)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)
    assert {name for name, _ in policy.backbone.named_parameters()} == whole
    with pytest.raises(BadInput, match="rank"):
        add_lora(policy.backbone, rank=0)


def test_a_model_that_transformers_does_not_carry_comes_with_an_adapter_of_ones_own(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples import own_backbone

    for name, count in (("PARITY_FRAMES", 3), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, count)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / own_backbone.DATA).symlink_to(desk / "data")
    request = Request(
        TeacherAsk(f"{own_backbone.__file__}:teacher"), str(desk / "data"), tmp_path / "p.bundle", tmp_path / "work",
        "2s", 0, 1, mode=DIRECT, embodiment=desk / "robot.toml", artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
    bundle = steps.compress(request).bundle
    assert bundle.manifest.timing.memory_ticks == 4
    assert [v for v in (*verify_graphs(bundle), *verify_golden(bundle)) if not v.kept] == []
