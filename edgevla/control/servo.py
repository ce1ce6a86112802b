"""The servo process: absolute deadlines, one exchange with the arm per servo step, never waiting for the policy.

    python -m edgevla.control.servo     (started by `edgevla.control.run`, configured by one line on stdin)

Everything that decides is pure and lives in machine, commands, limiter; this file sleeps and talks. It comes up
disarmed and ticks from then on: disarmed or latched it asks for the state, otherwise it commands. Orders come through
a slot; SIGTERM is the order to quit: decelerate, hold, latch, end. Events: connected, armed, arm-refused, latched, end,
error.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control import realtime
from edgevla.control.arming import added, fault_words, require_start_range
from edgevla.control.audit import Audit
from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.control.clock import Grid, sleep_until
from edgevla.control.commands import Setup, Units, advance, committed, goal, ladder_of, normalise
from edgevla.control.config import ServoConfig, servo_config
from edgevla.control.effort import Strain, judge, require_measured, watched
from edgevla.control.exchange import Request
from edgevla.control.ladder import MOVABLE, Phase
from edgevla.control.limiter import Limited, Motion, limits_of
from edgevla.control.machine import Inputs, Machine, Order, Trip, step
from edgevla.control.mailbox import Mailbox
from edgevla.control.rehearsal import Rehearsal
from edgevla.control.schedule import Answer
from edgevla.errors import DeviceFault, EdgevlaError, Refused, explain
from edgevla.telemetry.rows import Rows, tick_dtype
from firmware_bridge.arm import Arm, ArmInfo, JointState, LinkCounts, Mode
from firmware_bridge.errors import BridgeError
from firmware_bridge.torque import torque_on
from profiles.bridge import driver_of, parse_ports

Float32 = NDArray[np.float32]

_STATE_WAIT = 8  # the state of a re-plan tick is awaited for Ts / 8 at most, ...
_STATE_WAIT_NS = 2_000_000  # ... and 2 ms at most: a reply over a pty takes some 50 us
_SILENCE_S = 0.5  # s without any reply: the link is dead, whatever still accepts our bytes


@dataclass(frozen=True)
class End:
    """Why the loop ended: 'duration', 'stop', 'latched', 'protective' or 'fault', and a sentence for the last two."""

    reason: str
    message: str = ""


class Servo:
    """One arm on its grid of deadlines, from the first disarmed step to the end."""

    def __init__(self, config: ServoConfig, link: Arm, info: ArmInfo) -> None:
        self._config, self._link = config, link
        self._mail = Mailbox(config)
        channels, states = len(config.arm.channels), len(config.arm.state)
        self._rows = Rows(config.rows_fd, tick_dtype(channels, states))
        self._setup = Setup(
            config.schedule,
            ladder_of(config.arm.hold_s, config.arm.torque_s, config.period_s),
            limits_of(config.arm, config.period_s / config.servo_ratio),
            Units(config.kinds, np.array(config.scale), np.array(config.offset), config.period_s),
            config.servo_ratio,
        )
        self._step_ns = round(config.period_s * 1e9) // config.servo_ratio
        self._ttl_ns = round(config.arm.command_ttl_s * 1e9)
        self._rehearsal = Rehearsal(self._step_ns)
        self._watched, self._strain = watched(config.arm), Strain.none(channels)
        self.audit = Audit(config.audit)
        self.machine = Machine()
        self.counts = LinkCounts()  # of links that were closed for a new arming
        self.quit = False
        self.skipped = 0
        self._motion = Motion.at_rest(info.held_setpoint)
        self._before = self._motion  # of the tick before
        self._history = np.full((config.observations, states), np.nan, np.float32)  # states of the last T ticks
        self._no_effort = np.full(channels, np.nan, np.float32)
        self._tick = self._sent_step = self._armed_tick = -1
        self._look_ns = self._send_ns = 0
        self._arm_asked = self._arming = self._asked_to_stop = self._start = self._first = False
        self._carried = Order.NONE
        self._limited, self._trip, self._order = Limited.NONE, Trip.NONE, Order.NONE
        self._tripped = ""
        self._row: int | None = None
        self._answer: Answer | None = None
        self._chunk: Float32 | None = None
        self._state: JointState | None = None

    # --- the loop -------------------------------------------------------------------------------------------

    def run(self) -> End:
        """Until a stop, the duration or a fault; the arm is at rest and latched when it returns normally."""
        self._grid = Grid(time.monotonic_ns() + 2 * self._step_ns, self._step_ns)
        self._ticks = Grid(self._grid.epoch_ns, self._step_ns * self._config.servo_ratio)
        self._heard_ns = self._grid.epoch_ns
        at, end = 0, None
        while end is None:
            wake_ns = sleep_until(self._grid.deadline_ns(at))
            served = self._grid.current_step(at, wake_ns)
            phase = self.machine.phase
            end = self._serve(served, wake_ns, served - at)
            at = served + 1
            still = self.machine.phase not in MOVABLE
            if end is None and still and (self._arm_asked or self.machine.phase is not phase):
                at = max(at, self._change(phase))
        self.audit.close()
        return end

    def _serve(self, at: int, wake_ns: int, skipped: int) -> End | None:
        """One servo step: release, limit, send; then the state, and at a re-plan tick the request."""
        deadline_ns = self._grid.deadline_ns(at)
        tick, part = divmod(at, self._config.servo_ratio)
        if tick > self._tick:
            self._advance_tick(tick)
        moves = self.machine.phase in MOVABLE
        written_ns = self._command(at, part, deadline_ns) if moves else self._rehearse(wake_ns - deadline_ns, skipped)
        self._take_state(wake_ns)
        self._remember(deadline_ns, self._start)
        if self._start:
            self._ask(tick)
        self.skipped += skipped if moves else 0
        self._note(at, tick, wake_ns, written_ns, skipped if moves else 0)
        self._start, self._order = False, Order.NONE
        if moves:
            self.audit.step()
        return self._ending(wake_ns)

    def _advance_tick(self, tick: int) -> None:
        """Everything discrete of one control tick, in `machine.step`."""
        self._order, self._trip = self._newest_order(tick), self._judge_device()
        self._answer = self._mail.answer(self._ticks)
        self._look_ns = time.monotonic_ns()
        mail = self._mail
        inputs = Inputs(self._answer, self._order, self._motion.resting, mail.instruction, self._trip, mail.rest)
        self.machine, decision = step(self._setup.schedule, self._setup.ladder, self.machine, tick, inputs)
        if decision.release is not None and mail.pending is not None:
            self._chunk = mail.pending.setpoints
        self._before = self._motion
        self._start, self._first, self._row = decision.start, decision.first, decision.row
        self._tick = tick

    def _command(self, at: int, part: int, deadline_ns: int) -> int:
        """Interpolate, limit, send: the time after the write, or 0 when the command had expired."""
        setup, before = self._setup, self._motion
        wanted = goal(setup, self._before, self._chunk, self._row, part)
        elapsed_s = max(1, at - self._sent_step) * setup.step_s
        self._motion, self._limited = advance(setup.limits, self.machine.phase, before, wanted, elapsed_s)
        setpoint = self._motion.setpoint.astype(np.float32)
        self._send_ns = time.monotonic_ns()
        written_ns = self._link.send(setpoint, deadline_ns + self._ttl_ns)
        if written_ns:
            self._sent_step = at
        else:
            self._motion = before  # nothing was commanded: the next step counts from what the arm still holds
        return written_ns

    def _rehearse(self, late_ns: int, skipped: int) -> int:
        """A step without a command: the state is asked for at the same rate, and the rate is judged."""
        self._rehearsal.note(late_ns, skipped, time.thread_time())
        self._limited, self._send_ns = Limited.NONE, 0
        self._link.request_state()
        return 0

    # --- orders, answers, the device ------------------------------------------------------------------------

    def _newest_order(self, tick: int) -> Order:
        """The strongest order since the last tick. Arming is not passed on from here: it needs the device first."""
        order = self._mail.order(time.monotonic_ns())
        duration = self._config.duration_ticks
        expired = duration and 0 <= self._armed_tick <= tick - duration and self.machine.phase in MOVABLE
        if self.quit:
            order = Order.QUIT
        self.quit = self.quit or order is Order.QUIT
        self._asked_to_stop = self._asked_to_stop or order in (Order.STOP, Order.QUIT)
        wanted = self._arm_asked or order is Order.ARM
        self._arm_asked = wanted and order < Order.STOP and self.machine.phase not in MOVABLE and not self._arming
        order = max(Order.NONE if order is Order.ARM else order, self._carried)
        self._carried = Order.NONE
        if self._arming:  # the device is armed: the machine follows, and a stop that came meanwhile a tick later
            self._arming, self._armed_tick, self._carried = False, tick, order
            return Order.ARM
        return max(order, Order.STOP) if expired else order

    def _judge_device(self) -> Trip:
        """Why the arm has to stop although nobody asked for it."""
        state = self._state
        if state is None or self.machine.phase not in MOVABLE:
            return Trip.NONE
        if state.mode != Mode.ARMED:
            self._tripped = f"the arm stopped itself ({fault_words(state.faults)})"
            return Trip.DEVICE
        return Trip.STOP if self._strained() else Trip.NONE

    def _strained(self) -> bool:
        """Too much effort, or too far behind its command, for longer than the profile allows: a protective stop."""
        state = self._state
        if state is None or self._watched is False:
            return False
        arm, setpoint = self._config.arm, self._before.setpoint
        self._strain, sentence = judge(arm, self._strain, state.stamp_ns, setpoint, state.position, state.effort)
        self._tripped = self._tripped or (sentence or "")
        return sentence is not None

    def _ask(self, tick: int) -> None:
        """Freeze the prefix and start the inference of this tick; the states are those of the last T ticks."""
        rows = committed(self._setup, self.machine, self._motion, self._before, self._chunk, tick)
        if self._first:
            self._history[:] = self._history[-1]
        request = Request(
            tick=tick,
            asked_ns=time.monotonic_ns(),
            state_stamp_ns=0 if self._state is None else self._state.stamp_ns,
            prefix=normalise(self._setup.units, self._before.setpoint, rows),
            commanded=np.vstack([self._before.setpoint, rows]).astype(np.float32),
            state=self._history,
            first=self._first,
            instruction=self._mail.instruction,
        )
        self._mail.ask(request)

    def _remember(self, deadline_ns: int, await_it: bool) -> None:
        """The state of this tick, behind those of the ticks before; a re-plan tick waits briefly for its own."""
        if await_it:
            self._await_state(deadline_ns)
        if self._state is not None:
            self._history[:-1] = self._history[1:]
            self._history[-1] = self._state.position

    def _take_state(self, now_ns: int) -> None:
        state = self._link.poll()
        if state is not None:
            self._state = state
            self._heard_ns = now_ns

    def _await_state(self, deadline_ns: int) -> None:
        """The reply to this tick's command is the freshest state there is: wait for it, briefly.

        The first after arming is the only one there is: without it the inference is refused, so the step waits on.
        """
        now_ns = time.monotonic_ns()
        until_ns = now_ns + min(self._step_ns // _STATE_WAIT, _STATE_WAIT_NS)
        if self._state is None:
            until_ns = max(until_ns, deadline_ns + self._step_ns - self._step_ns // _STATE_WAIT)
        while now_ns < until_ns and (self._state is None or self._state.stamp_ns < deadline_ns):
            if not self._link.wait_readable(until_ns):
                return
            now_ns = time.monotonic_ns()
            self._take_state(now_ns)

    # --- changes of phase, off the path: nothing is commanded while they last -------------------------------

    def _change(self, before: Phase) -> int:
        """What arming and latching ask of the device; the step that comes next."""
        phase = self.machine.phase
        if before in MOVABLE:
            self.audit.close()
            confirmed = self._link.stop()
            emit("latched", tick=self._tick, reason=self._ending_reason(), confirmed=confirmed)
        if phase is Phase.TORQUE and before is not Phase.TORQUE and self._config.arm.torque_policy == "off":
            self._link.disarm()
        if self._arm_asked:
            self._arm()
        self._heard_ns = time.monotonic_ns()
        ratio = self._config.servo_ratio if self._arming else 1  # the first command is that of a whole tick
        return -(-max(0, self._grid.first_step_at_or_after(self._heard_ns)) // ratio) * ratio

    def _arm(self) -> None:
        """Arm the device if the host keeps its rate and the arm stands in the start range; otherwise say why not."""
        if not self._rehearsal.long_enough:
            return  # asked again at the next step
        self._arm_asked = False
        try:
            if not self._config.best_effort:
                self._rehearsal.require_rate(self._config.core)
            require_measured(self._config.arm, None if self._state is None else self._state.effort)
            self._connect_again()
        except EdgevlaError as error:
            emit("arm-refused", message=str(error), exit_code=error.exit_code)
            self.quit = self.quit or not self._config.stay
            return
        self._asked_to_stop, self._tripped = False, ""
        self._rehearsal.pause()
        self._link.arm()
        self._motion = Motion.at_rest(self._link.held)
        self._arming = True
        emit("armed", rehearsal=self._rehearsal.as_dict())

    def _connect_again(self) -> None:
        """What the device holds now, its schema and watchdog, read anew: an old answer is no reason to move."""
        self.counts = added(self.counts, self._link.counts)
        self._link.close()
        info = self._link.connect()
        require_start_range(self._config, info)
        self._motion = Motion.at_rest(info.held_setpoint)
        self._chunk = self._state = self._mail.pending = None
        self._strain = Strain.none(len(self._config.arm.channels))

    # --- record and end -------------------------------------------------------------------------------------

    def _note(self, at: int, tick: int, wake_ns: int, written_ns: int, skipped: int) -> None:
        state, answer, machine = self._state, self._answer, self.machine
        self._rows.append(
            (
                at,
                tick,
                self._grid.deadline_ns(at),
                wake_ns,
                written_ns,
                -1 if machine.plan.chunk is None else machine.plan.chunk,
                -1 if answer is None else answer.asked,
                -1 if answer is None else answer.done,
                0 if state is None else state.stamp_ns,
                self._look_ns,
                self._send_ns,
                self._link.last_asked,
                -1 if state is None else state.last_seq,
                self._mail.instruction,
                skipped,
                self._limited,
                0 if state is None else state.faults,
                0 if state is None else state.mode,
                answer is not None and answer.valid,
                self._order,
                self._trip,
                self._mail.rest,
                machine.phase,
                written_ns == 0 and machine.phase in MOVABLE,
                self._start,
                self._motion.setpoint,
                self._history[-1],
                self._no_effort if state is None or state.effort is None else state.effort,
            )
        )

    def _ending_reason(self) -> str:
        """Why the arm is latched."""
        if self._trip is Trip.DEVICE or self._tripped:
            return "fault" if self._trip is Trip.DEVICE else "protective"
        if self._asked_to_stop:
            return "stop"
        return "duration" if self.machine.rung.stopping else "latched"

    def _ending(self, now_ns: int) -> End | None:
        if now_ns - self._heard_ns > _SILENCE_S * 1e9:
            silence_ms = (now_ns - self._heard_ns) // 1_000_000
            return End("fault", f"no reply from the arm for {silence_ms} ms")
        if self.machine.phase in MOVABLE or self.machine.phase is Phase.DISARMED:
            return End("stop") if self.quit and self.machine.phase is Phase.DISARMED else None
        reason = self._ending_reason()
        if self.quit or reason == "duration" or not self._config.stay:
            torque_off = self._config.arm.torque_policy == "off" and reason == "latched"
            if not torque_off or self.machine.phase is Phase.TORQUE:
                return End(reason, self._tripped)
        return None


def _finish(servo: Servo, link: Arm, config: ServoConfig) -> bool:
    """Latch the device too; True when it confirmed. The torque policy 'off' has been obeyed by then."""
    confirmed = False
    if servo.machine.phase is Phase.DISARMED:
        link.close()
        return True
    with contextlib.suppress(BridgeError):
        confirmed = link.stop()
        if servo.machine.phase is Phase.TORQUE and config.arm.torque_policy == "off":
            link.disarm()
    link.close()
    return confirmed


def _report(servo: Servo, link: Arm, end: End, confirmed: bool, granted: dict[str, Any]) -> None:
    plan = servo.machine.plan
    emit(
        "end",
        reason=end.reason,
        message=end.message,
        phase=servo.machine.phase.name,
        stop_confirmed=confirmed,
        lost_in_a_row=plan.lost_in_a_row,
        released=plan.released,
        release_misses=plan.release_misses,
        passed_over=plan.passed_over,
        skipped=servo.skipped,
        link=asdict(added(servo.counts, link.counts)),
        granted=granted,
        steady=servo.audit.figures,
    )


def _require_granted(config: ServoConfig, granted: realtime.Granted) -> None:
    if granted.missing and not config.best_effort:
        raise Refused(
            explain(
                "the kernel does not give the servo what its deadlines need",
                f"SCHED_FIFO {config.priority}, locked memory, core {config.core}",
                "not granted: " + "; ".join(granted.missing),
                "run as root or with CAP_SYS_NICE and CAP_IPC_LOCK, or accept less with --best-effort",
            )
        )


def _loop(config: ServoConfig, link: Arm) -> int:
    info = link.connect()
    torque = torque_on(link)
    if not config.stay:  # nobody is there to move it by hand; otherwise arming is refused, not a disarmed run
        require_start_range(config, info)
    servo = Servo(config, link, info)
    signal.signal(signal.SIGTERM, lambda *_: setattr(servo, "quit", True))
    granted = realtime.ask(config.priority, config.core)
    _require_granted(config, granted)
    emit(
        "connected",
        port=info.port,
        watchdog_ms=info.watchdog_ms,
        rtt_us=info.rtt_us,
        held=info.held_setpoint.tolist(),
        torque=torque,
        granted=granted.as_dict(),
    )
    servo.quit = servo.quit or bool(_stop_asked)  # it came before the handler changed
    try:
        end = servo.run()
    except BridgeError as error:
        end = End("fault", str(error))
    _report(servo, link, end, _finish(servo, link, config), granted.as_dict())
    return DeviceFault.exit_code if end.reason == "fault" else 0


_stop_asked: list[int] = []


def main() -> int:
    """Configuration on stdin, events on stdout, exit code of design section 10."""
    signal.signal(signal.SIGTERM, lambda *_: _stop_asked.append(1))
    config = servo_config(read_line(0))
    adopt(config.parent_pid, signal.SIGTERM)
    link = driver_of(config.arm, parse_ports(config.arm, config.port))
    try:
        return _loop(config, link)
    finally:
        link.close()


if __name__ == "__main__":
    sys.exit(guarded(main))
