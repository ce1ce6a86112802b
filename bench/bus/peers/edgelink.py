"""edgelink is our own: nobody else's library speaks it, so there is nothing to compare it with."""

from __future__ import annotations

from bench.bus.case import Case, Peer, same

LIBRARY = None
WHY_NONE = "our own link"


def case(joints: int) -> Case:
    """A microcontroller at 921,600 baud, full duplex; watchdog of its firmware."""
    return Case("edgelink", same(joints, unit="rad", minimum=-1.5, maximum=1.5, model="generic"), 921_600)


def connect(port: str, case: Case) -> Peer:
    raise NotImplementedError(WHY_NONE)
