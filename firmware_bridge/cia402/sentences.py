"""Every code of CANopen and CiA 402 in words: EMCY error codes, SDO abort codes, NMT. Sources: CiA 301, CiA 402-2."""

from __future__ import annotations

from collections.abc import Mapping

from firmware_bridge.arm import Fault

# The driver's own codes, above the 16 bits of an EMCY.
BOOTED, LEFT_OPERATIONAL, LEFT_ENABLED, QUICK_STOPPED, FAULTED = 0x10000, 0x20000, 0x40000, 0x80000, 0x100000

_EMCY: Mapping[int, tuple[str, Fault]] = {
    0x1000: ("generic error", Fault.OTHER),
    0x2110: ("short circuit or earth leakage at the input", Fault.OVERLOAD),
    0x2220: ("continuous over-current inside the drive", Fault.OVERLOAD),
    0x2310: ("continuous over-current at the motor", Fault.OVERLOAD),
    0x2320: ("short circuit or earth leakage at the motor", Fault.OVERLOAD),
    0x2340: ("short circuit at the motor", Fault.OVERLOAD),
    0x3110: ("mains voltage too high", Fault.VOLTAGE),
    0x3120: ("mains voltage too low", Fault.VOLTAGE),
    0x3210: ("DC link voltage too high", Fault.VOLTAGE),
    0x3220: ("DC link voltage too low", Fault.VOLTAGE),
    0x4210: ("drive too hot", Fault.OVERHEAT),
    0x4310: ("drive too hot", Fault.OVERHEAT),
    0x4410: ("motor too hot", Fault.OVERHEAT),
    0x5112: ("24 V supply too low", Fault.VOLTAGE),
    0x5440: ("contactor or brake output", Fault.OTHER),
    0x5530: ("non-volatile memory", Fault.OTHER),
    0x6010: ("software watchdog of the drive", Fault.OTHER),
    0x6320: ("parameter error", Fault.OTHER),
    0x7110: ("brake chopper", Fault.OVERLOAD),
    0x7120: ("motor blocked", Fault.OVERLOAD),
    0x7121: ("motor blocked", Fault.OVERLOAD),
    0x7122: ("motor error or commutation", Fault.ENCODER),
    0x7300: ("sensor", Fault.ENCODER),
    0x7305: ("incremental encoder 1", Fault.ENCODER),
    0x7306: ("incremental encoder 2", Fault.ENCODER),
    0x7380: ("position sensor", Fault.ENCODER),
    0x7500: ("communication of a module", Fault.OTHER),
    0x8110: ("CAN overrun: frames were lost", Fault.OTHER),
    0x8120: ("CAN controller is error-passive", Fault.OTHER),
    0x8130: ("heartbeat of the host was lost: the drive's watchdog", Fault.WATCHDOG),
    0x8140: ("recovered from bus-off", Fault.OTHER),
    0x8150: ("another device uses a CAN id of the drive", Fault.OTHER),
    0x8210: ("PDO too short, not processed", Fault.OTHER),
    0x8220: ("PDO too long", Fault.OTHER),
    0x8240: ("SYNC of an unexpected length", Fault.OTHER),
    0x8250: ("RPDO timeout", Fault.WATCHDOG),
    0x8311: ("torque limit exceeded", Fault.OVERLOAD),
    0x8400: ("speed control", Fault.LIMIT),
    0x8480: ("speed limit exceeded", Fault.LIMIT),
    0x8500: ("position control", Fault.LIMIT),
    0x8611: ("following error too large", Fault.LIMIT),
    0x8612: ("position limit reached", Fault.LIMIT),
    0x9000: ("external error", Fault.OTHER),
}
_FAMILIES: Mapping[int, tuple[str, Fault]] = {  # high nibble, or byte, of codes that have no row of their own
    0x1: ("generic error", Fault.OTHER),
    0x2: ("current", Fault.OVERLOAD),
    0x3: ("voltage", Fault.VOLTAGE),
    0x4: ("temperature", Fault.OVERHEAT),
    0x5: ("device hardware", Fault.OTHER),
    0x6: ("device software", Fault.OTHER),
    0x7: ("additional modules or sensors", Fault.OTHER),
    0x8: ("monitoring: communication or control", Fault.OTHER),
    0x9: ("external error", Fault.OTHER),
    0xF: ("additional functions or manufacturer's own", Fault.OTHER),
}
_OWN: Mapping[int, tuple[str, Fault]] = {
    BOOTED: ("the drive restarted: its settings are those of its flash; connect again", Fault.RESET),
    LEFT_OPERATIONAL: ("the node left NMT operational", Fault.OTHER),
    LEFT_ENABLED: ("left operation enabled without a fault", Fault.RESET),
    QUICK_STOPPED: ("quick stop active", Fault.STOP),
    FAULTED: ("fault, and its EMCY was not heard", Fault.OTHER),
}

ABORTS: Mapping[int, str] = {
    0x0503_0000: "toggle bit not alternated",
    0x0504_0000: "SDO timed out",
    0x0504_0001: "unknown SDO command",
    0x0504_0002: "block size not valid",
    0x0504_0003: "sequence number not valid",
    0x0504_0004: "CRC error",
    0x0504_0005: "out of memory",
    0x0601_0000: "access to the object is not supported, or not now",
    0x0601_0001: "the object can only be written",
    0x0601_0002: "the object can only be read",
    0x0602_0000: "the object does not exist in this drive",
    0x0604_0041: "the object cannot be mapped into a PDO",
    0x0604_0042: "the mapped objects exceed the PDO's length",
    0x0604_0043: "parameters do not fit each other",
    0x0604_0047: "internal incompatibility",
    0x0606_0000: "hardware error",
    0x0607_0010: "length of the value does not fit the object's type",
    0x0607_0012: "value too long for the object",
    0x0607_0013: "value too short for the object",
    0x0609_0011: "the sub-index does not exist",
    0x0609_0030: "value out of the object's range",
    0x0609_0031: "value too high",
    0x0609_0032: "value too low",
    0x0609_0036: "maximum below minimum",
    0x060A_0023: "resource not available",
    0x0800_0000: "general error",
    0x0800_0020: "the value cannot be stored",
    0x0800_0021: "the value cannot be stored: local control",
    0x0800_0022: "the value cannot be stored in the present state",
    0x0800_0023: "no object dictionary",
    0x0800_0024: "no data",
}

NMT_COMMANDS: Mapping[int, str] = {
    0x01: "start: operational",
    0x02: "stop",
    0x80: "enter pre-operational",
    0x81: "reset the node",
    0x82: "reset its communication",
}
NMT_STATES: Mapping[int, str] = {0x00: "boot-up", 0x04: "stopped", 0x05: "operational", 0x7F: "pre-operational"}


def _row(code: int) -> tuple[str, Fault]:
    known = _OWN.get(code) or _EMCY.get(code) or _FAMILIES.get(code >> 12)
    return known or ("unknown error", Fault.OTHER)


def sentence(code: int) -> str:
    """A code of `JointState.joint_faults`, or of an EMCY, in words."""
    if code == 0:
        return "no error"
    return _row(code)[0] if code in _OWN else f"{_row(code)[0]} (EMCY {code:04X})"


def faults_of(code: int) -> Fault:
    """Bits of `Fault` for such a code."""
    return _row(code)[1] if code else Fault.NONE


def abort(code: int) -> str:
    """An SDO abort code in words."""
    return f"{ABORTS.get(code, 'unknown abort code')} (SDO abort {code:08X})"
