"""What V4L2 devices there are and what each offers, asked of the kernel (include/uapi/linux/videodev2.h)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CAPABILITY = struct.Struct("=16s32s32sIII12x")  # driver, card, bus_info, version, capabilities, device_caps
_FORMAT = struct.Struct("=III32sI16x")  # index, type, flags, description, pixelformat, ...
_SIZE = struct.Struct("=III6I8x")  # index, pixel_format, type, width, height | min, max, step of width, of height
_INTERVAL = struct.Struct("=IIIII6I8x")  # index, pixel_format, width, height, type, fraction | min, max, step
_CAPTURE, _HAS_DEVICE_CAPS, _DISCRETE, _BUFFER_CAPTURE = 1, 0x80000000, 1, 1
_MOST = 256  # of anything that is enumerated: a driver that never ends is no reason to hang


def _ioctl(direction: int, number: int, layout: struct.Struct) -> int:
    """_IOR / _IOWR of type 'V' (asm-generic/ioctl.h: x86 and ARM)."""
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


QUERYCAP, ENUM_FMT = _ioctl(2, 0, _CAPABILITY), _ioctl(3, 2, _FORMAT)
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = _ioctl(3, 74, _SIZE), _ioctl(3, 75, _INTERVAL)


@dataclass(frozen=True)
class Offer:
    """One size of one format; rates in Hz, highest first, empty where the driver lists none."""

    fourcc: str
    width: int
    height: int
    rates_hz: tuple[float, ...]

    def __str__(self) -> str:
        rates = "/".join(f"{rate:g}" for rate in self.rates_hz)
        return f"{self.fourcc} {self.width} x {self.height}{f' at {rates} Hz' if rates else ''}"


@dataclass(frozen=True)
class Device:
    """One V4L2 device that captures pictures."""

    path: str
    driver: str
    card: str
    bus: str
    offers: tuple[Offer, ...]


def devices(folder: Path = Path("/dev")) -> list[Device]:
    """Every device that captures pictures, by number; those that cannot be opened are left out."""
    numbered = [(int(m.group(1)), p) for p in folder.glob("video*") if (m := re.fullmatch(r"video(\d+)", p.name))]
    found = (query(str(path)) for _, path in sorted(numbered))
    return [device for device in found if device is not None]


def query(path: str) -> Device | None:
    """What the device says of itself; None when it is no camera, cannot be opened, or is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = bytearray(_CAPABILITY.size)
        fcntl.ioctl(fd, QUERYCAP, raw)
        driver, card, bus, _, all_of_it, of_node = _CAPABILITY.unpack(raw)
        able = of_node if all_of_it & _HAS_DEVICE_CAPS else all_of_it
        if not able & _CAPTURE:
            return None
        return Device(path, _word(driver), _word(card), _word(bus), tuple(_offers(fd)))
    except OSError:
        return None
    finally:
        os.close(fd)


def describe_offers(path: str, most: int = 12) -> str:
    """One line of what the device offers, for an error."""
    device = query(path)
    if device is None or not device.offers:
        return "nothing that the kernel lists"
    shown = "; ".join(map(str, device.offers[:most]))
    return shown + ("; ..." if len(device.offers) > most else "")


def _offers(fd: int) -> Iterator[Offer]:
    for raw in _enumerate(fd, ENUM_FMT, _FORMAT, (_BUFFER_CAPTURE,)):
        code = _FORMAT.unpack(raw)[4]
        fourcc = struct.pack("<I", code).decode("ascii", "replace")
        for size in _enumerate(fd, ENUM_FRAMESIZES, _SIZE, (code,)):
            _, _, kind, width, height, *stepwise = _SIZE.unpack(size)
            if kind != _DISCRETE:  # a range: its largest size (min, max, step of width, then of height)
                width, height = height, stepwise[2]
            yield Offer(fourcc, width, height, tuple(sorted(_rates(fd, code, width, height), reverse=True)))


def _rates(fd: int, code: int, width: int, height: int) -> Iterator[float]:
    for raw in _enumerate(fd, ENUM_FRAMEINTERVALS, _INTERVAL, (code, width, height)):
        *_, kind, numerator, denominator, _, _, _, _ = _INTERVAL.unpack(raw)
        if numerator:
            yield round(denominator / numerator, 3)
        if kind != _DISCRETE:
            return


def _enumerate(fd: int, request: int, layout: struct.Struct, key: tuple[int, ...]) -> Iterator[bytes]:
    """Ask for index 0, 1, 2, ... until the driver has no more. `key` follows the index in the structure."""
    for index in range(_MOST):
        raw = bytearray(layout.size)
        struct.pack_into(f"={1 + len(key)}I", raw, 0, index, *key)
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, request, raw)
            yield bytes(raw)
            continue
        return


def _word(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace")
