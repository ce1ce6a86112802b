"""Any teacher in torch eager plays as the engine plays the graphs that were made from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode
from export.evidence.rollouts import FLOW_TEACHER, PolicySpec, Worker
from export.teachers.eager import EagerPolicy
from export.teachers.folder import SCHEMA
from export.teachers.load import load_policy
from tests.examples.mt_desk import Desk, write_desk
from tests.export.tiny import write_teacher

DICE = np.random.default_rng(0)
PICTURES = DICE.integers(0, 256, (2, 128, 128, 3), np.uint8)
STATE = np.array([0.02, 0.6, 0.2, 0.8], np.float32)
PREFIX = DICE.uniform(-1, 1, (2, 4)).astype(np.float32)
WORDS = "slide the drawer open"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return write_desk(tmp_path_factory.mktemp("eager"))


def opened(desk: Desk, kind: str) -> EagerPolicy:
    policy = PolicySpec(kind, desk.bundle, desk.teacher).open()
    assert isinstance(policy, EagerPolicy)
    policy.set_instruction(WORDS)
    return policy


def test_it_answers_as_the_float_graphs_of_its_bundle_do(desk: Desk) -> None:
    policy, engine = opened(desk, "teacher"), PolicyEngine(open_bundle(desk.bundle), float_model=True)
    engine.set_instruction(WORDS)
    for picture in PICTURES:
        mine, theirs = (one.infer(picture, STATE, PREFIX) for one in (policy, engine))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-4)
        anchor = np.array([0.0, 0.6, 0.2, -1.0], np.float32)
        np.testing.assert_allclose(
            policy.to_setpoints(mine, anchor, 2), engine.to_setpoints(theirs, anchor, 2), atol=2e-4
        )
    assert (policy.infer({"table": PICTURES[0]}, STATE, PREFIX) == policy.infer(PICTURES[0], STATE, PREFIX)).all()


def test_fresh_noise_is_new_at_every_inference_and_the_same_when_the_episode_is_played_again(desk: Desk) -> None:
    policy = opened(desk, "teacher-noise")
    first, second = (policy.infer(PICTURES[0], STATE, PREFIX) for _ in range(2))
    assert (first != second).any()
    policy.set_instruction(WORDS)
    assert (policy.infer(PICTURES[0], STATE, PREFIX) == first).all()
    policy.set_instruction(WORDS)
    assert (policy.infer(PICTURES[1], STATE, PREFIX) != first).any()


def test_a_worker_plays_it(desk: Desk) -> None:
    episode = Episode("drawer-open-v3", 3, WORDS, half_way=True)
    (played,) = Worker(PolicySpec("teacher", desk.bundle, desk.teacher)).play([episode])
    assert played.outcome.inferences == played.outcome.ticks / 8


def test_its_identity_follows_its_weights_and_its_settings(desk: Desk, tmp_path: Path) -> None:
    copy = tmp_path / "teacher"
    copy.mkdir()
    for name in ("model.safetensors", "config.json"):
        (copy / name).write_bytes((desk.teacher / name).read_bytes())
    spec = PolicySpec("teacher", desk.bundle, copy)
    before = spec.identity()
    assert before == PolicySpec("teacher", desk.bundle, desk.teacher).identity()
    settings = copy / "config.json"
    settings.write_text(settings.read_text().replace('"steps": 2', '"steps": 3'))
    assert spec.identity() != before


def test_the_reference_policy_keeps_its_own_engine_and_identity(desk: Desk, tmp_path: Path) -> None:
    assert FLOW_TEACHER == SCHEMA
    folder = write_teacher(tmp_path / "reference")
    spec = PolicySpec("teacher", desk.bundle, folder)
    before = spec.identity()
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert spec.identity() == before
    assert not isinstance(PolicySpec("teacher-noise", desk.bundle, folder).open(), EagerPolicy)


def test_unknown_words_and_a_picture_of_another_size_are_refused(desk: Desk) -> None:
    policy = opened(desk, "teacher")
    with pytest.raises(BadInput, match="outside the vocabulary"):
        policy.set_instruction("open the fridge")
    with pytest.raises(ValueError, match="reference policy"):
        PolicySpec("blank", desk.bundle, desk.teacher).open()


def test_a_teacher_of_another_bundle_or_spacing_is_refused(desk: Desk, tiny_bundle_path: Path, tmp_path: Path) -> None:
    teacher = load_policy(desk.teacher)
    with pytest.raises(BadInput, match="offset and scale"):
        EagerPolicy(teacher, open_bundle(tiny_bundle_path), 8)
    teacher.spec = dataclasses.replace(teacher.spec, observations=2, stride=4)
    with pytest.raises(BadInput, match="ticks between"):
        EagerPolicy(teacher, open_bundle(desk.bundle), 8)
    with pytest.raises(BadInput, match="none in"):
        PolicySpec("teacher", desk.bundle, tmp_path).identity()
    with pytest.raises(BadInput):
        PolicySpec("teacher", desk.bundle, tmp_path).open()
