"""What runs inside the machine: a camera of the kernel's vivid driver through our own source and process."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from collections.abc import Callable

import numpy as np

from edgevla.errors import BadInput
from edgevla.sensors import identity
from edgevla.sensors.look import look
from edgevla.sensors.sources.base import Wanted, parse_source
from edgevla.sensors.sources.v4l2 import open_v4l2
from edgevla.sensors.v4l2_query import devices

SIZE = Wanted(640, 360, 30.0)


def capture_device() -> str:
    return next(d.path for d in devices() if d.driver == "vivid" and d.offers)


def lists_the_device_with_its_sizes_and_rates() -> str:
    found = next(d for d in devices() if d.driver == "vivid" and d.offers)
    sizes = {(offer.width, offer.height) for offer in found.offers}
    expect((640, 360) in sizes and (1280, 720) in sizes, sizes)
    expect(any(30.0 in offer.rates_hz for offer in found.offers), found.offers[:3])
    return f"{found.card}, {len(found.offers)} offers, e.g. {found.offers[0]}"


def has_a_stable_id() -> str:
    name = identity.of_v4l2(capture_device())
    expect(name.startswith("v4l2:vivid-000-vid-cap@platform/vivid.0"), name)
    return name


def play(frames: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Kind of the stamps, gaps between them in ms, ages of the frames as they were read in ms."""
    source = open_v4l2(capture_device(), SIZE)
    stamps, ages = [], []
    for _ in range(frames):
        shot = source.read(1.0)
        expect(shot is not None and shot.image.shape == (360, 640, 3), shot)
        stamps.append(shot.stamp_ns)
        ages.append(time.monotonic_ns() - shot.stamp_ns)
    source.close()
    return str(source.opened.mode["stamp"]), np.diff(stamps) / 1e6, np.array(ages) / 1e6


def stamps_of_the_start_of_exposure_are_taken() -> str:
    set_control("Timestamp Source", 1)
    kind, gaps, ages = play(30)
    expect(kind == "driver, monotonic" and (ages > 0).all() and (gaps > 0).all(), (kind, gaps, ages))
    return f"{kind}, median gap {np.median(gaps):.1f} ms, median age {np.median(ages):.1f} ms"


def stamps_ahead_of_the_clock_are_not_believed() -> str:
    set_control("Timestamp Source", 0)  # vivid reckons the end of a frame up to a period ahead
    kind, gaps, ages = play(30)
    expect((ages > 0).all(), (kind, gaps, ages))  # none is of the future; lower bounds may step back
    return f"{kind}, median gap {np.median(gaps):.1f} ms, median age {np.median(ages):.1f} ms"


def set_control(name: str, value: int) -> None:
    """Set a control of the device by its name (VIDIOC_QUERYCTRL, VIDIOC_S_CTRL)."""
    fd = os.open(capture_device(), os.O_RDWR)
    number = 0
    try:
        while True:
            raw = bytearray(struct.pack("=II32s4iI8x", number | 0xC0000000, 0, b"", 0, 0, 0, 0, 0))
            fcntl.ioctl(fd, 3 << 30 | len(raw) << 16 | ord("V") << 8 | 36, raw)
            number, _, found, *_ = struct.unpack("=II32s4iI8x", raw)
            if found.split(b"\0")[0].decode() == name:
                break
        fcntl.ioctl(fd, 3 << 30 | 8 << 16 | ord("V") << 8 | 28, bytearray(struct.pack("=Ii", number, value)))
    finally:
        os.close(fd)


def a_frame_that_lay_in_its_buffer_keeps_its_age() -> str:
    source = open_v4l2(capture_device(), SIZE)
    for _ in range(5):
        source.read(1.0)
    time.sleep(0.5)
    shot = source.read(1.0)
    age_ms = (time.monotonic_ns() - shot.stamp_ns) / 1e6 if shot else 0.0
    source.close()
    expect(age_ms > 300, age_ms)
    return f"after 0.5 s without a read the next frame says it is {age_ms:.0f} ms old"


def colours_are_in_the_order_of_rgb() -> str:
    source = open_v4l2(capture_device(), SIZE)  # vivid's default picture: 75 % colour bars
    shot = next(shot for _ in range(10) if (shot := source.read(1.0)) is not None)
    source.close()
    bars = [shot.image[300, round((i + 0.5) * 640 / 8)].astype(int) for i in range(8)]
    # white, yellow, cyan, green, magenta, red, blue, black
    wanted = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]
    expect([tuple(bar > 100) for bar in bars] == [tuple(map(bool, w)) for w in wanted], bars)
    return str([tuple(map(int, bar)) for bar in bars])


def another_size_is_refused_naming_the_offers() -> str:
    try:
        open_v4l2(capture_device(), Wanted(97, 51, 30.0))
    except BadInput as error:
        expect("640 x 360" in str(error), error)
        return str(error).replace("\n", " ")[:300]
    raise SystemExit("97 x 51 was accepted")


def a_camera_process_delivers() -> str:
    views = look({"front": (parse_source(f"v4l2:{capture_device()}"), SIZE)}, settle_s=1.0)
    expect(views["front"].image.shape == (360, 640, 3) and views["front"].rate_hz > 15, views["front"].rate_hz)
    return f"{views['front'].rate_hz:.1f} Hz, {views['front'].device}"


def expect(holds: bool, got: object) -> None:
    if not holds:
        raise SystemExit(f"got {got}")


CHECKS: tuple[Callable[[], str], ...] = (
    lists_the_device_with_its_sizes_and_rates,
    has_a_stable_id,
    stamps_of_the_start_of_exposure_are_taken,
    stamps_ahead_of_the_clock_are_not_believed,
    a_frame_that_lay_in_its_buffer_keeps_its_age,
    colours_are_in_the_order_of_rgb,
    another_size_is_refused_naming_the_offers,
    a_camera_process_delivers,
)


def main() -> int:
    failed = 0
    for check in CHECKS:
        try:
            print(f"ok    {check.__name__}: {check()}", flush=True)
        except (Exception, SystemExit) as error:
            failed += 1
            print(f"FAIL  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"VIVID {len(CHECKS) - failed} of {len(CHECKS)} hold", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
