"""The state machine of a CiA 402 drive (IEC 61800-7-201), pure: statusword to state, state to the next controlword."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Name and what it means."""

    NOT_READY = "not ready to switch on: the drive is starting"
    SWITCH_ON_DISABLED = "switch on disabled: no torque"
    READY = "ready to switch on: no torque"
    SWITCHED_ON = "switched on: power stage ready, no torque"
    OPERATION_ENABLED = "operation enabled: follows its target"
    QUICK_STOP = "quick stop active: stopped with torque, latched"
    FAULT_REACTION = "fault reaction active: slowing down"
    FAULT = "fault: no torque until it is reset"

    __hash__ = object.__hash__  # members are single; Enum's own hash is Python code, in every look-up of a cycle


TORQUE = frozenset({State.OPERATION_ENABLED, State.QUICK_STOP, State.FAULT_REACTION})
DOWN = frozenset({State.NOT_READY, State.SWITCH_ON_DISABLED, State.FAULT})  # power stage off

# Controlwords (bits: 0 switch on, 1 enable voltage, 2 quick stop inverted, 3 enable operation, 7 fault reset).
DISABLE_VOLTAGE, QUICK_STOP, SHUTDOWN, SWITCH_ON, ENABLE, FAULT_RESET = 0x00, 0x02, 0x06, 0x07, 0x0F, 0x80
COMMANDS = {
    DISABLE_VOLTAGE: "disable voltage",
    QUICK_STOP: "quick stop",
    SHUTDOWN: "shutdown",
    SWITCH_ON: "switch on, or disable operation",
    ENABLE: "enable operation",
    FAULT_RESET: "fault reset",
}

_BY_BITS = {  # masks 0x4F and 0x6F of the statusword
    (0x4F, 0x00): State.NOT_READY,
    (0x4F, 0x40): State.SWITCH_ON_DISABLED,
    (0x6F, 0x21): State.READY,
    (0x6F, 0x23): State.SWITCHED_ON,
    (0x6F, 0x27): State.OPERATION_ENABLED,
    (0x6F, 0x07): State.QUICK_STOP,
    (0x4F, 0x0F): State.FAULT_REACTION,
    (0x4F, 0x08): State.FAULT,
}
_STATES: tuple[State | None, ...] = tuple(
    next((state for (mask, bits), state in _BY_BITS.items() if word & mask == bits), None) for word in range(0x80)
)
BITS = {state: bits for (_, bits), state in _BY_BITS.items()}  # of a statusword, for a device
_TOWARDS = {
    State.SWITCH_ON_DISABLED: SHUTDOWN,
    State.READY: SWITCH_ON,
    State.SWITCHED_ON: ENABLE,
    State.OPERATION_ENABLED: ENABLE,
    State.QUICK_STOP: ENABLE,  # transition 16: no instant without torque
}


def state_of(statusword: int) -> State | None:
    """None for bits that no state has."""
    return _STATES[statusword & 0x7F]


def towards_enabled(state: State | None, previous: int) -> int:
    """The controlword that goes one transition towards operation enabled; `previous`: the one sent before.

    A fault is reset by a rising edge of its bit, so 0 and 0x80 alternate.
    """
    if state is State.FAULT:
        return DISABLE_VOLTAGE if previous == FAULT_RESET else FAULT_RESET
    return _TOWARDS.get(state, DISABLE_VOLTAGE) if state is not None else DISABLE_VOLTAGE


def stopped(state: State | None, hold: bool) -> bool:
    """The drive does not follow targets; without `hold` it has no torque either."""
    if state is None:
        return False
    return state not in (State.OPERATION_ENABLED, State.FAULT_REACTION) if hold else state not in TORQUE
