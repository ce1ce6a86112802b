"""What the numbers of a policy mean on the robot: a TOML file beside the dataset, which knows names but no units.

arm = "so101"                 # the arm profile the bundle is for
target = "host"
[[action]]
name = "shoulder_pan.pos"
kind = "absolute"             # absolute | delta
space = "joint"               # joint | cartesian | gripper
frame = "arm"
unit = "deg"
minimum = -100.0              # of the set-point
maximum = 100.0
start_minimum = -20.0         # where arming is allowed
start_maximum = 20.0
[[state]]
name = "shoulder_pan.pos"
unit = "deg"
[[camera]]
name = "front"                # as the policy names it
source = "top"                # the dataset's and the arm's name of it; "none": there is no such camera
rate_hz = 30.0
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgevla.bundle.manifest import StateChannel
from edgevla.bundle.schema import JsonTable
from edgevla.errors import BadInput, explain
from export.channels import ACTION_HIGH, ACTION_LOW, STATE, TRAINING_CAMERA, action_channels

if TYPE_CHECKING:
    from export.data.interface import RobotDataset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILL_IN = "FILL IN"
NO_CAMERA = "none"


@dataclass(frozen=True)
class ActionMeaning:
    """One number of an action; limits are of the absolute set-point, in `unit`."""

    name: str
    kind: str  # absolute | delta
    space: str
    frame: str
    unit: str
    minimum: float
    maximum: float
    start_minimum: float
    start_maximum: float


@dataclass(frozen=True)
class CameraMeaning:
    """A camera of the policy, and which one of the robot it is."""

    name: str
    source: str
    rate_hz: float


@dataclass(frozen=True)
class Embodiment:
    """One robot, as a policy sees it."""

    arm: str
    target: str
    actions: tuple[ActionMeaning, ...]
    state: tuple[StateChannel, ...]
    cameras: tuple[CameraMeaning, ...]

    @property
    def camera_sources(self) -> dict[str, str]:
        """The policy's name of each camera -> the dataset's and the arm's."""
        return {camera.name: camera.source for camera in self.cameras}


def reference_embodiment(camera: str = TRAINING_CAMERA.name, rate_hz: float = TRAINING_CAMERA.rate_hz) -> Embodiment:
    """Meta-World's arm with its one camera, as `examples.metaworld.demos` records it."""
    rows = zip(action_channels(), ACTION_LOW, ACTION_HIGH, strict=True)
    keys = ("name", "kind", "space", "frame", "unit", "minimum", "maximum")
    return Embodiment(
        arm="metaworld-sawyer",
        target="host",
        actions=tuple(
            ActionMeaning(**{key: channel[key] for key in keys}, start_minimum=low, start_maximum=high)
            for channel, low, high in ((c, round(float(lo), 6), round(float(hi), 6)) for c, lo, hi in rows)
        ),
        state=tuple(StateChannel(name, unit) for name, unit in STATE),
        cameras=(CameraMeaning(camera, camera, rate_hz),),
    )


class _Table(JsonTable):
    """A table of an embodiment file."""

    todo: ClassVar[str] = "correct the file; `edgevla compress --draft-embodiment` writes one to fill in"

    def filled(self, key: str) -> str:
        """A text that is not the draft's."""
        value = self.text(key)
        if value == FILL_IN:
            self.fail(key, "what it is on your robot", repr(value))
        return value


def read_embodiment(path: Path) -> Embodiment:
    """Reads the file. Raises BadInput naming the key that is wrong."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"embodiment {path.name}", "a TOML file", error, _Table.todo)) from error
    table = _Table(path.name, data)
    found = Embodiment(
        arm=table.name("arm"),
        target=table.name("target"),
        actions=table.each("action", _action),
        state=table.each("state", lambda inside: StateChannel(inside.name("name"), inside.filled("unit"))),
        cameras=table.each("camera", _camera, most=16),
    )
    table.nothing_left()
    return found


def _action(table: _Table) -> ActionMeaning:
    meaning = ActionMeaning(
        name=table.name("name"),
        kind=table.text("kind", ("absolute", "delta")),
        space=table.text("space", ("joint", "cartesian", "gripper")),
        frame=table.filled("frame"),
        unit=table.filled("unit"),
        **{key: table.number(key) for key in ("minimum", "maximum", "start_minimum", "start_maximum")},
    )
    if not meaning.minimum <= meaning.start_minimum <= meaning.start_maximum <= meaning.maximum:
        got = [meaning.minimum, meaning.start_minimum, meaning.start_maximum, meaning.maximum]
        table.fail("minimum", "minimum <= start_minimum <= start_maximum <= maximum", got)
    if meaning.minimum == meaning.maximum:
        table.fail("maximum", f"more than the minimum, {meaning.minimum:g}", meaning.maximum)
    return meaning


def _camera(table: _Table) -> CameraMeaning:
    return CameraMeaning(table.name("name"), table.name("source"), table.number("rate_hz", 0.1, 1000.0))


def require_fits(embodiment: Embodiment, actions: tuple[str, ...], state: tuple[str, ...]) -> None:
    """The file names the numbers of the policy, in its order. Raises BadInput."""
    for key, told, wanted in (
        ("action", [a.name for a in embodiment.actions], actions),
        ("state", [s.name for s in embodiment.state], state),
    ):
        if told != list(wanted):
            expected, got = ", ".join(wanted), ", ".join(told)
            raise BadInput(explain(f"embodiment: {key}", f"{expected}, in this order", got, _Table.todo))


def draft(data: RobotDataset, cameras: Mapping[str, str]) -> str:
    """The file to fill in: names, and the ranges that were recorded. `cameras`: of the policy -> of the dataset."""
    low, high = data.action.min(0), data.action.max(0)
    starts = data.action[np.unique(data.start)]
    lines = [f"arm = {_text(FILL_IN)}  # the profile of the arm", 'target = "host"', ""]
    for i, name in enumerate(data.action_names):
        space = "gripper" if "gripper" in name.lower() else "joint"
        values: dict[str, Any] = {"name": name, "kind": "absolute", "space": space, "frame": "arm", "unit": FILL_IN}
        values |= {"minimum": low[i], "maximum": high[i]}
        values |= {"start_minimum": starts[:, i].min(), "start_maximum": starts[:, i].max()}
        lines += ["[[action]]  # limits: what was recorded", *_lines(values), ""]
    for name in data.state_names:
        lines += ["[[state]]", *_lines({"name": name, "unit": FILL_IN}), ""]
    for name, source in cameras.items():
        lines += ["[[camera]]", *_lines({"name": name, "source": source, "rate_hz": data.fps}), ""]
    return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_text(value)}" for key, value in values.items()]


def _text(value: Any) -> str:
    return (
        json.dumps(value) if isinstance(value, str) else f"{float(value):.6g}" if float(value) % 1 else f"{value:.1f}"
    )
