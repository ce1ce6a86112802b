"""The servo process: absolute deadlines, one command per servo step, never waiting for the policy.

    python -m edgevla.control.servo     (started by `edgevla.control.run`, configured by one line on stdin)

Everything that decides is pure and lives in schedule, ladder, limiter, commands; this file sleeps and talks.
SIGTERM asks for a stop: decelerate, hold, latch, end. Events: connected, armed, end, error.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control import realtime
from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.control.clock import Grid, sleep_until
from edgevla.control.commands import Units, committed, interpolate, normalise, wanted_row
from edgevla.control.config import ServoConfig, servo_config
from edgevla.control.exchange import Reply, Request, Status, pack_request, unpack_reply
from edgevla.control.ladder import Control, Ladder, Phase, advance, ask_to_stop
from edgevla.control.limiter import Limited, Motion, limits_of
from edgevla.control.schedule import Answer, Plan, decide
from edgevla.control.shm import Slots
from edgevla.errors import DeviceFault, Refused, explain
from edgevla.telemetry.rows import Rows, tick_dtype
from firmware_bridge.arm import ArmInfo, Fault, JointState, Mode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import BridgeError
from firmware_bridge.transport.serial import SerialTransport

Float32 = NDArray[np.float32]

_STATE_WAIT = 8  # the state of a re-plan tick is awaited for Ts / 8 at most, ...
_STATE_WAIT_NS = 2_000_000  # ... and 2 ms at most: a reply over a pty takes some 50 us
_SILENCE_S = 0.5  # s without any reply: the link is dead, whatever still accepts our bytes


@dataclass(frozen=True)
class End:
    """Why the loop ended: 'duration', 'stop', 'latched' or 'fault', and a sentence for a fault."""

    reason: str
    message: str = ""


class Servo:
    """One armed run. `held` (n,): the set-point the device holds when it is armed."""

    def __init__(self, config: ServoConfig, link: EdgelinkArm, transport: SerialTransport, held: Float32) -> None:
        self._config, self._link, self._transport = config, link, transport
        self._requests, self._replies = Slots.attach(config.request_fd), Slots.attach(config.reply_fd)
        self._rows = Rows(config.rows_fd, tick_dtype(len(config.arm.channels), len(config.arm.state)))
        self._limits = limits_of(config.arm, config.period_s)
        self._units = Units(config.kinds, np.array(config.scale), np.array(config.offset), config.period_s)
        self._ladder = Ladder(
            hold_ticks=round(config.arm.hold_s / config.period_s),
            torque_ticks=round(config.arm.torque_s / config.period_s),
        )
        self._step_ns = round(config.period_s * 1e9) // config.servo_ratio
        self._ttl_ns = round(config.arm.command_ttl_s * 1e9)
        self.plan = Plan()
        self.control = Control(Motion.at_rest(held))
        self.stop_asked = False
        self.skipped = 0
        self._tick = self._sent_tick = -1
        self._before = held.astype(np.float32)  # command of the tick before
        self._limited = Limited.NONE
        self._start = False
        self._reply_sequence = 0
        self._pending: Reply | None = None
        self._chunk: Float32 | None = None
        self._state: JointState | None = None
        self._no_state = np.full(len(config.arm.state), np.nan, np.float32)

    def run(self) -> End:
        """Until the duration, a stop or a fault; the arm is at rest and latched when it returns normally."""
        self._grid = Grid(time.monotonic_ns() + 2 * self._step_ns, self._step_ns)
        self._ticks = Grid(self._grid.epoch_ns, self._step_ns * self._config.servo_ratio)
        self._heard_ns = self._grid.epoch_ns
        step, end = 0, None
        while end is None:
            wake_ns = sleep_until(self._grid.deadline_ns(step))
            served = self._grid.current_step(step, wake_ns)
            self.skipped += served - step
            end = self._serve(served, wake_ns, served - step)
            step = served + 1
        return end

    def _serve(self, step: int, wake_ns: int, skipped: int) -> End | None:
        """One servo step: release, limit, send; then the state, and at a re-plan tick the request."""
        deadline_ns = self._grid.deadline_ns(step)
        tick, part = divmod(step, self._config.servo_ratio)
        previous = self.control
        if tick > self._tick:
            self._advance_tick(tick)
        command = interpolate(
            self._before, self.control.motion.setpoint.astype(np.float32), part, self._config.servo_ratio
        )
        written_ns = self._link.send(command, deadline_ns + self._ttl_ns)
        if written_ns:
            self._sent_tick = tick
        elif tick > self._sent_tick:
            # Nothing of this tick was commanded: the next one counts from what the arm still holds.
            self.control = replace(self.control, motion=previous.motion)
        self._take_state(wake_ns)
        if self._start:
            self._ask(tick, deadline_ns)
        self._note(step, tick, wake_ns, written_ns, skipped)
        self._start = False
        return self._ending(wake_ns)

    def _advance_tick(self, tick: int) -> None:
        """Release, ladder and limiter of one control tick."""
        period_s = self._config.period_s
        answer = self._answer()
        self.plan, decision = decide(self._config.schedule, self.plan, tick, answer)
        if decision.release is not None and self._pending is not None:
            self._chunk = self._pending.setpoints
        if self.stop_asked or tick >= self._config.duration_ticks:
            self.control = ask_to_stop(self.control)
        wanted = wanted_row(self._config.schedule, self.plan, self._chunk, tick)
        elapsed_s = (tick - self._sent_tick) * period_s
        self._before = self.control.motion.setpoint.astype(np.float32)
        self.control, self._limited = advance(self._limits, self._ladder, self.control, wanted, tick, elapsed_s)
        self._start = decision.start
        self._tick = tick

    def _answer(self) -> Answer | None:
        found = self._replies.read(after=self._reply_sequence)
        if found is not None:
            self._reply_sequence, payload = found
            self._pending = unpack_reply(payload)
        reply = self._pending
        if reply is None:
            return None
        expected = (self._config.schedule.horizon, len(self._config.arm.channels))
        sound = reply.setpoints.shape == expected and bool(np.isfinite(reply.setpoints).all())
        done = self._ticks.first_step_at_or_after(reply.done_ns)
        return Answer(reply.tick, done, valid=reply.status is Status.OK and sound)

    def _ask(self, tick: int, deadline_ns: int) -> None:
        """Freeze the prefix, sample the state, start the inference of this tick."""
        config = self._config
        rows = committed(
            config.schedule,
            self._limits,
            self._ladder,
            self.control,
            self.plan,
            self._chunk,
            tick,
            config.period_s,
        )
        self._await_state(deadline_ns)
        state = self._state
        self._requests.write(
            pack_request(
                Request(
                    tick=tick,
                    asked_ns=time.monotonic_ns(),
                    state_stamp_ns=0 if state is None else state.stamp_ns,
                    prefix=normalise(self._units, self._before, rows),
                    anchor=rows[-1],
                    state=self._no_state if state is None else state.position,
                )
            )
        )
        os.eventfd_write(config.kick_fd, 1)

    def _take_state(self, now_ns: int) -> None:
        state = self._link.poll()
        if state is not None:
            self._state = state
            self._heard_ns = now_ns

    def _await_state(self, deadline_ns: int) -> None:
        """The reply to this tick's command is the freshest state there is: wait for it, briefly."""
        now_ns = time.monotonic_ns()
        until_ns = now_ns + min(self._step_ns // _STATE_WAIT, _STATE_WAIT_NS)
        while now_ns < until_ns and (self._state is None or self._state.stamp_ns < deadline_ns):
            if not self._transport.wait_readable(until_ns):
                return
            now_ns = time.monotonic_ns()
            self._take_state(now_ns)

    def _note(self, step: int, tick: int, wake_ns: int, written_ns: int, skipped: int) -> None:
        state = self._no_state if self._state is None else self._state.position
        chunk = -1 if self.plan.chunk is None else self.plan.chunk
        self._rows.append(
            (
                step,
                tick,
                self._grid.deadline_ns(step),
                wake_ns,
                written_ns,
                chunk,
                skipped,
                self.control.phase,
                self._limited,
                written_ns == 0,
                self._start,
                self.control.motion.setpoint,
                state,
            )
        )

    def _ending(self, now_ns: int) -> End | None:
        if self.control.phase >= Phase.LATCHED:
            if self.stop_asked:
                return End("stop")
            return End("duration") if self.control.stopping else End("latched")
        if self._state is not None and self._state.mode == Mode.STOPPED:
            return End("fault", f"the arm stopped itself ({_fault_words(self._state.faults)})")
        if now_ns - self._heard_ns > _SILENCE_S * 1e9:
            silence_ms = (now_ns - self._heard_ns) // 1_000_000
            return End("fault", f"no reply from the arm for {silence_ms} ms")
        return None


def _fault_words(faults: int) -> str:
    names = [fault.name or "" for fault in Fault if fault and faults & fault]
    return ", ".join(name.lower() for name in names) or "no fault given"


def require_start_range(config: ServoConfig, info: ArmInfo) -> None:
    """Raises Refused when the held set-point is outside the bundle's or the arm's start range."""
    low = np.maximum(config.start_low, config.arm.start_low)
    high = np.minimum(config.start_high, config.arm.start_high)
    slack = 1e-6 * np.maximum(1.0, np.abs(high))  # float32 on the wire
    for i, channel in enumerate(config.arm.channels):
        held = float(info.held_setpoint[i])
        if not low[i] - slack[i] <= held <= high[i] + slack[i]:
            raise Refused(
                explain(
                    f"the arm is outside the start range in {channel.name}",
                    f"{low[i]:g} .. {high[i]:g} {channel.unit}",
                    f"{held:g} {channel.unit}",
                    "move the arm into the start range before arming",
                )
            )


def _wait_for_go() -> bool:
    """True on a line from the parent, False when a stop came first or the parent is gone."""
    while not _stop_asked:
        if select.select([0], [], [], 0.05)[0]:
            return os.read(0, 64).startswith(b"go")
    return False


_stop_asked: list[int] = []


def _finish(link: EdgelinkArm, config: ServoConfig, end: End) -> bool:
    """Latch the device too; True when it confirmed. The torque policy 'off' follows after `torque_s`."""
    confirmed = False
    with contextlib.suppress(BridgeError):
        confirmed = link.stop()
        if end.reason == "latched" and config.arm.torque_policy == "off":
            time.sleep(config.arm.torque_s)
            link.disarm()
    link.close()
    return confirmed


def _report(servo: Servo, link: EdgelinkArm, end: End, confirmed: bool, granted: dict[str, Any]) -> None:
    plan = asdict(servo.plan)
    emit(
        "end",
        reason=end.reason,
        message=end.message,
        phase=servo.control.phase.name,
        stop_confirmed=confirmed,
        lost_in_a_row=plan["lost_in_a_row"],
        released=plan["released"],
        release_misses=plan["release_misses"],
        passed_over=plan["passed_over"],
        skipped=servo.skipped,
        link=asdict(link.counts),
        granted=granted,
    )


def _loop(config: ServoConfig, link: EdgelinkArm, transport: SerialTransport) -> int:
    info = link.connect()
    require_start_range(config, info)
    servo = Servo(config, link, transport, info.held_setpoint)
    granted = realtime.ask(config.priority, config.core)
    if granted.missing and not config.best_effort:
        raise Refused(
            explain(
                "the kernel does not give the servo what its deadlines need",
                f"SCHED_FIFO {config.priority}, locked memory, core {config.core}",
                "not granted: " + "; ".join(granted.missing),
                "run as root or with CAP_SYS_NICE and CAP_IPC_LOCK, or accept less with --best-effort",
            )
        )
    emit(
        "connected",
        port=info.port,
        watchdog_ms=info.watchdog_ms,
        rtt_us=info.rtt_us,
        granted=granted.as_dict(),
    )
    if not _wait_for_go():
        emit("end", reason="stop", message="stopped before arming", phase="DISARMED", stop_confirmed=True)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: setattr(servo, "stop_asked", True))
    if _stop_asked:  # it came before the handler changed
        servo.stop_asked = True
    link.arm()
    emit("armed")
    try:
        end = servo.run()
    except BridgeError as error:
        end = End("fault", str(error))
    _report(servo, link, end, _finish(link, config, end), granted.as_dict())
    return DeviceFault.exit_code if end.reason == "fault" else 0


def main() -> int:
    """Configuration on stdin, events on stdout, exit code of design section 10."""
    signal.signal(signal.SIGTERM, lambda *_: _stop_asked.append(1))
    config = servo_config(read_line(0))
    adopt(config.parent_pid, signal.SIGTERM)
    transport = SerialTransport(config.port, config.arm.baud)
    link = EdgelinkArm(transport, config.arm.channels, config.arm.watchdog_s)
    try:
        return _loop(config, link, transport)
    finally:
        link.close()


if __name__ == "__main__":
    sys.exit(guarded(main))
