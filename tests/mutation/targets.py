"""What is mutated and which tests must notice. The tests run in this order until one fails."""

from __future__ import annotations

from dataclasses import dataclass

_LIMITER_TESTS = (
    "tests/edgevla/control/test_channel.py",  # at once
    "tests/firmware_bridge/firmware/test_limiter_in_c.py",  # the port to C, bit by bit
    "tests/edgevla/control/test_limiter.py",
    "tests/edgevla/control/test_kinematics.py",
)
_EDGELINK_TESTS = (
    "tests/firmware_bridge/edgelink/test_driver_in_time.py",
    "tests/firmware_bridge/edgelink/test_driver.py",
    "tests/firmware_bridge/edgelink/test_modes.py",
)


@dataclass(frozen=True)
class Target:
    """`functions`: dotted names, None: all of the file."""

    file: str
    tests: tuple[str, ...]
    functions: frozenset[str] | None = None


def _methods(of: str, *names: str) -> frozenset[str]:
    return frozenset(f"{of}.{name}" for name in names)


TARGETS = (
    Target("edgevla/control/braking.py", _LIMITER_TESTS),
    Target("edgevla/control/channel.py", _LIMITER_TESTS),
    Target("edgevla/control/limiter.py", _LIMITER_TESTS),
    Target(
        "firmware_bridge/bus_arm.py",
        ("tests/firmware_bridge/bus_arm",),
        _methods(
            "BusArm",
            "arm",
            "judge",
            "disarm",
            "stop",
            "close",
            "send",
            "encode",
            "write",
            "request_state",
            "poll",
            "_open_cycle",
            "_close_cycle",
            "_take",
            "_state",
        ),
    ),
    Target("firmware_bridge/channels.py", ("tests/firmware_bridge/test_channels.py",)),
    Target("firmware_bridge/late.py", ("tests/firmware_bridge/test_late.py",)),
    Target("firmware_bridge/edgelink/clock.py", ("tests/firmware_bridge/edgelink/test_clock.py", *_EDGELINK_TESTS)),
    Target(
        "firmware_bridge/edgelink/driver.py",
        _EDGELINK_TESTS,
        _methods(
            "EdgelinkArm",
            "arm",
            "disarm",
            "stop",
            "_confirm",
            "_request",
            "_ask",
            "send",
            "request_state",
            "close",
            "poll",
            "_judged",
            "_device_us",
            "_next_seq",
            "_take",
            "_keep",
        ),
    ),
    Target(
        "firmware_bridge/edgelink/controller.py",
        (
            "tests/firmware_bridge/edgelink/test_virtual.py",
            "tests/firmware_bridge/edgelink/test_hostile_line.py",
            "tests/firmware_bridge/firmware/test_device_in_c.py",
        ),
        _methods(
            "VirtualDevice",
            "feed",
            "tick",
            "_check_watchdog",
            "_answer",
            "_greet",
            "_verdict",
            "_verdict_on_setpoint",
            "_obey",
            "_arm",
            "_state",
        ),
    ),
)
