"""What every source of frames has in common: its name on the command line, what is asked of it, what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import BadInput, DeviceFault, Usage, explain

Image = NDArray[np.uint8]

KINDS = ("v4l2", "csi", "gst", "file")
GRAMMAR = "v4l2:PATH[,FOURCC], csi:N, gst:PIPELINE or file:PATH[,loop]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a camera, as in a bundle
RATE_TOLERANCE = 0.01  # relative: NTSC's 29.97 Hz is called 30 Hz


@dataclass(frozen=True)
class Wanted:
    """The picture that the policy was trained with."""

    width: int  # pixels
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.width} x {self.height} at {self.rate_hz:g} Hz"


@dataclass(frozen=True)
class Shot:
    """One picture, RGB uint8 (height, width, 3). `stamp_ns` (CLOCK_MONOTONIC) is never later than the moment at which
    the frame was handed over by the device; where that moment is not known, it is a lower bound."""

    image: Image
    stamp_ns: int


@dataclass(frozen=True)
class Opened:
    """What a source turned out to be: the stable id of the device, and its settings as read back."""

    device: str
    mode: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """An open camera. Not safe to use from two threads."""

    opened: Opened

    def read(self, timeout_s: float) -> Shot | None:
        """The newest picture that was not handed out yet; None when none came in time.

        Raises:
            Ended: it is over, and opening it again would not help.
            DeviceFault: it broke; it may be closed and opened again.
            BadInput: it delivers something else than it promised.
        """

    def close(self) -> None:
        """Let go of the device. A second call does nothing."""


class Ended(DeviceFault):
    """A recording reached its end: no fault of a device, and no more pictures."""


@dataclass(frozen=True)
class SourceName:
    """A source as it is typed: `kind:value`."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


def parse_source(text: str) -> SourceName:
    """`v4l2:/dev/video0` and the like. Raises Usage."""
    kind, colon, value = text.partition(":")
    if kind not in KINDS or not colon or not value.strip() or "\0" in value:
        raise Usage(explain("no camera source", GRAMMAR, repr(text), "see docs/cameras.md"))
    return SourceName(kind, value)


def parse_camera(text: str) -> tuple[str, SourceName]:
    """`NAME=SOURCE` of the option --camera. Raises Usage."""
    name, equals, source = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        todo = "write the name of the bundle's camera, '=' and a source: --camera front=v4l2:/dev/video0"
        raise Usage(explain("--camera", "NAME=SOURCE", repr(text), todo))
    return name, parse_source(source)


def parse_cameras(texts: Sequence[str]) -> dict[str, SourceName]:
    """All --camera options; a name or a source said twice is refused. Raises Usage."""
    found: dict[str, SourceName] = {}
    for name, source in map(parse_camera, texts):
        if name in found or source in found.values():
            raise Usage(explain("--camera", "each name and each source once", f"{name}={source}", "say it once"))
        found[name] = source
    return found


def require_mode(source: str, wanted: Wanted, width: int, height: int, rate_hz: float, offers: str, todo: str) -> None:
    """Raises BadInput, naming what the source offers, unless it delivers what is wanted. rate_hz 0: not declared."""
    same_rate = rate_hz == 0 or abs(rate_hz - wanted.rate_hz) <= RATE_TOLERANCE * wanted.rate_hz
    if (width, height) != (wanted.width, wanted.height) or not same_rate:
        raise BadInput(explain(f"{source} delivers another picture", str(wanted), offers, todo))


def require_image(source: str, image: Image | None, wanted: Wanted) -> Image:
    """The picture, contiguous. Raises BadInput unless it is uint8 (height, width, 3) of the size that is wanted."""
    expected = (wanted.height, wanted.width, 3)
    if image is None or image.shape != expected or image.dtype != np.uint8:
        got = "none" if image is None else f"{image.dtype} {image.shape}"
        todo = "choose a source of that size; nothing is scaled silently"
        raise BadInput(explain(f"a picture of {source} is wrong", f"uint8 {expected}", got, todo))
    return np.ascontiguousarray(image)
