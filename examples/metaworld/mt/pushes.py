"""How demonstrations of many tasks are disturbed: short pushes, and rest between them in which the expert recovers.

Noise at every tick, as the four tasks of the reference policy are recorded with, teaches fifty episodes of a task
little: what an expert wants in half a second then depends on noise that nobody can foresee, and a policy learns it by
heart. After a push the expert is seen alone, and what it wants follows from where things are.
"""

from __future__ import annotations

import numpy as np

from examples.metaworld.demos import Numbers

PROBABILITY = 0.03  # per tick, of a push where there is none
LENGTH = (2, 15)  # ticks
LARGEST = 1.5  # action units, in each direction; added to what the expert wants, and cut to what an action may be
SHARES = (0.3, 1.0)  # of it: nudges, and pushes away
GRIPPER_SHARE = 0.3  # of the pushes, in which the gripper does something else too: what it held falls, or it comes shut


class Pushes:
    """The disturbance of one episode."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._left = rng, 0
        self._push: Numbers = np.zeros(3)
        self._gripper: float | None = None

    def disturbed(self, wanted: Numbers) -> Numbers:
        """The action (4,) that is taken where the expert wants `wanted`."""
        if self._left == 0 and self._rng.random() < PROBABILITY:
            self._begin()
        if self._left == 0:
            return wanted
        self._left -= 1
        gripper = wanted[3] if self._gripper is None else self._gripper
        return np.append(np.clip(wanted[:3] + self._push, -1, 1), gripper)

    def _begin(self) -> None:
        rng = self._rng
        self._left = int(rng.integers(*LENGTH))
        self._push = rng.uniform(-LARGEST, LARGEST, 3) * rng.choice(SHARES)
        self._gripper = float(rng.uniform(-1, 1)) if rng.random() < GRIPPER_SHARE else None
