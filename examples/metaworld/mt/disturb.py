"""Disturbances of an episode, one small wrapper each: around the plant, or in its scene before the first picture.

All draws follow from the episode's seed and the kind, not from the level: a camera that is moved by 4 cm is moved the
same way as by 2 cm, and every policy meets the same disturbance.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.sim.lockstep import Episode, Loop, Plant, Policy, Runner
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import CAMERA
from export.evidence.rollouts import Run

Float32 = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Dice = np.random.Generator

BACKGROUND = ("table_wood", "basic_floor", "wall_metal")  # materials of the scenes: what is not a task's own
CHECK_PX = 32  # of a replaced texture, side of a field
POLITE = ("please", "now", "robot", "could", "you", "for", "me")  # known words that say nothing of the task
UNKNOWN = ("kindly", "immediately", "buddy")  # words that no sentence of training has
THINGS = ("puck", "door", "drawer", "button", "peg", "window")  # known words, each of a task
LONGEST = 12  # words, `max_tokens` of the recipes


# --- around the plant ---


class Around:
    """Another plant, passed through; subclasses disturb one thing of it."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    @property
    def setpoint0(self) -> Float32:
        return self.plant.setpoint0

    def render(self) -> Picture:
        return self.plant.render()

    def position(self) -> Float32:
        return self.plant.position()

    def step(self, setpoint: npt.NDArray[np.floating[Any]]) -> object:
        return self.plant.step(setpoint)


class NoisyState(Around):
    """Normal noise on the hand's x, y, z of every reading. level: deviation, mm."""

    def __init__(self, plant: Plant, level: float, dice: Dice) -> None:
        super().__init__(plant)
        self._sigma_m, self._dice = 1e-3 * level, dice

    def position(self) -> Float32:
        state = self.plant.position().copy()
        state[:3] += (self._sigma_m * self._dice.standard_normal(3)).astype(np.float32)
        return state


class NoisyPicture(Around):
    """Normal noise on every value of every picture. level: deviation, of 255."""

    def __init__(self, plant: Plant, level: float, dice: Dice) -> None:
        super().__init__(plant)
        self._sigma, self._dice = level, dice

    def render(self) -> Picture:
        picture = self.plant.render()
        noise = self._sigma * self._dice.standard_normal(picture.shape, np.float32)
        return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


class DroppedFrames(Around):
    """Some pictures do not come: the one before is seen once more. level: their share."""

    def __init__(self, plant: Plant, level: float, dice: Dice) -> None:
        super().__init__(plant)
        self._share, self._dice = level, dice
        self._last: Picture | None = None

    def render(self) -> Picture:
        dropped = self._dice.random() < self._share
        if self._last is None or not dropped:
            self._last = self.plant.render()
        return self._last


class Delayed(Around):
    """Set-points reach the arm later than the loop knows. level: ticks."""

    def __init__(self, plant: Plant, level: float, dice: Dice) -> None:
        super().__init__(plant)
        self._waiting = deque([plant.setpoint0] * round(level))

    def step(self, setpoint: npt.NDArray[np.floating[Any]]) -> object:
        self._waiting.append(np.array(setpoint))
        return self.plant.step(self._waiting.popleft())


# --- in the loaded scene ---


def camera_moved(plant: Plant, level: float, dice: Dice) -> Plant:
    """The camera stands elsewhere, in a direction of the episode's own. level: cm."""
    model, data = _loaded(plant)
    model.camera(CAMERA).pos[:] += 1e-2 * level * _direction(dice)
    _derive(model, data)
    return plant


def camera_turned(plant: Plant, level: float, dice: Dice) -> Plant:
    """The camera is turned about an axis of the episode's own. level: degrees."""
    import mujoco

    model, data = _loaded(plant)
    camera, turn, turned = model.camera(CAMERA), np.empty(4), np.empty(4)
    mujoco.mju_axisAngle2Quat(turn, _direction(dice), np.deg2rad(level))
    mujoco.mju_mulQuat(turned, camera.quat, turn)
    camera.quat[:] = turned
    _derive(model, data)
    return plant


def light(plant: Plant, level: float, dice: Dice) -> Plant:
    """All lights are as many times as bright, the one at the camera too. level: times."""
    model, _ = _loaded(plant)
    for lamp in (model.vis.headlight.ambient, model.vis.headlight.diffuse, model.vis.headlight.specular):
        lamp[:] *= level
    for lamps in (model.light_ambient, model.light_diffuse, model.light_specular):
        lamps[:] *= level
    return plant


def background(plant: Plant, level: float, dice: Dice) -> Plant:
    """Table, floor and wall become checks of two colours of the episode's own. level: share of their look replaced."""
    scene = _scene(plant)
    model, _ = _loaded(scene)
    for texels in map(partial(_texels, model), BACKGROUND):
        height, width = texels.shape[:2]
        texels[..., :3] = (1 - level) * texels[..., :3] + level * _checks(height, width, dice)
    scene.close()  # textures go to the renderer when it is made
    return plant


def _texels(model: Any, material: str) -> Picture:
    """The material's texture (h, w, channels), to be written to; empty where the scene has no such material."""
    names = [model.mat(i).name for i in range(model.nmat)]
    texture = int(max(model.mat(material).texid)) if material in names else -1
    if texture < 0:
        return np.empty((0, 0, 3), np.uint8)
    shape = [int(part[texture]) for part in (model.tex_height, model.tex_width, model.tex_nchannel)]
    first = int(model.tex_adr[texture])
    texels: Picture = model.tex_data[first : first + shape[0] * shape[1] * shape[2]].reshape(shape)
    return texels


def _scene(plant: Plant) -> MetaworldPlant:
    """Raises TypeError: not a plant of Meta-World."""
    if not isinstance(plant, MetaworldPlant):
        raise TypeError(f"scene to be disturbed: expected a MetaworldPlant, got {type(plant).__name__}")
    return plant


def _loaded(plant: Plant) -> tuple[Any, Any]:
    """MuJoCo's model and data of the scene."""
    environment = _scene(plant)._env
    return environment.model, environment.data


def _derive(model: Any, data: Any) -> None:
    """Where the camera is, before the first step derives it."""
    import mujoco

    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)


def _direction(dice: Dice) -> npt.NDArray[np.float64]:
    """A unit vector (3,), every direction as likely."""
    vector = dice.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def _checks(height: int, width: int, dice: Dice) -> npt.NDArray[np.float64]:
    """A chess board of two random colours, (height, width, 3) of 0 to 255."""
    colours = dice.uniform(0, 255, (2, 3))
    rows, columns = np.arange(height) // CHECK_PX, np.arange(width) // CHECK_PX
    return np.asarray(colours[(rows[:, None] + columns) % 2], np.float64)


# --- in what is said ---


def polite(sentence: str, level: float, dice: Dice) -> str:
    """`level` known words more, some before and some behind; no more than a policy can hear."""
    words = sentence.split()
    more = [POLITE[i] for i in dice.integers(len(POLITE), size=min(round(level), LONGEST - len(words)))]
    half = len(more) // 2
    return " ".join([*more[:half], *words, *more[half:]])


def unknown(sentence: str, level: float, dice: Dice) -> str:
    """`level` words in front that training never had."""
    return " ".join([*(UNKNOWN[i] for i in dice.integers(len(UNKNOWN), size=round(level))), sentence])


def distracted(sentence: str, level: float, dice: Dice) -> str:
    """`level` times it is said that a thing of another task is opposite. What is only polite makes room."""
    words = [word for word in sentence.split() if word not in POLITE] if level else sentence.split()
    for thing in dice.permutation([thing for thing in THINGS if thing not in words])[: round(level)]:
        words += ["across", "from", "the", str(thing)]
    return " ".join(words)


# --- all of them by name ---

Wrap = Callable[[Plant, float, Dice], Plant]
PLANTS: dict[str, Wrap] = {
    "state noise": NoisyState, "pixel noise": NoisyPicture, "dropped frames": DroppedFrames, "delay": Delayed,
}  # fmt: skip
SCENES: dict[str, Wrap] = {
    "camera moved": camera_moved, "camera turned": camera_turned, "light": light, "background": background,
}  # fmt: skip
WORDS: dict[str, Callable[[str, float, Dice], str]] = {
    "words added": polite,
    "another thing named": distracted,
    "unknown words": unknown,
}


@dataclass(frozen=True)
class Disturbed:
    """The `export.evidence.rollouts.Disturbance` of that kind (in PLANTS or SCENES) and level."""

    kind: str
    level: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.level:g}"

    @property
    def changes_scene(self) -> bool:
        return self.kind in SCENES

    def run(self, episode: Episode) -> Run:
        return partial(_runner, self, dice_of(self.kind, episode))


def _runner(what: Disturbed, dice: Dice, policy: Policy, plant: Plant, loop: Loop) -> Runner:
    wrap = {**PLANTS, **SCENES}[what.kind]
    return Runner(policy, wrap(plant, what.level, dice), loop)


def dice_of(kind: str, episode: Episode) -> Dice:
    """Of one kind in one episode."""
    return np.random.default_rng([episode.seed, zlib.crc32(f"{kind} {episode.task}".encode())])


def said(kind: str, level: float, episode: Episode) -> Episode:
    """The episode with other words; kind in WORDS."""
    words = WORDS[kind](episode.instruction, level, dice_of(kind, episode))
    return Episode(episode.task, episode.seed, words, episode.half_way)
