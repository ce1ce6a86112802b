"""How the simulated camera looks at the table, and what it draws. A bundle's camera asks for its view by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CAMERA = "corner2"  # of Meta-World's scenes: the one that every view moves and turns


@dataclass(frozen=True)
class View:
    """A camera at a place, and its pictures.

    target_m: the point looked at, upright with the world's z up; None: turned as in Meta-World's scene.
    fovy_deg: height of the field of view; None: that of Meta-World's scene.
    goals: the goal is drawn as a coloured mark, as in the published data sets; a real camera does not see it.
    supersampling: pictures are rendered this many times as large and averaged.
    flipped: pictures are turned by 180 degrees: Meta-World's camera hangs upside down.
    """

    name: str
    size_px: int  # square
    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float] | None
    fovy_deg: float | None
    goals: bool
    supersampling: int
    flipped: bool


_CLOSER_M = (0.75, 0.075, 0.7)  # moved closer than Meta-World's own, as the Meta-World data sets of LeRobot do
CORNER = View("corner", 96, _CLOSER_M, None, None, goals=False, supersampling=1, flipped=True)
TABLE = View("table", 128, _CLOSER_M, (0.0, 0.66, 0.13), 42.0, goals=True, supersampling=2, flipped=False)
VIEWS = {view.name: view for view in (CORNER, TABLE)}


def view_of(camera: str) -> View:
    """The view that a policy's camera of that name had in training; `CORNER` for any other name."""
    return VIEWS.get(camera, CORNER)


def aim(model: Any, view: View) -> None:
    """Moves the model's camera there; before a reset, where MuJoCo derives the pose."""
    camera = model.camera(CAMERA)
    camera.pos[:] = view.position_m
    if view.target_m is not None:
        camera.quat[:] = _looking(view.position_m, view.target_m)
    if view.fovy_deg is not None:
        camera.fovy[:] = view.fovy_deg


def _looking(position_m: tuple[float, ...], target_m: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Quaternion w, x, y, z of an upright camera: MuJoCo's looks along its -z, with y up."""
    import mujoco

    back = np.subtract(position_m, target_m)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.column_stack([right, np.cross(back, right), back]).reshape(9))
    return quaternion


class FastRenderer:
    """MuJoCo's renderer with shadows, reflections and multisampling off: 10 times as fast at this size."""

    def __init__(self, model: Any, view: View) -> None:
        import mujoco

        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        self._view, side_px = view, view.size_px * view.supersampling
        self._renderer = mujoco.Renderer(model, side_px, side_px)
        self._options = mujoco.MjvOption()
        if not view.goals:
            self._options.sitegroup[:] = 0  # sites mark goals: a real camera does not see them
        self._off = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)

    def frame(self, data: Any) -> npt.NDArray[np.uint8]:
        """RGB uint8 (size_px, size_px, 3)."""
        self._renderer.update_scene(data, camera=CAMERA, scene_option=self._options)
        for flag in self._off:
            self._renderer.scene.flags[flag] = 0
        picture = _averaged(self._renderer.render(), self._view.supersampling)
        return np.ascontiguousarray(picture[::-1, ::-1] if self._view.flipped else picture)

    def close(self) -> None:
        self._renderer.close()


def _averaged(picture: npt.NDArray[np.uint8], times: int) -> npt.NDArray[np.uint8]:
    """Blocks of `times` x `times` pixels become their rounded mean: uint8 (n, n, 3) to (n / times, n / times, 3)."""
    if times == 1:
        return picture
    rows = picture.reshape(len(picture) // times, times, -1, 3).sum(1, dtype=np.uint16)
    sums = rows.reshape(len(rows), -1, times, 3).sum(2, dtype=np.uint16)
    return ((sums + times * times // 2) // (times * times)).astype(np.uint8)
