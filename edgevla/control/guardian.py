"""The guardian: holds an arm without a watchdog of its own when its servo process dies or stands still in motion.

    python -m edgevla.control.guardian     (started by `edgevla.control.run`, configured by one line on stdin)

It watches the servo process through a pidfd and its rows of measurements through shared memory. An arm that was moving
is commanded to hold (goal = where it is, torque kept) within 100 ms; a servo that stands still is killed first, so that
it never wakes up over a held arm. It acts once and says so. It outlives the parent until the servo has ended: a run
that is killed leaves it behind for that long. The death of this computer is not covered: the servos keep their goal.

Events: guarding; guardian-held {why, took_ms, joints, silent}; guardian-failed {why, message}; guardian-idle.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edgevla.control import realtime
from edgevla.control.child import emit, guarded, read_line
from edgevla.control.config import arm_of
from edgevla.control.heartbeat import Heartbeat
from edgevla.control.ladder import MOVABLE, Phase
from edgevla.errors import DeviceFault, Refused, explain
from edgevla.telemetry.rows import Rows, tick_dtype
from firmware_bridge.config import ArmConfig
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import module
from profiles.bridge import arm_config, parse_ports
from profiles.model import ArmProfile

REACTION_S = 0.100  # s: from the servo's last sign of life to the hold on the wire
_LOOK_S = 0.005
SILENCE_S = 0.070  # s of that without a step; what is left is for ending the servo, the port, question and command
_PERIODS = 2  # servo periods: one overslept and skipped is no silence


class _Rescue(Protocol):
    def hold(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class GuardianConfig:
    """One line of JSON on stdin."""

    servo_pid: int
    port: str  # as --port: PATH, or BUS=PATH,...
    arm: ArmProfile
    step_s: float  # servo period
    priority: int  # SCHED_FIFO; the servo's own or one less
    rows_fd: int  # of the servo's ticks


def to_line(config: GuardianConfig) -> str:
    return json.dumps(asdict(config)) + "\n"


def config_of(line: str) -> GuardianConfig:
    """The configuration that `to_line` wrote."""
    data: dict[str, Any] = json.loads(line)
    return GuardianConfig(**{**data, "arm": arm_of(data["arm"])})


def alarm(ended: bool, silent_s: float, moving: bool) -> str:
    """Why the arm has to be held, "" when it has not. Pure."""
    if moving and ended:
        return "the servo process died in motion"
    if moving and silent_s > SILENCE_S:
        return f"the servo process made no step for {1e3 * silent_s:.0f} ms in motion"
    return ""


def require_guardian(arm: ArmProfile, step_s: float) -> None:
    """Raises Refused for a protocol that nobody wrote a rescue for, or a servo period too long to tell a standstill."""
    what = f"{arm.name} has no watchdog, and no guardian can hold it"
    if _PERIODS * step_s >= SILENCE_S:
        limit = f"{_PERIODS} servo periods < {1e3 * SILENCE_S:g} ms"
        todo = "raise servo_ratio of the target profile"
        raise Refused(explain(what, limit, f"{1e3 * _PERIODS * step_s:g} ms", todo))
    try:
        module(arm.protocol, "rescue")
    except ModuleNotFoundError:
        todo = "set watchdog_s in the arm profile"
        raise Refused(explain(what, "a watchdog, or feetech", arm.protocol, todo)) from None


class Guardian:
    """One servo process, one arm."""

    def __init__(self, config: GuardianConfig) -> None:
        self._rows = Rows(config.rows_fd, tick_dtype(len(config.arm.channels), len(config.arm.state)))
        self._servo_fd = os.pidfd_open(config.servo_pid)
        self._rescues = _rescues(arm_config(config.arm, parse_ports(config.arm, config.port)))
        self._heartbeat = Heartbeat(2 * _LOOK_S)

    def watch(self) -> str:
        """Until the servo ends in order, "", or the reason to hold the arm."""
        while True:
            ended = bool(select.select([self._servo_fd], [], [], _LOOK_S)[0])
            silent_s = self._heartbeat.look(self._rows.count, time.monotonic())
            suspect = ended or silent_s > SILENCE_S
            why = alarm(ended, silent_s, suspect and self._moving())
            if why or ended:
                return why

    def act(self) -> tuple[str, ...]:
        """The joints that hold. Raises BridgeError, DeviceFault when the servo cannot be ended."""
        self._end_servo()
        held: list[str] = []
        errors: list[BridgeError] = []
        for rescue in self._rescues:
            try:
                held += rescue.hold()
            except BridgeError as error:  # the arm's other buses are held all the same
                errors.append(error)
        if errors:
            raise errors[0]
        return tuple(held)

    def _moving(self) -> bool:
        """Whether the servo's last step may have left the arm in motion."""
        rows = self._rows.since(max(0, self._rows.count - 1))[0]
        return len(rows) > 0 and Phase(int(rows[-1]["phase"])) in MOVABLE

    def _end_servo(self) -> None:
        """Killed, so that it does not wake up; its port is free when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._servo_fd, signal.SIGKILL)
        if not select.select([self._servo_fd], [], [], 1.0)[0]:
            todo = "switch the arm's power off"
            raise DeviceFault(explain("the servo process does not die", "its end", "it is still there", todo))


def _rescues(config: ArmConfig) -> list[_Rescue]:
    make = module(config.protocol, "rescue").make
    return [make(bus, config.options) for bus in config.buses]


def main() -> int:
    """Configuration on stdin, events on stdout."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # it ends when the servo has ended; only SIGKILL ends it before
    config = config_of(read_line(0))
    require_guardian(config.arm, config.step_s)
    guardian = Guardian(config)
    granted = realtime.ask(config.priority, None)
    emit("guarding", servo_pid=config.servo_pid, **granted.as_dict())
    why = guardian.watch()
    if not why:
        emit("guardian-idle")
        return 0
    noticed_ns = time.monotonic_ns()
    try:
        held = guardian.act()
    except BridgeError as error:
        emit("guardian-failed", why=why, message=str(error))
        return DeviceFault.exit_code
    took_ms = (time.monotonic_ns() - noticed_ns) / 1e6
    silent = [channel.name for channel in config.arm.channels if channel.name not in held]
    emit("guardian-held", why=why, took_ms=took_ms, joints=list(held), silent=silent)
    return 0 if not silent else DeviceFault.exit_code


if __name__ == "__main__":
    sys.exit(guarded(main))
