"""ODrive boards and what their codes mean. Source: the enumerations of the Python package `odrive` 0.6.11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from firmware_bridge.arm import Fault

PRODUCT_LINES: Mapping[int, str] = {3: "v3", 4: "pro", 5: "s1", 6: "micro"}  # Hw_Version_Major -> `model` of a profile
ANY = "odrive"  # a profile's `model` that takes each of them

AXIS_STATES: Mapping[int, str] = {
    0: "undefined",
    1: "idle",
    2: "start-up sequence",
    3: "full calibration",
    4: "motor calibration",
    6: "encoder index search",
    7: "encoder offset calibration",
    8: "closed-loop control",
    9: "lock-in spin",
    10: "encoder direction search",
    11: "homing",
    12: "Hall polarity calibration",
    13: "Hall phase calibration",
    14: "anti-cogging calibration",
    15: "harmonic calibration",
    16: "harmonic calibration of the commutation encoder",
}

PROCEDURE_RESULTS: Mapping[int, str] = {
    0: "success",
    1: "busy",
    2: "cancelled by another command",
    3: "ended because the axis disarmed",
    4: "a component does not respond",
    5: "pole pairs and encoder resolution do not match",
    6: "phase resistance out of range",
    7: "phase inductance out of range",
    8: "phases are not balanced",
    9: "motor type not valid",
    10: "Hall sensors in an impossible state",
    11: "timeout",
    12: "homing without an end switch",
    13: "state not valid",
    14: "not calibrated",
    15: "does not converge",
    16: "asked for more current than allowed",
}

ERRORS: Mapping[int, tuple[str, Fault]] = {  # bit of Axis_Error, Active_Errors, Disarm_Reason
    0x0000_0001: ("the board is still starting", Fault.RESET),
    0x0000_0002: ("system-level fault: firmware or memory", Fault.OTHER),
    0x0000_0004: ("control loop missed its timing", Fault.OTHER),
    0x0000_0008: ("no position or velocity estimate: encoder not ready or not calibrated", Fault.ENCODER),
    0x0000_0010: ("configuration not valid", Fault.OTHER),
    0x0000_0020: ("gate driver fault: short circuit or supply of the driver", Fault.OVERLOAD),
    0x0000_0040: ("an input value is missing", Fault.OTHER),
    0x0000_0100: ("bus voltage too high: no brake resistor, or braking too hard", Fault.VOLTAGE),
    0x0000_0200: ("bus voltage too low", Fault.VOLTAGE),
    0x0000_0400: ("bus current too high", Fault.OVERLOAD),
    0x0000_0800: ("too much current fed back into the supply", Fault.VOLTAGE),
    0x0000_1000: ("motor current beyond its hard limit", Fault.OVERLOAD),
    0x0000_2000: ("motor too hot", Fault.OVERHEAT),
    0x0000_4000: ("inverter too hot", Fault.OVERHEAT),
    0x0000_8000: ("velocity beyond its limit", Fault.LIMIT),
    0x0001_0000: ("position beyond its limit", Fault.LIMIT),
    0x0002_0000: ("asked for more current than allowed", Fault.OVERLOAD),
    0x0100_0000: ("watchdog: no command within watchdog_timeout", Fault.WATCHDOG),
    0x0200_0000: ("emergency stop asked for, by message or by pin", Fault.STOP),
    0x0400_0000: ("spin-out: electrical and mechanical power disagree, the encoder slipped", Fault.ENCODER),
    0x0800_0000: ("brake resistor disarmed", Fault.VOLTAGE),
    0x1000_0000: ("thermistor disconnected", Fault.OVERHEAT),
    0x4000_0000: ("calibration failed", Fault.ENCODER),
}

# The driver's own codes, above the 32 bits of the device.
LOST_CLOSED_LOOP = 1 << 32
NO_HEARTBEAT = 1 << 33
OWN: Mapping[int, tuple[str, Fault]] = {
    LOST_CLOSED_LOOP: ("left closed-loop control without an error: the board restarted, or another host", Fault.RESET),
    NO_HEARTBEAT: ("no heartbeat: what the axis reports is not known", Fault.OTHER),
}


def product_line(version_major: float) -> str:
    """The `model` of a profile for Hw_Version_Major of Get_Version."""
    return PRODUCT_LINES.get(int(version_major), f"line {version_major}")


def dotted(version: Sequence[float]) -> str:
    """0.6.11 of three numbers of Get_Version."""
    return ".".join(str(int(number)) for number in version)


def faults_of(code: int) -> Fault:
    """Bits of `Fault` for a code of `JointState.joint_faults`; OTHER for bits without a name."""
    found, left = Fault.NONE, code
    for bit, (_, fault) in (*ERRORS.items(), *OWN.items()):
        if code & bit:
            found, left = found | fault, left & ~bit
    return found | Fault.OTHER if left else found


def sentence(code: int) -> str:
    """A code of `JointState.joint_faults` in words."""
    named = {**ERRORS, **OWN}
    said = [text for bit, (text, _) in named.items() if code & bit]
    left = code & ~sum(named)
    return "; ".join(said + ([f"unknown error bits {left:#x}"] if left else [])) or "no error"
