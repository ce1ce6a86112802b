"""Channels of an arm and the joints behind them: what may be commanded, and the units of either side. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import le

import numpy as np

from firmware_bridge.arm import Float32, Joint
from firmware_bridge.errors import BadSetpoint, explain

_SLACK = 0.005  # of a range: a joint that rests on its stop reads a little beyond it
_FLOAT32 = np.dtype(np.float32)
Row = tuple[float, ...]  # (n,)


class Channels:
    """Of `joints` in channel order."""

    def __init__(self, joints: Sequence[Joint]) -> None:
        self._joints = tuple(joints)
        self._shape, self._rows = (len(self._joints),), (4, len(self._joints))
        self._low = np.array([joint.minimum for joint in joints], np.float32)  # as set-points are
        self._high = np.array([joint.maximum for joint in joints], np.float32)
        self._lowest, self._highest = self._low.tolist(), self._high.tolist()
        self._slack = np.array([joint.width * _SLACK for joint in joints])
        self._frame = tuple((joint.direction, joint.zero_rad, joint.ratio) for joint in joints)
        turn = np.array([joint.direction * joint.ratio for joint in joints], float)
        none = np.zeros(len(joints))
        # Joint.to_channel, and the same for rates and efforts: (value - zero) * scale; temperatures as they are
        self._zero = np.concatenate([[joint.zero_rad for joint in joints], none, none, none])
        self._scale = np.concatenate([turn, turn, 1.0 / turn, none + 1.0])

    def judged(self, setpoint: Float32) -> list[float]:
        """The values of a set-point that may be commanded. Raises BadSetpoint for any other."""
        if not isinstance(setpoint, np.ndarray) or setpoint.dtype != _FLOAT32 or setpoint.shape != self._shape:
            got = f"{getattr(setpoint, 'dtype', type(setpoint).__name__)} {getattr(setpoint, 'shape', '')}"
            todo = "pass one float32 per channel of the arm profile"
            raise BadSetpoint(explain("set-point of a wrong kind", f"float32 {self._shape}", got, todo))
        values: list[float] = setpoint.tolist()
        if not (all(map(le, self._lowest, values)) and all(map(le, values, self._highest))):  # NaN is in no range
            raise BadSetpoint(
                explain(
                    "set-point refused before the wire: not finite, or outside its range",
                    self.ranges(),
                    ", ".join(f"{number:g}" for number in values),
                    "limit set-points before they are sent; the arm keeps its last accepted one",
                )
            )
        return values

    def device_rad(self, values: Sequence[float]) -> list[float]:
        """Joint.to_device of each; no float operation in another order, so that both give the same bits."""
        return [d * value / ratio + zero for value, (d, zero, ratio) in zip(values, self._frame, strict=True)]

    def measured(self, position: Row, velocity: Row, effort: Row, temperature: Row) -> Float32:
        """(4, n) in channel units, of what was read in the device's own frame."""
        table = (np.array(position + velocity + effort + temperature) - self._zero) * self._scale
        return table.astype(np.float32).reshape(self._rows)

    def inside(self, position: Float32) -> Float32:
        """`position`, or the end of the range that it lies beyond: where a joint rests on its stop."""
        return np.clip(position, self._low, self._high)

    def outside(self, position: Float32) -> list[str]:
        """Names of the joints that stand farther out than a joint that rests on its stop reads."""
        far = np.abs(position - self.inside(position)) > self._slack
        return [self._joints[i].name for i in np.flatnonzero(far).tolist()]

    def ranges(self) -> str:
        """For people."""
        return ", ".join(f"{joint.name} {joint.minimum:g}..{joint.maximum:g}" for joint in self._joints)
