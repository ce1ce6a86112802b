"""config.h: what is compiled into a device, from the channels of its arm profile. Pure; text out.

It also carries the numbers of `codec.py` as compile-time checks, so that C of another release does not compile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from firmware_bridge.arm import ChannelLike, Mode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Kind, Limits, Verdict, as_float32, schema_hash
from firmware_bridge.errors import BadFirmware, explain

NAME_BYTES = 44  # of the identity, one of them the closing zero
LONGEST_WATCHDOG_MS = 65_535
_RATES = ("max_velocity", "max_acceleration", "max_jerk", "stop_deceleration")


class RatedChannel(ChannelLike, Protocol):
    """A channel with the limits that the device's limiter keeps: per second of `unit`."""

    @property
    def max_velocity(self) -> float: ...
    @property
    def max_acceleration(self) -> float: ...
    @property
    def max_jerk(self) -> float: ...
    @property
    def stop_deceleration(self) -> float: ...


@dataclass(frozen=True)
class DeviceConfig:
    """One device. `start` (n,): where an emulated board's motors stand at power-on; a real one measures."""

    name: str
    channels: Sequence[RatedChannel]
    watchdog_s: float
    period_s: float  # of limiter and actuator: the host's Ts
    start: tuple[float, ...]


def config_header(config: DeviceConfig) -> str:
    """The text of config.h. Raises BadFirmware for what a device cannot run with."""
    _require(config)
    limits = Limits(config.channels)
    ranges = [
        f"    {{{', '.join(_double(x) for x in (low, high, *rates))}}}, /* {name}, {unit} */"
        for low, high, rates, name, unit in zip(
            limits.low, limits.high, map(_rates, config.channels), map(_word, limits.names), _units(config), strict=True
        )
    ]
    watchdog_ms, period_us = round(config.watchdog_s * 1e3), round(config.period_s * 1e6)
    schema, count = f"{schema_hash(config.channels):#010x}u", len(config.channels)
    start = ", ".join(f"{_double(as_float32(value))}f" for value in config.start)
    return "\n".join(
        [
            f"/* {config.name}: written by `edgevla firmware config`, do not edit. */",
            "#ifndef CONFIG_H",
            "#define CONFIG_H",
            "",
            '#include "device.h"',
            '#include "identity.h"',
            "",
            *_checks(),
            "",
            f"#define CONFIG_CHANNELS {count}u",
            f"static const float CONFIG_START[CONFIG_CHANNELS] = {{{start}}};",
            "/* low, high, max velocity, max acceleration, max jerk, stop deceleration */",
            "static const lim_range CONFIG_RANGES[CONFIG_CHANNELS] = {",
            *ranges,
            "};",
            "static const fw_config CONFIG = {",
            f"    {schema}, {watchdog_ms * 1000}u, {period_us}u, {count}u, CONFIG_RANGES}};",
            '__attribute__((section(".identity"), used)) static const fw_identity CONFIG_IDENTITY = {',
            f'    FW_MAGIC, {schema}, {period_us}u, {watchdog_ms}u, {count}u, 0u, "{config.name}"}};',
            "",
            "#endif",
            "",
        ]
    )


def _checks() -> list[str]:
    """Numbers of codec.py that edgelink.h repeats by hand."""
    numbers = {f"EL_{code.name}": code.value for code in (*Kind, *Verdict, *Mode)}
    numbers |= {
        "EL_MAX_CHANNELS": codec.MAX_CHANNELS,
        "EL_MAX_BODY": codec.MAX_BODY,
        "EL_MAX_ENCODED": codec.MAX_ENCODED,
        "EL_VERDICTS": len(Verdict),
        "LIM_MAX_CHANNELS": codec.MAX_CHANNELS,
    }
    return [
        f'_Static_assert((int){name} == {value}, "{name} is not that of this release\'s codec.py");'
        for name, value in numbers.items()
    ]


def _require(config: DeviceConfig) -> None:
    problem = _problem(config)
    if problem:
        raise BadFirmware(
            explain(
                f"no firmware can be configured for {config.name}", *problem, "correct the arm profile, or --period-s"
            )
        )


def _problem(config: DeviceConfig) -> tuple[str, str] | None:
    """(expected, got) of the first thing that no device can run with."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,43}", config.name):
        return "a name of 1 to 43 letters, digits, points, dashes", config.name
    if not 1 <= len(config.channels) <= codec.MAX_CHANNELS or len(config.start) != len(config.channels):
        return f"1 to {codec.MAX_CHANNELS} channels, each with a start", f"{len(config.channels)}, {len(config.start)}"
    watchdog_ms = config.watchdog_s * 1e3
    if not (1 <= watchdog_ms <= LONGEST_WATCHDOG_MS and abs(watchdog_ms - round(watchdog_ms)) < 1e-6):
        return f"a watchdog of whole milliseconds up to {LONGEST_WATCHDOG_MS}", f"{config.watchdog_s:g} s"
    period_us = config.period_s * 1e6
    if not (1 <= period_us <= watchdog_ms * 1e3 and abs(period_us - round(period_us)) < 1e-3):
        return "a period of whole microseconds, no longer than the watchdog", f"{config.period_s:g} s"
    for channel in config.channels:
        if not all(0.0 < rate < math.inf for rate in _rates(channel)):
            return "finite rates above zero", f"{channel.name}: {dict(zip(_RATES, _rates(channel), strict=True))}"
    return None


def _rates(channel: RatedChannel) -> tuple[float, ...]:
    return tuple(float(getattr(channel, name)) for name in _RATES)


def _units(config: DeviceConfig) -> list[str]:
    return [_word(channel.unit) for channel in config.channels]


def _word(text: str) -> str:
    """For a comment, which nothing in it may end."""
    return re.sub(r"[^A-Za-z0-9 ^/._-]", "", text)


def _double(value: float) -> str:
    """C11's hexadecimal form: the very same bits."""
    return float(value).hex()
