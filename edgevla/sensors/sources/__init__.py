"""Where frames come from: one file per kind behind one interface (`base.Source`)."""

from __future__ import annotations

from edgevla.sensors.sources.base import Source, SourceName, Wanted


def open_source(name: SourceName, wanted: Wanted) -> Source:
    """Open a camera and see that it delivers what is wanted.

    Raises:
        DeviceFault: it is not there or does not answer.
        BadInput: it delivers another size, colour order or rate; the error names what it offers.
    """
    if name.kind == "v4l2":
        from edgevla.sensors.sources.v4l2 import open_v4l2

        return open_v4l2(name.value, wanted)
    if name.kind == "csi":
        from edgevla.sensors.sources.csi import open_csi

        return open_csi(name.value, wanted)
    if name.kind == "gst":
        from edgevla.sensors.sources.gst import open_gst

        return open_gst(name.value, wanted)
    from edgevla.sensors.sources.file import open_file

    return open_file(name.value, wanted)
