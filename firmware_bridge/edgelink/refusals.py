"""The errors of the edgelink driver, in words. Pure: each returns the error, its caller raises it."""

from __future__ import annotations

from firmware_bridge.arm import Float32, JointState, Mode
from firmware_bridge.edgelink.limits import Limits
from firmware_bridge.edgelink.messages import SENTENCES, HelloAck
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    NoAnswer,
    NotArmed,
    SchemaMismatch,
    WatchdogMismatch,
    explain,
    or_another_protocol,
)

_CONFIRMED = {  # mode asked for -> (what did not happen, what to do)
    Mode.ARMED: ("did not arm", "connect again; if it stays so, read the arm's fault bits and power-cycle it"),
    Mode.DISARMED: (
        "did not confirm that it is disarmed",
        "use the emergency stop; its watchdog holds it within the profile's watchdog_s",
    ),
}


def other_device(port: str, ack: HelloAck, schema: int, limits: Limits) -> SchemaMismatch | None:
    """None where the device was built for the host's channels."""
    if ack.schema == schema and len(ack.held) == len(limits):
        return None
    return SchemaMismatch(
        explain(
            f"{port}: firmware schema {ack.schema:#010x}, host schema {schema:#010x}: reflash",
            f"schema {schema:#010x} with channels {', '.join(limits.names)}",
            f"schema {ack.schema:#010x} with {len(ack.held)} channels",
            "flash the firmware of this release, or choose the arm profile it was built for",
        )
    )


def other_watchdog(port: str, ack: HelloAck, expected_s: float | None) -> WatchdogMismatch | None:
    """None where the device's watchdog is the profile's, or the profile names none."""
    if expected_s is None or ack.watchdog_ms == round(expected_s * 1e3):
        return None
    return WatchdogMismatch(
        explain(
            f"the watchdog of the device on {port} is not that of the arm profile",
            f"{expected_s * 1e3:.0f} ms",
            f"{ack.watchdog_ms} ms",
            "flash the firmware of this release, or correct watchdog_s in the arm profile",
        )
    )


def other_channels(port: str, found: int, limits: Limits) -> SchemaMismatch:
    """A state of another arm, of a device that was not greeted."""
    todo = "choose the arm profile that its firmware was built for"
    expected = f"{len(limits)} channels: {', '.join(limits.names)}"
    return SchemaMismatch(explain(f"the device on {port} is of another arm", expected, f"{found} channels", todo))


def nobody_there(port: str, greeted: bool, patience_s: float, spoiled: int) -> NoAnswer:
    """`greeted`: a HELLO was sent, else a PING. `spoiled`: frames that were thrown away meanwhile."""
    return NoAnswer(
        explain(
            f"no edgelink device answers on {port}",
            f"a {'HELLO_ACK' if greeted else 'STATE'} within {patience_s:.0f} s",
            f"{spoiled} spoiled frames" if spoiled else "silence",
            "check the arm's power, the baud rate of its profile, and that TX and RX are not swapped"
            + or_another_protocol(port),
        )
    )


def not_greeted(port: str) -> ArmRefused:
    """arm() of a device that is only looked at."""
    todo = "call connect(), which judges its schema and its watchdog, and disarms it"
    return ArmRefused(explain(f"the arm on {port} is not armed", "connect() before arm()", "look() at most", todo))


def silent(port: str) -> NoAnswer:
    """Greeted before, now without an answer."""
    todo = "check the arm's power and its cable; the device's watchdog holds it"
    return NoAnswer(explain(f"no state from {port}", "an answer to each command", "silence", todo))


def not_confirmed(port: str, asked: Mode, state: JointState | None) -> ArmRefused:
    """`state`: the device's last answer to ARM or DISARM, None where none came."""
    what, todo = _CONFIRMED[asked]
    got = "no answer" if state is None else _in_words(state)
    return ArmRefused(explain(f"the arm on {port} {what}", f"mode {asked.name}", got, todo))


def _in_words(state: JointState) -> str:
    sentence = SENTENCES.get(state.verdict, "not known to this release")
    return f"mode {state.mode}, faults {state.faults:#06x}, verdict {state.verdict}: {sentence}"


def not_armed(port: str, mode: Mode) -> NotArmed:
    """A set-point without arm() before it."""
    todo = "call arm() first; a stop is cleared only by arming explicitly"
    return NotArmed(
        explain(f"set-point for an arm on {port} that is not armed", "mode ARMED", f"mode {mode.name}", todo)
    )


def wrong_kind(setpoint: Float32, channels: int) -> BadSetpoint:
    """Not float32 (n,)."""
    got = getattr(setpoint, "dtype", type(setpoint).__name__), getattr(setpoint, "shape", "")
    todo = "pass one float32 per channel of the arm profile"
    return BadSetpoint(explain("set-point of a wrong kind", f"float32 {(channels,)}", f"{got[0]} {got[1]}", todo))
