"""A policy is shown what its camera saw in training: in lockstep, in evidence and on the virtual arm."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import profiles
from edgevla.bundle.reader import open_bundle
from edgevla.control.children import arm_arguments
from edgevla.control.schedule import Schedule
from edgevla.sim.lockstep import MAX_TICKS, Episode, Loop, play
from edgevla.sim.view import CORNER, TABLE
from edgevla.sim.virtual_arm import _arguments, _scene
from export.evidence import rollouts

LOOP = Loop(
    schedule=Schedule(horizon=32, delay=2, replan=8, survive=2),
    arm=profiles.load_arm("metaworld-sawyer"),
    period_s=0.0125,
    kinds=("delta", "delta", "delta", "absolute"),
    scale=(0.01, 0.01, 0.01, 1.0),
    offset=(0.0, 0.0, 0.0, 0.0),
)


class Watcher:
    """Stands still, and writes down the pictures that it is shown."""

    def __init__(self):
        self.seen = []

    def set_instruction(self, text):
        del text

    def infer(self, image, state, prefix):
        del state, prefix
        self.seen.append(image)
        return np.zeros((32, 4), np.float32)

    def to_setpoints(self, chunk, anchor, d):
        del chunk, d
        return np.repeat(anchor[None], 32, 0)


def test_an_episode_is_seen_from_the_loop_s_view_and_lasts_as_long_as_the_loop_says():
    watcher = Watcher()
    outcome, plant = play(watcher, Episode("reach-v3", 0, "reach"), replace(LOOP, view=TABLE, max_ticks=20))
    assert (outcome.ticks, outcome.success, plant.view) == (20, False, TABLE)
    assert {image.shape for image in watcher.seen} == {(128, 128, 3)}
    plant.close()


@pytest.mark.parametrize(("name", "view", "ticks"), [("table", TABLE, 500), ("corner", CORNER, MAX_TICKS)])
def test_the_loop_of_a_bundle_looks_as_its_first_camera_did(tiny_bundle_path, monkeypatch, name, view, ticks):
    manifest = open_bundle(tiny_bundle_path).manifest
    named = replace(manifest, cameras=(replace(manifest.cameras[0], name=name),))
    monkeypatch.setattr(rollouts, "open_bundle", lambda path: SimpleNamespace(manifest=named))
    loop = rollouts.loop_of(tiny_bundle_path)
    assert (loop.view, loop.max_ticks) == (view, ticks)


@pytest.mark.parametrize("plant", ["integrator", "metaworld"])
def test_the_virtual_arm_draws_what_the_policy_s_camera_saw(plant):
    for camera, side in (("table", 128), ("wrist", 96)):
        scene = _scene(_arguments(["--plant", plant, "--sim", "push-v3", "--camera", camera]))
        assert scene.render().shape == (side, side, 3)
        scene.close()


def test_a_run_tells_the_virtual_arm_the_name_of_the_camera_that_it_stands_in_for():
    options = SimpleNamespace(sim="reach-v3", plant="metaworld", seed=3, half_way=False, cameras={}, camera_fds={})
    memory = SimpleNamespace(cameras={"table": SimpleNamespace(fd=7)})
    arguments, fds = arm_arguments(SimpleNamespace(period_s=0.0125), options, memory)
    told = _arguments(arguments)
    assert (told.camera, told.camera_fd, told.sim, told.seed, fds) == ("table", 7, "reach-v3", 3, [7])
    arguments, _ = arm_arguments(SimpleNamespace(period_s=0.0125), replace_cameras(options, {"table": "v4l2"}), memory)
    assert _arguments(arguments).camera_fd is None  # a real camera draws its own


def replace_cameras(options, cameras):
    return SimpleNamespace(**{**vars(options), "cameras": cameras})
