"""What is varied, one thing at a time, about the reference policy and the default target. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

REFERENCE = {"vocabulary": 31}  # the rest as StudentConfig: 96 px, one camera, 32 ticks, 4 joints, width 320, 3.3 M
SIZES = {  # M parameters, about: width, encoder layers, head layers
    3.3: (320, 1, 1),
    5.0: (384, 1, 1),
    15.0: (512, 2, 2),
    50.0: (768, 3, 3),
    150.0: (1024, 6, 5),
    500.0: (1536, 8, 8),
}
HEAD = 64  # numbers of an attention head


@dataclass(frozen=True)
class Axis:
    """`values` rise; the first is where the reference stands."""

    name: str
    unit: str
    values: tuple[float, ...]
    kind: str = "policy"  # policy: cost is an inference | servo: a share of its core | arms: the same, of all servos

    @property
    def base(self) -> float:
        return self.values[0]


AXES = (
    Axis("image side", "px", (96, 128, 192, 256, 384)),
    Axis("cameras", "", (1, 2, 3, 4, 6)),
    Axis("chunk", "ticks", (32, 64, 128, 256, 512)),
    Axis("history", "observations", (1, 2, 4, 8)),
    Axis("joints", "", (4, 7, 14, 28, 56)),
    Axis("model size", "M parameters", tuple(SIZES)),
    Axis("servo rate", "Hz", (80, 160, 320, 640, 960), "servo"),
    Axis("arms", "", (1, 2, 3, 4), "arms"),
)
QUICK = (Axis("image side", "px", (96, 128, 160)), Axis("servo rate", "Hz", (80, 160), "servo"))


def config_of(axis: str, value: float) -> dict[str, Any]:
    """Sizes of the student at one point. `state` are the numbers of all observations."""
    whole = int(value)
    varied: dict[str, dict[str, Any]] = {
        "image side": {"picture_height": whole, "picture_width": whole},
        "cameras": {"pictures": whole},
        "chunk": {"horizon": whole},
        "history": {"pictures": whole, "state": 4 * whole},
        "joints": {"state": whole, "actions": whole, "noise": whole},
    }
    if axis == "model size":
        width, encoder, head = SIZES[value]
        return {**REFERENCE, "width": width, "heads": width // HEAD, "encoder_layers": encoder, "head_layers": head}
    return {**REFERENCE, **varied[axis]}


def key_of(axis: Axis) -> dict[str, Any]:
    return asdict(axis)
