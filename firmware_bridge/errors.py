"""Everything that can go wrong between the servo loop and the arm; all of it is exit code 5."""

from __future__ import annotations


class BridgeError(Exception):
    """Base of every error of the bridge. Example cause: see the subclasses."""

    exit_code = 5


class PortError(BridgeError):
    """The serial port cannot be opened. Example causes: unplugged adapter, wrong path, port in use."""


class PortGone(BridgeError):
    """An open port died. Example causes: the adapter was pulled, the virtual arm ended."""


class LinkCongested(BridgeError):
    """The port takes no more bytes. Example causes: the device stopped reading, the baud rate is too low."""


class NoAnswer(BridgeError):
    """The device stays silent. Example causes: wrong baud rate, no power, TX and RX swapped."""


class SchemaMismatch(BridgeError):
    """Host and device differ in message layout or channels. Example cause: firmware of another release."""


class WatchdogMismatch(BridgeError):
    """The device's watchdog is not the profile's. Example cause: firmware built with other timings."""


class ArmRefused(BridgeError):
    """The device did not enter the mode asked for. Example causes: a latched fault, an expired request."""


class NotArmed(BridgeError):
    """A set-point for an arm that is not armed. Example cause: send() before arm() or after stop()."""


class BadSetpoint(BridgeError):
    """A set-point that must not reach a wire. Example causes: wrong shape or dtype, NaN, out of range."""


class FirmwareError(BridgeError):
    """Firmware that cannot be made or must not be flashed. Example causes: another schema, a broken image."""


def explain(what: str, expected: object, got: object, todo: str) -> str:
    """One error text: what is wrong, what was expected, what came, what to do.

    >>> print(explain("H is too short", "32 ticks", "24 ticks", "export again with --horizon 32"))
    H is too short
      expected: 32 ticks
      got:      24 ticks
      to do:    export again with --horizon 32
    """
    return f"{what}\n  expected: {expected}\n  got:      {got}\n  to do:    {todo}"
