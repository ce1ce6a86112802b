"""The device's clock (microseconds modulo 2**32) as the host knows it. Pure.

The host knows it from the HELLO with the shortest round trip; each later reply narrows the estimate (a device stamps
a reply after the request left and before the reply came) and so follows the crystals' drift.
"""

from __future__ import annotations

from firmware_bridge.edgelink.messages import ticks_until

_U32 = 0xFFFF_FFFF


def clock_offset(device_us: int, sent_us: int, received_us: int) -> int:
    """Device clock minus host clock, modulo 2**32, if the device stamped half-way between the two."""
    return (device_us - (sent_us + received_us) // 2) & _U32


def narrowed_offset(offset_us: int, device_us: int, sent_us: int, received_us: int) -> int:
    """`offset_us` moved as little as causality asks for.

    The device stamped its reply no sooner than the request left, no later than the reply was read.
    """
    on_host_us = (device_us - offset_us) & _U32
    too_early_us = ticks_until(sent_us & _U32, on_host_us)
    too_late_us = ticks_until(on_host_us, received_us & _U32)
    if too_early_us > 0:
        return (offset_us - too_early_us) & _U32
    if too_late_us > 0:
        return (offset_us + too_late_us) & _U32
    return offset_us


def host_ns(device_us: int, offset_us: int, now_ns: int) -> int:
    """The host time nearest to `now_ns`, and not after it, at which the device's clock showed `device_us`."""
    age_us = ticks_until((now_ns // 1000 + offset_us) & _U32, device_us)
    return now_ns - max(0, age_us) * 1000
