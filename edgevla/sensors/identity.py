"""Stable ids of cameras: the same after a reboot, another one when another camera or port is in its place."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from edgevla.errors import DeviceFault, explain
from edgevla.sensors.sources.base import SourceName

_SYS = Path("/sys")
_MODULES = Path("/proc/device-tree/tegra-camera-platform/modules")
_BLOCK = 1024 * 1024  # bytes hashed at a time
_SHOWN = 32  # hexadecimal digits of a hash in an id


def of_source(name: SourceName) -> str:
    """The stable id of what a source names, without opening it. Raises DeviceFault, BadInput, OSError."""
    if name.kind == "v4l2":
        return of_v4l2(name.value.partition(",")[0])
    if name.kind == "csi":
        from edgevla.sensors.sources.csi import csi_port

        return of_csi(csi_port(name.value))
    if name.kind == "gst":
        return of_text("gst", name.value)
    return of_file(Path(name.value.removesuffix(",loop")))


def of_text(kind: str, text: str) -> str:
    """`gst:sha256:...` of a pipeline's text: it says which words were typed, not which camera answered them."""
    return f"{kind}:sha256:{hashlib.sha256(text.strip().encode()).hexdigest()[:_SHOWN]}"


def of_file(path: Path) -> str:
    """sha256 of a file; of a folder, over the names and contents of its files in order."""
    digest = hashlib.sha256()
    for one in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{one.name}\0{one.stat().st_size}\0".encode())
        with one.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return f"file:sha256:{digest.hexdigest()[:_SHOWN]}"


def of_v4l2(path: str, sys: Path = _SYS) -> str:
    """`v4l2:usb-046d:0825:SERIAL@1-2.3#0`: vendor, product, serial, port, node of the device. Raises DeviceFault.

    The port is part of it, as many cheap cameras share one serial number or have none: after moving a plug the view is
    confirmed again, which is cheaper than an arm that looks through the other camera.
    """
    node = os.path.basename(os.path.realpath(path))
    entry = sys / "class/video4linux" / node
    if not re.fullmatch(r"video[0-9]+", node) or not entry.exists():
        todo = "`edgevla camera list` names those that are there"
        raise DeviceFault(explain(f"no camera at {path}", "a V4L2 device, /dev/videoN", "nothing there", todo))
    index = _text(entry / "index") or "0"
    device = (entry / "device").resolve()
    for folder in (device, *device.parents):
        if (folder / "idVendor").exists():
            serial = re.sub(r"[^A-Za-z0-9._-]", "_", _text(folder / "serial")) or "no-serial"
            return f"v4l2:usb-{_text(folder / 'idVendor')}:{_text(folder / 'idProduct')}:{serial}@{folder.name}#{index}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", _text(entry / "name")) or "unnamed"
    return f"v4l2:{name}@{_place(device, sys)}#{index}"


def of_csi(port: int, sys: Path = _SYS, modules: Path = _MODULES) -> str:
    """`csi:N:` and the sensor as the kernel names it (chip, I2C bus and address) or, without it, the module's badge.

    Raises DeviceFault when neither is there: a camera without a name cannot be told from another.
    """
    name = _text(sys / "class/video4linux" / f"video{port}" / "name") or _text(modules / f"module{port}" / "badge")
    if not name:
        todo = "`edgevla camera list` names the CSI cameras of a Jetson; elsewhere use v4l2: or gst:"
        raise DeviceFault(explain(f"no CSI camera {port}", "a sensor known to the kernel", "none", todo))
    return f"csi:{port}:{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}"


def has_csi_module(port: int, modules: Path = _MODULES) -> bool:
    """Does the Jetson's device tree name a camera module there?"""
    return bool(_text(modules / f"module{port}" / "badge"))


def _place(device: Path, sys: Path) -> str:
    """Where a device without a USB parent sits: its path below /sys/devices."""
    try:
        return device.relative_to((sys / "devices").resolve()).as_posix()
    except ValueError:
        return device.name


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:256].decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
