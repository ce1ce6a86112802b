"""Everything that can go wrong between the servo loop and the arm; all of it is exit code 5."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BridgeError(Exception):
    """Base of every error of the bridge. Example cause: see the subclasses."""

    exit_code = 5


class PortError(BridgeError):
    """The serial port cannot be opened. Example causes: unplugged adapter, wrong path, port in use."""


class BaudRefused(PortError):
    """The port is there, but not at this bit rate."""


class PortGone(BridgeError):
    """An open port died. Example causes: the adapter was pulled, the virtual arm ended."""


class LinkCongested(BridgeError):
    """The port takes no more bytes. Example causes: the device stopped reading, the baud rate is too low."""


class NoAnswer(BridgeError):
    """The device stays silent. Example causes: wrong baud rate, no power, TX and RX swapped."""


class JointSilent(BridgeError):
    """Some joints of a bus stay silent while others answer. Example causes: a loose plug in the chain, a wrong id."""


class BusOff(BridgeError):
    """The CAN controller left the bus. Example causes: cable broken, no termination, wrong bit rate."""


class ForeignBytes(BridgeError):
    """What came back is not what this protocol's devices send. Example causes: wrong baud rate, an echoing adapter."""


class WrongJoint(BridgeError):
    """A joint is not the one of the profile. Example causes: another model, firmware too old, ids swapped."""


class JointFault(BridgeError):
    """A joint reports a fault that ends motion. Example causes: overload, overheating, voltage out of range."""


class Expired(BridgeError):
    """The deadline had passed before the first byte was written: nothing was. Example cause: a stalled host."""


class SchemaMismatch(BridgeError):
    """Host and device differ in message layout or channels. Example cause: firmware of another release."""


class WatchdogMismatch(BridgeError):
    """The device's watchdog is not the profile's. Example cause: firmware built with other timings."""


class ArmRefused(BridgeError):
    """The device did not enter the mode asked for. Example causes: a latched fault, an expired request."""


class OutsideRange(ArmRefused):
    """Joints stand where the profile has no range. Example causes: wrong calibration, the buses of two arms swapped."""


class NotArmed(BridgeError):
    """A set-point for an arm that is not armed. Example cause: send() before arm() or after stop()."""


class BadSetpoint(BridgeError):
    """A set-point that must not reach a wire. Example causes: wrong shape or dtype, NaN, out of range."""


class BadRecording(BridgeError):
    """A file that is no recording of a line. Example causes: another format, a spoiled record in its middle."""

    exit_code = 4


class BadCalibration(BridgeError):
    """A calibration file that is none, or of another arm. Example causes: another file, motors of other names."""

    exit_code = 4


class ReplayDiffers(BridgeError):
    """What is written is not what was written when the line was recorded. Example cause: changed code."""

    exit_code = 1


class FirmwareError(BridgeError):
    """Firmware that must not be flashed now. Example cause: the arm is armed."""


class BadFirmware(FirmwareError):
    """An image or a configuration that is none. Example causes: a broken image, another schema, a watchdog of 0 s."""

    exit_code = 4


def explain(what: str, expected: object, got: object, todo: str) -> str:
    """One error text: what is wrong, what was expected, what came, what to do.

    >>> print(explain("H is too short", "32 ticks", "24 ticks", "export again with --horizon 32"))
    H is too short
      expected: 32 ticks
      got:      24 ticks
      to do:    export again with --horizon 32
    """
    return f"{what}\n  expected: {expected}\n  got:      {got}\n  to do:    {todo}"


def or_another_protocol(port: str) -> str:
    """What else a line may be on which nobody ever answered; to stand behind what to do."""
    return f"; or another protocol: `edgevla bus scan --port {port}`"


def suggest(name: str, known: Iterable[str]) -> str:
    """What a misspelt name may have meant, to stand in front of what to do; empty where nothing is near.

    >>> suggest("p_gian", ["p_gain", "d_gain"])
    'did you mean `p_gain`? '
    """
    nearest = get_close_matches(name, list(known), 1)
    return f"did you mean `{nearest[0]}`? " if nearest else ""
