"""The one noise z that a bundle carries, and how it is chosen.

With a fixed z the teacher is a deterministic policy, and some z serve worse than others: a policy that repeats itself
can get stuck where fresh noise would have freed it. So candidates are played on scenes of their own, and the choice is
written into the teacher's config.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.teachers.folder import Teacher


def drawn(shape: tuple[int, int], seed: int, scale: float) -> npt.NDArray[np.float32]:
    """z float32 (H, Z) of a candidate."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def draw_noise(teacher: Teacher, seed: int, scale: float) -> npt.NDArray[np.float32]:
    """z float32 (H, A) of a candidate for the reference policy."""
    config = teacher.model.config
    return drawn((config.horizon, config.actions), seed, scale)


def noise_scale(teacher: Teacher) -> float:
    """The deviation of the noise this teacher is run with: below 1 it keeps to what it is sure of."""
    return float(teacher.meta.get("noise", {"scale": 1.0})["scale"])


def bundle_noise(teacher: Teacher, seed: int) -> npt.NDArray[np.float32]:
    """The teacher's own choice if its config names one, else drawn from the seed."""
    choice = teacher.meta.get("noise", {"seed": seed, "scale": 1.0})
    return draw_noise(teacher, int(choice["seed"]), float(choice["scale"]))
