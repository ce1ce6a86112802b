"""One run: start the processes, let them go, watch, stop the arm in order, and say what happened.

    virtual arm (or a real port)  <- bytes ->  servo process  <- shared memory ->  policy process
    camera processes  -- frames in shared memory --------------------------------------^

This process is on none of those paths. It holds the shared memory, so that nothing outlives it by name, and
it ends its children on every way out. Ctrl-C and SIGTERM stop the arm first: decelerate, hold, latch, close.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from edgevla.control.children import (
    START_S,
    arm_arguments,
    camera_line,
    guardian_line,
    policy_config,
    policy_fds,
    recorder_line,
    servo_config,
    servo_fds,
)
from edgevla.control.config import to_line
from edgevla.control.course import Course, Nobody, Operator, describe
from edgevla.control.crew import Crew, Event, Interrupt
from edgevla.control.exchange import Wishes, pack_wishes, pack_words, unpack_reply
from edgevla.control.heartbeat import Heartbeat
from edgevla.control.ladder import MOVABLE, Phase
from edgevla.control.machine import Order
from edgevla.control.memory import Memory
from edgevla.control.options import RunOptions, check_options
from edgevla.control.plan import RunPlan
from edgevla.control.result import RunResult, Stop, policy_stop, servo_hangs_stop
from edgevla.control.verdict import Seen, result_of
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.operate.wish import Kind, Wish
from edgevla.telemetry.host import stolen_s

_STOP_S = 5.0  # s beyond the ramp for the servo to end
_WATCH_S = 0.05  # s between two looks at the children
_SILENT_S = 1.0  # s without a servo step of an armed arm: ten watchdogs, the servo hangs
_MAX_RESTARTS, _RESTART_WINDOW_S = 3, 600.0  # of the policy process, and of each camera
_ARM_NICE = -15  # of the virtual arm, where that is permitted
_GUARDIAN_S = 2.0  # s for the guardian to hold the arm of a dead servo
_RECORD_S = 6.0  # s for the recorder to close its file
_ERRORS: dict[int, type[EdgevlaError]] = {
    error.exit_code: error for error in (Refused, Usage, Unsound, BadInput, DeviceFault)
}


def run(
    plan: RunPlan,
    options: RunOptions,
    say: Callable[[str], None] = lambda text: None,
    operator: Operator | None = None,
) -> RunResult:
    """Run to the end. Raises EdgevlaError when it could not begin; a stop while moving is a result."""
    check_options(options)
    with Interrupt() as interrupt, Memory(plan, options) as memory, Crew(interrupt) as crew:
        return _Run(plan, options, interrupt, memory, crew, operator or Nobody(say)).play()


class _Run:
    """The course of one run. `_stop` holds the reason once somebody has decided to end it."""

    def __init__(
        self,
        plan: RunPlan,
        options: RunOptions,
        interrupt: Interrupt,
        memory: Memory,
        crew: Crew,
        operator: Operator,
    ) -> None:
        self._plan, self._options, self._interrupt = plan, options, interrupt
        self._memory, self._crew, self._operator = memory, crew, operator
        self._seen = Seen()
        self._course = Course(plan, memory, options.instruction)
        self._stop: Stop | None = None
        self._heartbeat = Heartbeat(2 * _WATCH_S)
        self._stops = self._arms = self._armed_ns = 0  # orders so far, and when the last one to arm was given
        self._looked_at = 0  # cursor in the rows of the servo
        self._asked = (-1, 0)  # tick and time of the newest inference asked for
        self._restarts: dict[str, list[float]] = {}  # times of the restarts of a child

    def play(self) -> RunResult:
        begun_s, stolen_before = time.monotonic(), stolen_s()
        self._seen.start_ns = {"called": self._options.called_ns, "begun": time.monotonic_ns()}
        self._seen.start_cpu_ns = {"begun": time.process_time_ns()}
        self._operator.open(self._course, lambda: self._order(Order.STOP))
        try:
            if self._begin():
                self._watch()
        finally:
            self._course.ending = True
            self._close()
            self._operator.close()
        wall_s, stolen = time.monotonic() - begun_s, stolen_s() - stolen_before
        return result_of(self._plan, self._options, self._seen, self._stop, self._memory, wall_s, stolen)

    # --- start ---------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Processes up, the arm connected and, if that was asked for, armed. False when the operator stopped it."""
        self._seen.port = self._options.port
        if self._options.sim is not None:
            self._start_arm()
        for name, source in self._options.cameras.items():
            self._start_camera(name, source)
        self._start_policy()
        steps: list[tuple[Callable[[], bool], str, Callable[[], None]]] = [
            (lambda: self._seen.port is not None, "the virtual arm", self._start_servo),
            (lambda: bool(self._seen.connected), "the servo process", self._connected),
            (lambda: self._seen.guarded or not self._needs_guardian, "the guardian", lambda: None),
            (lambda: self._seen.policy_up, "the policy process", self._ready),
        ]
        if self._options.arm_at_start:
            steps.append((lambda: self._seen.armed, "the arm", self._armed))
        for reached, who, then in steps:
            if not self._until(reached, who):
                return False
            then()
        return True

    def _connected(self) -> None:
        self._course.missing = tuple(self._seen.connected.get("granted", {}).get("missing", ()))
        self._course.torque_found = tuple(self._seen.connected.get("torque", ()))
        self._say(f"arm connected on {self._seen.port}")
        if self._needs_guardian:
            self._start_guardian()

    def _ready(self) -> None:
        self._say("policy ready")
        if self._options.record is not None:
            self._start_recorder()
        self._course.ready = True
        if self._options.arm_at_start:
            self._order(Order.ARM)
        else:
            self._say("disarmed: waiting for the order to arm")

    def _armed(self) -> None:
        self._say(f"armed: {self._options.instruction!r}")

    def _start_arm(self) -> None:
        arguments, fds = arm_arguments(self._plan, self._options, self._memory)
        child = self._crew.start("arm", "edgevla.sim.virtual_arm", arguments, fds)
        with contextlib.suppress(OSError):  # it stands in for hardware, which does not wait for a busy host
            os.setpriority(os.PRIO_PROCESS, child.process.pid, _ARM_NICE)

    def _start_camera(self, name: str, source: str) -> None:
        line = camera_line(self._plan, self._memory, name, source)
        fds = [self._memory.cameras[name].fd, self._memory.captures[name].fd]
        self._crew.start(f"camera {name}", "edgevla.sensors.process", [], fds, line)

    def _start_policy(self) -> None:
        course = self._course
        config = policy_config(self._plan, self._options, self._memory, course.instruction, course.epoch)
        self._seen.policy_up = False
        self._seen.start_ns.setdefault("policy_started", time.monotonic_ns())
        self._crew.start("policy", "edgevla.policy.process", [], policy_fds(config), to_line(config))

    def _start_servo(self) -> None:
        self._seen.start_ns.setdefault("servo_started", time.monotonic_ns())
        config = servo_config(self._plan, self._options, self._memory, str(self._seen.port))
        self._crew.start("servo", "edgevla.control.servo", [], servo_fds(config), to_line(config))

    @property
    def _needs_guardian(self) -> bool:
        """An arm without a watchdog of its own has one process more, which holds it when the servo process dies."""
        return self._plan.arm.watchdog_s is None

    def _start_guardian(self) -> None:
        servo = self._crew.get("servo")
        if servo is not None:
            line, fds = guardian_line(self._plan, self._memory, str(self._seen.port), servo.process.pid)
            self._crew.start("guardian", "edgevla.control.guardian", [], fds, line)

    def _start_recorder(self) -> None:
        line, fds = recorder_line(self._plan, self._options, self._memory, self._seen.connected)
        self._crew.start("recorder", "edgevla.flight.recorder", [], fds, line)

    def _until(self, reached: Callable[[], bool], who: str) -> bool:
        """Listen until `reached`; False on an operator stop. Raises what a child reports before that."""
        give_up = time.monotonic() + START_S
        while not reached():
            self._heed(self._operator.look())
            if self._interrupt.asked or self._stop is not None:
                return False
            if time.monotonic() > give_up:
                what, todo = f"{who} is not there", "run again; if it stays so, with --debug"
                raise DeviceFault(explain(what, f"within {START_S:g} s", "silence", todo))
            for event in self._crew.events(_WATCH_S, self._operator.fds):
                self._note(event)
                self._raise_start_error(event)
        return True

    def _raise_start_error(self, event: Event) -> None:
        if event.child == "recorder":
            return
        if event.name in ("error", "arm-refused"):
            code = int(event.data.get("exit_code", 5))
            message = str(event.data.get("message", ""))
            if event.child == "policy" and not event.data.get("known", True):
                what = "the policy of the bundle does not load"
                raise BadInput(explain(what, "an engine that runs", message, "export the bundle again"))
            raise _ERRORS.get(code, DeviceFault)(message)
        if event.name == "end" and event.data.get("reason") == "fault":
            raise DeviceFault(str(event.data.get("message", "")))
        if event.name == "exited":
            raise (BadInput if event.child == "policy" else DeviceFault)(
                explain(
                    f"the {event.child} process ended before the run began",
                    "a running process",
                    f"exit code {event.data['code']}: {self._last_words(event.child)}",
                    "run again with --debug and report this if it stays so",
                )
            )

    # --- while it lasts ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the servo process has ended, or is silent."""
        give_up = time.monotonic() + self._patience_s()
        while not self._seen.end:
            for event in self._crew.events(_WATCH_S, self._operator.fds):
                self._note(event)
                self._react(event)
            self._heed(self._operator.look())
            if self._interrupt.asked:
                self._ask_to_end(Stop("operator stop"))
            if self._servo_hangs():
                self._crew.end("servo", (), 0.0)  # it heeds no SIGTERM, and must not wake up later
                said = {"event": "exited", "message": f"it hung, no step for {_SILENT_S:g} s, and was killed"}
                self._tell_recorder(Event("servo", said))
                self._stop = servo_hangs_stop(f"no step for {_SILENT_S:g} s", self._plan.arm.watchdog_s)
                return
            if time.monotonic() > give_up:
                self._stop = servo_hangs_stop(f"no end after {self._patience_s():g} s", self._plan.arm.watchdog_s)
                return
            self._mind_policy()

    def _patience_s(self) -> float:
        """How long a run may last that ends by itself."""
        options, arm = self._options, self._plan.arm
        if options.stay or not options.duration_s or not options.arm_at_start:
            return float("inf")
        return options.duration_s + arm.hold_s + _STOP_S + (arm.torque_s if arm.torque_policy == "off" else 0.0)

    def _servo_hangs(self) -> bool:
        """No servo step for `_SILENT_S` while the arm may move: arming and latching wait for the device."""
        if self._seen.end or self._heartbeat.look(self._memory.ticks.count, time.monotonic()) <= _SILENT_S:
            return False
        ticks = self._memory.ticks
        rows, _, _ = ticks.since(max(0, ticks.count - 1))
        return len(rows) == 0 or Phase(int(rows[-1]["phase"])) in MOVABLE

    def _note(self, event: Event) -> None:
        seen, data = self._seen, event.data
        self._tell_recorder(event)
        if line := describe(event.name, data):
            self._say(line)
        if event.child == "arm" and "port" in data:
            seen.port = str(data["port"])
        elif event.name == "connected":
            seen.connected = data
            seen.start_ns.setdefault("servo_connected", time.monotonic_ns())
        elif event.name == "guarding":
            seen.guarded = True
        elif event.name == "ready":
            seen.ready, seen.policy_up = data, True
            for known, key in ((seen.start_ns, "start_ns"), (seen.start_cpu_ns, "cpu_ns")):
                for step, at_ns in data.get(key, {}).items():
                    known.setdefault(f"policy_{step}", int(at_ns))
        elif event.name == "armed":
            seen.armed, seen.rehearsal = True, data.get("rehearsal", {})
            seen.start_ns.setdefault("armed", time.monotonic_ns())
            self._course.note = "armed"
        elif event.name == "success":
            seen.success_tick = int(data.get("tick", 0))
        elif event.name == "exit":
            seen.device = data
        elif event.name == "end":
            seen.end = data
        elif event.name == "inference-failed":
            seen.inference_failed = str(data.get("message", ""))
        elif event.name in ("camera", "camera-lost", "camera-stalled", "camera-resumed"):
            name, stalled = str(data.get("name", "")), event.name in ("camera-stalled", "camera-lost")
            seen.cameras.setdefault(name, {}).update(data)
            seen.camera_stalls += stalled
        elif event.name in ("recording", "recorder-failed", "recorded"):
            seen.recorder = {**seen.recorder, **data}
            failed = event.name == "recorder-failed"
            self._course.recorder = f"failed: {data.get('message')}" if failed else event.name

    def _tell_recorder(self, event: Event) -> None:
        """Every event of a child goes on the record, with the time it was heard."""
        if event.child != "recorder" and self._crew.get("recorder") is not None:
            said = {"child": event.child, "at_ns": time.monotonic_ns(), **event.data}
            self._seen.events_lost += not self._crew.whisper("recorder", json.dumps(said) + "\n")

    def _react(self, event: Event) -> None:
        if event.name == "success":
            self._ask_to_end(Stop("task succeeded (reported by the simulator)"))
        elif event.name == "arm-refused" and not self._options.stay:
            message = str(event.data.get("message", ""))
            self._ask_to_end(Stop(message.splitlines()[0], int(event.data.get("exit_code", 1)), message))
        elif event.name != "exited":
            return
        elif event.child == "guardian" and not self._seen.end and self._crew.alive("servo"):
            todo = "run again; nothing would hold the arm if the servo process died"
            words = explain("the guardian ended", "a running process", self._last_words("guardian"), todo)
            self._ask_to_end(Stop("the guardian ended", DeviceFault.exit_code, words))
        elif event.child == "policy":
            self._restart_policy("ended")
        elif event.child.startswith("camera "):
            self._restart_camera(event.child)
        elif event.child == "servo" and not self._seen.end:
            errors = [said for said in reversed(self._said("servo")) if said.get("event") == "error"]
            message = errors[0].get("message") if errors else f"exit code {event.data.get('code')}"
            self._seen.end = {"reason": "servo", "message": message, "last_words": self._last_words("servo")}

    def _said(self, name: str) -> list[dict[str, Any]]:
        child = self._crew.get(name)
        return child.said if child else []

    def _last_words(self, name: str) -> str:
        child = self._crew.get(name)
        return child.last_words() if child else ""

    # --- what the operator asks ----------------------------------------------------------------------------

    def _heed(self, wishes: list[Wish]) -> None:
        for wish in wishes:
            self._tell_recorder(Event("operator", {"event": wish.kind.value, "words": wish.instruction, "by": wish.by}))
            if wish.kind is Kind.QUIT:
                self._ask_to_end(Stop(wish.by if wish.by.startswith("tasks") else "operator stop"))
            elif wish.kind is Kind.INSTRUCT:
                self._change_words(wish.instruction)
            elif wish.kind is Kind.REST:
                self._course.rest = True
                self._order(Order.NONE)
            elif wish.kind is Kind.ARM and not self._course.ready:
                self._say("not armed: arm and policy are not ready yet")
            elif self._stop is None:
                self._order(Order.ARM if wish.kind is Kind.ARM else Order.STOP)

    def _order(self, order: Order) -> None:
        """Every entry carries how many stops and armings there were: none is lost when others overwrite it."""
        self._stops += order in (Order.STOP, Order.QUIT)
        self._arms += order is Order.ARM
        if order is Order.ARM:
            self._armed_ns = time.monotonic_ns()
        wishes = Wishes(self._stops, self._arms, self._armed_ns, self._course.epoch, self._course.rest)
        self._memory.orders.write(pack_wishes(wishes))

    def _change_words(self, words: str) -> None:
        """The policy prepares the words; the servo's next request asks for them: they act within r + d ticks."""
        course = self._course
        course.rest = False
        if words != course.instruction:
            course.instruction, course.epoch = words, course.epoch + 1
            self._seen.instructions.append(words)
            self._tell_recorder(Event("run", {"event": "instruction", "epoch": course.epoch, "text": words}))
            self._memory.words.write(pack_words(course.epoch, words))
            os.eventfd_write(self._memory.kick_fd, 1)
        self._order(Order.NONE)

    def _say(self, line: str) -> None:
        self._course.note = line
        self._operator.say(line)

    def _ask_to_end(self, stop: Stop) -> None:
        """The first reason counts; the servo ramps down, holds, latches and ends."""
        if self._stop is None:
            self._stop = stop
            self._tell_recorder(Event("run", {"event": "stop-asked", "by": stop.reason}))
            self._crew.signal("servo", signal.SIGTERM)

    # --- children that fail --------------------------------------------------------------------------------

    def _mind_policy(self) -> None:
        """An inference past `hang_s`: the process is killed and another one started."""
        if not self._seen.policy_up or self._stop is not None:
            return
        rows, self._looked_at, _ = self._memory.ticks.since(self._looked_at)
        started = rows[rows["started"] != 0]
        if len(started):
            self._asked = (int(started["tick"][-1]), int(started["deadline_ns"][-1]))
        reply = self._memory.replies.read()
        answered = self._asked[0] < 0 or (reply is not None and unpack_reply(reply[1]).tick >= self._asked[0])
        if not answered and time.monotonic_ns() - self._asked[1] > self._plan.target.hang_s * 1e9:
            self._restart_policy("hung")

    def _restart_policy(self, why: str) -> None:
        if self._stop is not None or self._seen.end:
            return
        last_words = self._last_words("policy")
        self._tell_recorder(Event("run", {"event": "policy-restarted", "why": why}))
        self._crew.end("policy", (), 0.0)
        self._seen.restarts += 1
        self._course.restarts = self._seen.restarts
        if not self._may_restart("policy"):
            times = len(self._restarts["policy"])
            self._ask_to_end(policy_stop(why, times, self._plan.target.hang_s, last_words))
            return
        self._say(f"the policy process {why}: started again")
        self._start_policy()

    def _restart_camera(self, child: str) -> None:
        name = child.removeprefix("camera ")
        last_words = self._last_words(child)
        self._crew.end(child, (), 0.0)
        if self._stop is not None or not self._may_restart(child):
            self._say(f"camera {name}: its process ended: {last_words}")
            return  # its frames grow old, the policy answers without chunks, the ladder stops the arm
        self._say(f"the process of camera {name} ended: started again")
        self._start_camera(name, self._options.cameras[name])

    def _may_restart(self, child: str) -> bool:
        """At most three restarts in ten minutes."""
        now = time.monotonic()
        recent = [at for at in self._restarts.get(child, []) if now - at < _RESTART_WINDOW_S]
        self._restarts[child] = [*recent, now]
        return len(self._restarts[child]) <= _MAX_RESTARTS

    # --- end -----------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Servo first (it stops the arm), then the rest, the recorder late, the virtual arm last with its report."""
        self._end("servo", (signal.SIGTERM,), _STOP_S)
        self._end("guardian", (None,), _GUARDIAN_S)  # it ends by itself when the servo has ended, or has held the arm
        self._end("policy", (signal.SIGTERM,), 1.0)
        for name in self._options.cameras:
            self._end(f"camera {name}", (None, signal.SIGTERM), 1.0)
        self._let_the_watchdog_act()
        self._end("recorder", (None,), _RECORD_S)
        self._end("arm", (None, signal.SIGTERM), _STOP_S)

    def _end(self, name: str, gently: tuple[int | None, ...], patience_s: float) -> None:
        child = self._crew.get(name)
        heard = len(child.said) if child is not None else 0
        self._crew.end(name, gently, patience_s)
        for data in child.said[heard:] if child is not None else []:
            self._note(Event(name, data))

    def _let_the_watchdog_act(self) -> None:
        """After a servo that died armed: its arm, virtual as it is, is left the time to stop itself."""
        if self._seen.armed and "stop_confirmed" not in self._seen.end and self._plan.arm.watchdog_s:
            time.sleep(2 * self._plan.arm.watchdog_s)
