"""One run: start the processes, let them go, watch, stop the arm in order, and say what happened.

    virtual arm (or a real port)  <- bytes ->  servo process  <- shared memory ->  policy process
                      \\______________ frames in shared memory ______________________/

This process is on none of those paths. It holds the shared memory, so that nothing outlives it by name, and
it ends its children on every way out. Ctrl-C and SIGTERM stop the arm first: decelerate, hold, latch, close.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.config import PolicyConfig, ServoConfig, to_line
from edgevla.control.crew import Crew, Event, Interrupt
from edgevla.control.exchange import reply_bytes, request_bytes, unpack_reply, unpack_request
from edgevla.control.ladder import Phase
from edgevla.control.plan import RunPlan
from edgevla.control.result import (
    RunResult,
    Stop,
    bus_stop,
    inference_figures,
    latched_stop,
    loop_figures,
    policy_stop,
    servo_ended_stop,
    servo_hangs_stop,
)
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.sensors.camera import CameraSlot
from edgevla.telemetry.host import stolen_s
from edgevla.telemetry.rows import Rows, inference_dtype, tick_dtype

_START_S = 120.0  # s: a simulator and a model may take long to load on a busy machine
_CAMERA_S = 5.0  # s: a real camera delivers at once
_STOP_S = 5.0  # s beyond the ramp for the servo to end
_WATCH_S = 0.05  # s between two looks at the children
_SILENT_S = 1.0  # s without a servo step of an armed arm: ten watchdogs, the servo hangs
_MAX_RESTARTS = 3
_ARM_NICE = -15  # of the virtual arm, where that is permitted
_ROWS_KEPT_S = 3600.0  # of the flight record; the newest are kept
_FRAME_EVERY_S = 0.1  # 8 ticks of the reference policy
_MAX_FRAMES = 600
_ERRORS: dict[int, type[EdgevlaError]] = {
    error.exit_code: error for error in (Refused, Usage, Unsound, BadInput, DeviceFault)
}


@dataclass(frozen=True)
class RunOptions:
    """What the caller chose. Exactly one of `sim` and `port`."""

    instruction: str
    sim: str | None = None  # Meta-World task of the virtual arm
    plant: str = "metaworld"  # of the virtual arm; "integrator" is its kinematic stand-in
    seed: int = 0
    half_way: bool = False
    port: str | None = None  # serial port of a real arm
    camera_fd: int | None = None  # slot of a camera process outside this run, needed with `port`
    duration_s: float = 30.0
    best_effort: bool = False
    keep_frames: bool = False


def check_options(options: RunOptions) -> None:
    """Raises Usage on options that exclude each other or make no run."""
    if (options.sim is None) == (options.port is None):
        raise Usage(
            explain(
                "which arm?",
                "one of --sim TASK and --port PORT",
                "both" if options.sim else "neither",
                "pass --sim for the virtual arm or --port for a real one",
            )
        )
    if not 0.0 < options.duration_s <= 86_400.0:
        raise Usage(
            explain("the duration makes no run", "0 < --duration-s <= 86400", options.duration_s, "pass another")
        )
    if options.seed < 0:
        raise Usage(explain("the seed makes no scene", "--seed >= 0", options.seed, "pass another"))


def run(plan: RunPlan, options: RunOptions, say: Callable[[str], None] = lambda text: None) -> RunResult:
    """Run to the end. Raises EdgevlaError when it could not begin; a stop while moving is a result."""
    check_options(options)
    with Interrupt() as interrupt, _Memory(plan, options) as memory, Crew(interrupt) as crew:
        return _Run(plan, options, interrupt, memory, crew, say).play()


class _Memory:
    """Everything the processes share: file descriptors without names, closed with this object."""

    def __init__(self, plan: RunPlan, options: RunOptions) -> None:
        channels, states = len(plan.arm.channels), len(plan.arm.state)
        steps = int(min(options.duration_s + 10.0, _ROWS_KEPT_S) / plan.period_s * plan.target.servo_ratio)
        self.requests = Slots.create(request_bytes(plan.schedule.delay, channels, states))
        self.replies = Slots.create(reply_bytes(plan.schedule.horizon, channels))
        self.ticks = Rows.create(tick_dtype(channels, states), steps)
        self.inferences = Rows.create(inference_dtype(), steps // plan.target.servo_ratio + 1)
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if options.camera_fd is None:
            self.camera = CameraSlot.create(plan.width, plan.height)
        else:
            self.camera = CameraSlot.attach(os.dup(options.camera_fd))

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        for part in (self.requests, self.replies, self.ticks, self.inferences, self.camera):
            part.close()
        os.close(self.kick_fd)


@dataclass
class _Seen:
    """What the children have said so far."""

    port: str | None = None
    connected: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    armed: bool = False
    end: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    success_tick: int | None = None
    inference_failed: str = ""
    restarts: int = 0
    policy_up: bool = False


class Heartbeat:
    """How long a count has not risen, in the looks of this process: a stall of the whole host is no silence."""

    def __init__(self) -> None:
        self.silent_s = 0.0
        self._count = -1
        self._looked_s: float | None = None

    def look(self, count: int, now_s: float) -> float:
        """Seconds of silence. A gap between two looks counts as two regular ones at most."""
        gap_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, 2 * _WATCH_S)
        self.silent_s = 0.0 if count != self._count else self.silent_s + gap_s
        self._count, self._looked_s = count, now_s
        return self.silent_s


class _Run:
    """The course of one run. `_stop` holds the reason once somebody has decided to end it."""

    def __init__(
        self,
        plan: RunPlan,
        options: RunOptions,
        interrupt: Interrupt,
        memory: _Memory,
        crew: Crew,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._options, self._interrupt = plan, options, interrupt
        self._memory, self._crew, self._say = memory, crew, say
        self._seen = _Seen()
        self._stop: Stop | None = None
        self._heartbeat = Heartbeat()
        self._frames: list[NDArray[np.uint8]] = []
        self._frame_at = 0.0
        self._frame_sequence = 0

    def play(self) -> RunResult:
        begun_s, stolen_before = time.monotonic(), stolen_s()
        try:
            if self._begin():
                self._watch()
        finally:
            self._close()
        return self._result(time.monotonic() - begun_s, stolen_s() - stolen_before)

    # --- start ---------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Processes up, arm armed. False when the operator stopped it first; nothing has moved then."""
        if self._options.sim is not None:
            self._start_arm()
        else:
            self._seen.port = self._options.port
        self._start_policy()
        if not self._until(lambda: self._seen.port is not None, "the virtual arm"):
            return False
        self._start_servo()
        if not self._until(lambda: bool(self._seen.connected), "the servo process"):
            return False
        self._say(f"arm connected on {self._seen.port}")
        if not self._until(lambda: self._seen.policy_up, "the policy process"):
            return False
        self._say("policy ready")
        self._crew.tell("servo", "go\n")
        if not self._until(lambda: self._seen.armed, "the arm"):
            return False
        self._say(f"armed: {self._options.instruction!r}")
        return True

    def _start_arm(self) -> None:
        camera, plan, options = self._memory.camera.fd, self._plan, self._options
        arguments = ["--sim", str(options.sim), "--plant", options.plant, "--seed", str(options.seed)]
        arguments += ["--camera-fd", str(camera), "--period-s", repr(plan.period_s)]
        if options.half_way:
            arguments.append("--half-way")
        child = self._crew.start("arm", "edgevla.sim.virtual_arm", arguments, [camera])
        with contextlib.suppress(OSError):  # it stands in for hardware, which does not wait for a busy host
            os.setpriority(os.PRIO_PROCESS, child.process.pid, _ARM_NICE)

    def _start_policy(self) -> None:
        plan, memory, target = self._plan, self._memory, self._plan.target
        config = PolicyConfig(
            parent_pid=os.getpid(),
            engine=plan.engine,
            bundle=plan.bundle,
            instruction=self._options.instruction,
            threads=target.policy_threads,
            core=target.policy_core,
            memory_mb=target.memory_mb,
            horizon=plan.schedule.horizon,
            delay=plan.schedule.delay,
            channels=len(plan.arm.channels),
            states=len(plan.arm.state),
            height=plan.height,
            width=plan.width,
            first_frame_s=_START_S if self._options.sim is not None else _CAMERA_S,
            max_frame_age_s=plan.max_frame_age_s,
            max_state_age_s=plan.arm.max_state_age_s,
            request_fd=memory.requests.fd,
            reply_fd=memory.replies.fd,
            kick_fd=memory.kick_fd,
            camera_fd=memory.camera.fd,
            rows_fd=memory.inferences.fd,
        )
        fds = [config.request_fd, config.reply_fd, config.kick_fd, config.camera_fd, config.rows_fd]
        self._seen.policy_up = False
        self._crew.start("policy", "edgevla.policy.process", [], fds, to_line(config))

    def _start_servo(self) -> None:
        plan, memory, target = self._plan, self._memory, self._plan.target
        config = ServoConfig(
            parent_pid=os.getpid(),
            port=str(self._seen.port),
            arm=plan.arm,
            schedule=plan.schedule,
            period_s=plan.period_s,
            servo_ratio=target.servo_ratio,
            kinds=plan.kinds,
            scale=plan.scale,
            offset=plan.offset,
            start_low=plan.start_low,
            start_high=plan.start_high,
            duration_ticks=max(1, round(self._options.duration_s / plan.period_s)),
            core=target.servo_core,
            priority=target.servo_priority,
            best_effort=self._options.best_effort,
            request_fd=memory.requests.fd,
            reply_fd=memory.replies.fd,
            kick_fd=memory.kick_fd,
            rows_fd=memory.ticks.fd,
        )
        fds = [config.request_fd, config.reply_fd, config.kick_fd, config.rows_fd]
        self._crew.start("servo", "edgevla.control.servo", [], fds, to_line(config))

    def _until(self, reached: Callable[[], bool], who: str) -> bool:
        """Listen until `reached`; False on an operator stop. Raises what a child reports before that."""
        give_up = time.monotonic() + _START_S
        while not reached():
            if self._interrupt.asked:
                return False
            if time.monotonic() > give_up:
                raise DeviceFault(
                    explain(
                        f"{who} is not there",
                        f"within {_START_S:g} s",
                        "silence",
                        "run again; if it stays so, with --debug",
                    )
                )
            for event in self._crew.events(_WATCH_S):
                self._note(event)
                self._raise_start_error(event)
        return True

    def _raise_start_error(self, event: Event) -> None:
        if event.name == "error":
            code = int(event.data.get("exit_code", 5))
            message = str(event.data.get("message", ""))
            if event.child == "policy" and not event.data.get("known", True):
                what = "the policy of the bundle does not load"
                raise BadInput(explain(what, "an engine that runs", message, "export the bundle again"))
            raise _ERRORS.get(code, DeviceFault)(message)
        if event.name == "exited":
            raise (BadInput if event.child == "policy" else DeviceFault)(
                explain(
                    f"the {event.child} process ended before the run began",
                    "a running process",
                    f"exit code {event.data['code']}: {self._last_words(event.child)}",
                    "run again with --debug and report this if it stays so",
                )
            )

    # --- while it moves ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the servo process has ended, or is silent."""
        patience_s = self._options.duration_s + self._plan.arm.hold_s + _STOP_S
        if self._plan.arm.torque_policy == "off":
            patience_s += self._plan.arm.torque_s
        give_up = time.monotonic() + patience_s
        while not self._seen.end:
            for event in self._crew.events(_WATCH_S):
                self._note(event)
                self._react(event)
            if self._interrupt.asked:
                self._ask_to_stop(Stop("operator stop"))
            if self._servo_hangs():
                self._crew.end("servo", (), 0.0)  # it heeds no SIGTERM, and must not wake up later
                self._stop = servo_hangs_stop(f"no step for {_SILENT_S:g} s", self._plan.arm.watchdog_s)
                return
            if time.monotonic() > give_up:
                self._stop = servo_hangs_stop(f"no end after {patience_s:g} s", self._plan.arm.watchdog_s)
                return
            self._mind_policy()
            self._keep_frame()

    def _servo_hangs(self) -> bool:
        """No servo step for `_SILENT_S`, while one is due: none is once the arm is latched."""
        if self._seen.end or self._heartbeat.look(self._memory.ticks.count, time.monotonic()) <= _SILENT_S:
            return False
        phases = self._memory.ticks.newest()["phase"]  # a copy: only taken in silence
        return len(phases) == 0 or bool(phases[-1] < Phase.LATCHED)

    def _note(self, event: Event) -> None:
        seen, data = self._seen, event.data
        if event.child == "arm" and "port" in data:
            seen.port = str(data["port"])
        elif event.name == "connected":
            seen.connected = data
        elif event.name == "ready":
            seen.ready, seen.policy_up = data, True
        elif event.name == "armed":
            seen.armed = True
        elif event.name == "success":
            seen.success_tick = int(data.get("tick", 0))
        elif event.name == "exit":
            seen.device = data
        elif event.name == "end":
            seen.end = data
        elif event.name == "inference-failed":
            seen.inference_failed = str(data.get("message", ""))

    def _react(self, event: Event) -> None:
        if event.name == "success":
            self._ask_to_stop(Stop("task succeeded (reported by the simulator)"))
        elif event.child == "policy" and event.name == "exited":
            self._restart_policy("ended")
        elif event.child == "servo" and event.name in ("error", "exited") and not self._seen.end:
            message = event.data.get("message") or f"exit code {event.data.get('code')}"
            self._seen.end = {"reason": "servo", "message": message, "last_words": self._last_words("servo")}

    def _last_words(self, name: str) -> str:
        child = self._crew.get(name)
        return child.last_words() if child else ""

    def _ask_to_stop(self, stop: Stop) -> None:
        """The first reason counts; the servo ramps down, holds, latches and ends."""
        if self._stop is None:
            self._stop = stop
            self._crew.signal("servo", signal.SIGTERM)

    def _mind_policy(self) -> None:
        """An inference past `hang_s`: the process is killed and another one started."""
        if not self._seen.policy_up or self._stop is not None:
            return
        request, reply = self._memory.requests.read(), self._memory.replies.read()
        if request is None:
            return
        asked = unpack_request(request[1])
        answered = reply is not None and unpack_reply(reply[1]).tick >= asked.tick
        if not answered and time.monotonic_ns() - asked.asked_ns > self._plan.target.hang_s * 1e9:
            self._restart_policy("hung")

    def _restart_policy(self, why: str) -> None:
        if self._stop is not None or self._seen.end:
            return
        last_words = self._last_words("policy")
        self._crew.end("policy", (), 0.0)
        self._seen.restarts += 1
        if self._seen.restarts > _MAX_RESTARTS:
            self._ask_to_stop(policy_stop(why, self._seen.restarts, self._plan.target.hang_s, last_words))
            return
        self._say(f"the policy process {why}: started again")
        self._start_policy()

    def _keep_frame(self) -> None:
        now = time.monotonic()
        if not self._options.keep_frames or len(self._frames) >= _MAX_FRAMES or now < self._frame_at:
            return
        frame = self._memory.camera.latest(after=self._frame_sequence)
        if frame is not None:
            self._frames.append(frame.image)
            self._frame_sequence, self._frame_at = frame.sequence, now + _FRAME_EVERY_S

    # --- end -----------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Servo first (it stops the arm), then the policy, then the virtual arm with its last report."""
        steps: tuple[tuple[str, tuple[int | None, ...], float], ...] = (
            ("servo", (signal.SIGTERM,), _STOP_S),
            ("policy", (signal.SIGTERM,), 1.0),
            ("arm", (None, signal.SIGTERM), _STOP_S),
        )
        for name, gently, patience_s in steps:
            if name == "arm":
                self._let_the_watchdog_act()
            child = self._crew.get(name)
            self._crew.end(name, gently, patience_s)
            for data in child.said if child is not None else []:
                self._note(Event(name, data))

    def _let_the_watchdog_act(self) -> None:
        """After a servo that died armed: its arm, virtual as it is, is left the time to stop itself."""
        if self._seen.armed and "stop_confirmed" not in self._seen.end and self._plan.arm.watchdog_s:
            time.sleep(2 * self._plan.arm.watchdog_s)

    def _verdict(self, loop: dict[str, Any], inferences: dict[str, Any]) -> Stop:
        end, seen, plan = self._seen.end, self._seen, self._plan
        reason, message = end.get("reason"), str(end.get("message", ""))
        if reason == "fault":
            return bus_stop(message, loop)
        if reason == "servo":
            return servo_ended_stop(message, str(end.get("last_words", "")))
        if reason == "latched":
            schedule, failed = plan.schedule, seen.inference_failed
            return latched_stop(end, inferences, failed, plan.arm.hold_s, schedule.horizon, schedule.survive)
        if self._stop is not None:
            return self._stop
        if reason == "duration":
            return Stop("duration reached")
        return Stop("operator stop" if seen.armed else "operator stop (before the arm was armed)")

    def _result(self, wall_s: float, stolen: float) -> RunResult:
        plan, seen, end = self._plan, self._seen, self._seen.end
        ticks, inferences = self._memory.ticks.newest(), self._memory.inferences.newest()
        link = end.get("link", {})
        loop = loop_figures(ticks, plan.period_s / plan.target.servo_ratio, int(link.get("late", 0)))
        told = inference_figures(inferences)
        stop = self._verdict(loop, told)
        figures = {
            "policy": plan.policy,
            "arm": plan.arm.name,
            "target": plan.target.name,
            "instruction": self._options.instruction,
            "sim": self._options.sim,
            "seed": self._options.seed,
            "half_way": self._options.half_way,
            "success_tick": seen.success_tick,
            "schedule": {
                "period_s": plan.period_s,
                "H": plan.schedule.horizon,
                "d": plan.schedule.delay,
                "r": plan.schedule.replan,
                "m": plan.schedule.survive,
                "servo_ratio": plan.target.servo_ratio,
            },
            "loop": loop,
            "inference": told,
            "chunks": {key: end.get(key, 0) for key in ("released", "release_misses", "passed_over")},
            "policy_restarts": seen.restarts,
            "stop_confirmed": bool(end.get("stop_confirmed", False)),
            "real_time": end.get("granted") or seen.connected.get("granted", {}),
            "policy_not_pinned": seen.ready.get("not_pinned"),
            "policy_resident_mb": seen.ready.get("resident_mb"),
            "link": link,
            "device": {key: value for key, value in seen.device.items() if key != "event"},
            "wall_s": round(wall_s, 3),
            "stolen_s": round(stolen, 3),
        }
        success = None if self._options.sim is None else seen.success_tick is not None
        frames = np.array(self._frames, np.uint8) if self._frames else np.zeros((0, 0, 0, 3), np.uint8)
        return RunResult(stop.reason, stop.code, success, figures, ticks, inferences, frames, stop.error)
