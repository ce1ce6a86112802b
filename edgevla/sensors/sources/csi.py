"""CSI cameras of a Jetson, through NVIDIA's nvarguscamerasrc (part of JetPack)."""

from __future__ import annotations

import re

from edgevla.errors import Usage, explain
from edgevla.sensors import identity
from edgevla.sensors.sources.base import Wanted
from edgevla.sensors.sources.gst import GstSource, fraction


def open_csi(value: str, wanted: Wanted) -> GstSource:
    """Camera `sensor-id` N. Raises Usage, DeviceFault, BadInput."""
    port = csi_port(value)
    return GstSource(f"csi:{port}", csi_pipeline(port, wanted), wanted, identity.of_csi(port))


def csi_port(value: str) -> int:
    """The N of `csi:N`. Raises Usage."""
    if not re.fullmatch(r"[0-9]{1,2}", value):
        todo = "write the sensor-id of nvarguscamerasrc, as `edgevla camera list` names it"
        raise Usage(explain("no CSI camera", "csi:N with N a number from 0", f"csi:{value}", todo))
    return int(value)


def csi_pipeline(port: int, wanted: Wanted) -> str:
    """The image processor scales to the size that is wanted; nvvidconv brings it to ordinary memory."""
    size = f"width={wanted.width},height={wanted.height}"
    return (
        f"nvarguscamerasrc sensor-id={port} "
        f"! 'video/x-raw(memory:NVMM),{size},framerate={fraction(wanted.rate_hz)}' "
        f"! nvvidconv ! video/x-raw,format=BGRx,{size}"
    )
