"""A virtual arm in a process of its own: edgelink on a pty, a simulated plant, a camera in shared memory.

    python -m edgevla.sim.virtual_arm --sim drawer-open-v3 --seed 7 --camera-fd 5 < PIPE

Prints one JSON object a line: first {"port": ...}, then {"event": "success", ...} once, last
{"event": "exit", ...}. The plant advances on the arm's own clock, not on the host's commands. It ends when
its standard input closes, when the thread that started it dies, or on SIGTERM; pty and memory go with it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import DeviceFault, Usage, explain
from edgevla.sensors.camera import CameraSlot
from edgevla.sim.view import CORNER, View, view_of
from firmware_bridge.arm import ChannelLimits, Float32
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice
from firmware_bridge.transport.pty import PtyPair

# Compiled in, as in an arm's firmware: not read from the profile that the host uses.
CHANNELS = (
    ChannelLimits("x", "m", -0.5, 0.5),
    ChannelLimits("y", "m", 0.40, 1.0),
    ChannelLimits("z", "m", 0.05, 0.5),
    ChannelLimits("gripper", "1", -1.0, 1.0),
)
SWITCH_S = 0.0005  # s: the longest the main thread keeps the interpreter from the line's thread
PERIODS_S = (1e-4, 10.0)  # s: the shortest and the longest T that make an arm
_PR_SET_PDEATHSIG = 1
_LOW = np.array([channel.minimum for channel in CHANNELS], np.float32)
_HIGH = np.array([channel.maximum for channel in CHANNELS], np.float32)


class Scene(Protocol):
    """A plant that can be looked at: MetaworldPlant, or IntegratorScene for tests."""

    setpoint0: Float32
    success: bool

    def step(self, setpoint: Float32) -> Float32: ...
    def position(self) -> Float32: ...
    def effort(self) -> Float32: ...
    def render(self) -> NDArray[np.uint8]: ...
    def close(self) -> None: ...


class IntegratorScene(IntegratorPlant):
    """Kinematic plant with a drawn dot for a camera. Success: the hand within 1 cm of `GOAL`.

    `wall_x` (m): where an obstacle stops the hand on its way up the x axis.
    """

    GOAL = (0.10, 0.70, 0.20)  # m

    def __init__(self, wall_x: float = np.inf, view: View = CORNER) -> None:
        self._size_px = view.size_px
        self.setpoint0 = np.array([0.0, 0.6, 0.2, -1.0], np.float32)
        self.success = False
        super().__init__(self.setpoint0, wall=np.array([wall_x, np.inf, np.inf, np.inf], np.float32))

    def step(self, setpoint: Float32) -> Float32:
        position = super().step(setpoint)
        distance_m = float(np.linalg.norm(position[:3] - np.array(self.GOAL)))
        self.success = self.success or distance_m < 0.01
        return position

    def render(self) -> NDArray[np.uint8]:
        """A gradient, and the hand's x, y as a white dot: uint8 (size_px, size_px, 3) of the view."""
        size = self._size_px
        ramp = np.linspace(0, 200, size, dtype=np.uint8)
        image = np.empty((size, size, 3), np.uint8)
        image[..., 0], image[..., 1], image[..., 2] = ramp[None, :], ramp[:, None], 60
        share = (self.position()[:2] - _LOW[:2]) / (_HIGH[:2] - _LOW[:2])
        column, row = np.clip(share * (size - 5), 0, size - 5).astype(int)
        image[row : row + 5, column : column + 5] = 255
        return image

    def close(self) -> None:
        """Nothing to free."""


class Clipped:
    """The last line of defence: whatever holds the plant's reins, it stays in the workspace."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def step(self, setpoint: Float32) -> Float32:
        return self._scene.step(np.clip(setpoint, _LOW, _HIGH))

    def position(self) -> Float32:
        return self._scene.position()

    def effort(self) -> Float32:
        return self._scene.effort()


@dataclass
class PhaseClock:
    """Absolute deadlines one period apart. A stall skips whole periods and keeps the phase: no burst."""

    period_ns: int
    next_ns: int
    skipped: int = 0

    def lock(self, first_ns: int) -> None:
        """Put the phase so that the next deadline is `first_ns`."""
        self.next_ns = first_ns

    def advance(self, now_ns: int) -> None:
        """The deadline after the one just served, the first that is still ahead."""
        behind = max(0, (now_ns - self.next_ns) // self.period_ns)
        self.skipped += behind
        self.next_ns += (behind + 1) * self.period_ns


class Talk:
    """JSON lines for the parent. Standard output itself goes to standard error, for libraries that print."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        os.dup2(2, 1)

    def say(self, **fields: Any) -> None:
        """One line; a parent that no longer listens is no reason to fail."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, json.dumps(fields).encode() + b"\n")


class VirtualArm:
    """The process: one thread serves the line, as a controller does whatever its camera is doing; the main
    one steps the plant, draws frames and looks after the parent. `_lock` guards device and clock.
    """

    def __init__(
        self, scene: Scene, line: PtyPair, camera: CameraSlot | None, talk: Talk, period_s: float, every: int
    ) -> None:
        self._scene, self._line, self._camera, self._talk, self._every = scene, line, camera, talk, every
        self._device = VirtualDevice(Clipped(scene), CHANNELS, scene.setpoint0)
        self._epoch_ns = time.monotonic_ns()  # the device's clock starts at 0, as a microcontroller's does
        period_ns = round(period_s * 1e9)
        self._clock = PhaseClock(period_ns, self._epoch_ns)
        self._lock = threading.Lock()
        self._periods = self._steps = self._frames = self._lost_replies = 0
        self._success_step: int | None = None
        self._stopping = ""
        self._wake_read, self._wake_write = os.pipe()  # the main thread's select() ends: signal, or clock moved
        os.set_blocking(self._wake_write, False)

    def run(self, parent_fd: int) -> None:
        """Serve until `parent_fd` reaches its end or a signal asks for the end."""
        self._end_on_signals()
        self._show()  # the first frame makes the renderer: before the port is announced, not while serving
        self._announce()
        self._clock.lock(time.monotonic_ns() + self._clock.period_ns)
        end_read, end_write = os.pipe()
        server = threading.Thread(target=self._serve_line, args=(end_read,), name="line")
        server.start()
        try:
            while not self._stopping:
                self._wait(parent_fd)
                if time.monotonic_ns() >= self._clock.next_ns:
                    self._tick()
        finally:
            os.close(end_write)
            server.join()

    def _wait(self, parent_fd: int) -> None:
        """Until the next deadline, or sooner when there is a reason to look."""
        wait_s = max(0, self._clock.next_ns - time.monotonic_ns()) * 1e-9
        ready = select.select([parent_fd, self._wake_read], [], [], wait_s)[0]
        if self._wake_read in ready:
            os.read(self._wake_read, 256)
        if parent_fd in ready and not os.read(parent_fd, 256):
            self._stopping = "parent closed standard input"

    def _end_on_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGTERM, self._end)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._end)

    def _end(self, number: int, _frame: object) -> None:
        self._stopping = signal.Signals(number).name

    def _announce(self) -> None:
        position = self._scene.position().tolist()
        setpoint0 = self._scene.setpoint0.tolist()
        self._talk.say(port=self._line.port, pid=os.getpid(), setpoint0=setpoint0, position=position)

    def report(self) -> dict[str, Any]:
        """What happened, for the last line."""
        return {
            "reason": self._stopping,
            "steps": self._steps,
            "skipped_periods": self._clock.skipped,
            "frames": self._frames,
            "lost_replies": self._lost_replies,
            "success": self._scene.success,
            "success_tick": self._success_step,
            "mode": self._device.mode.name,
            "faults": int(self._device.faults),
            "held": self._device.held.tolist(),
            **self._device.counts_dict(),
        }

    def _serve_line(self, end_fd: int) -> None:
        """The line's thread: answer the host until `end_fd` closes."""
        while end_fd not in (ready := select.select([self._line.master_fd, end_fd], [], [])[0]):
            if ready:
                self._serve()

    def _serve(self) -> None:
        """What has arrived on the line, and the answer."""
        with self._lock:
            data, now_ns = self._line.read(), time.monotonic_ns()
            before = self._device.commands_since_arming
            reply = self._device.feed(data, self._device_us(now_ns))
            first_command = before == 0 and self._device.commands_since_arming > 0
            if first_command:
                # Half a period from the host's writes: its jitter has the same room on both sides.
                self._clock.lock(now_ns + self._clock.period_ns // 2)
        if reply and not self._line.write(reply):
            self._lost_replies += 1
        if first_command:
            os.write(self._wake_write, b"c")

    def _tick(self) -> None:
        self._serve()  # a controller never judges its watchdog with commands unread, however busy this computer is
        with self._lock:
            self._steps += self._device.tick(self._device_us(time.monotonic_ns()))
            self._clock.advance(time.monotonic_ns())
        self._periods += 1
        if self._scene.success and self._success_step is None:
            self._success_step = self._steps
            self._talk.say(event="success", tick=self._steps)
        if self._periods % self._every == 0:
            self._show()

    def _show(self) -> None:
        """One camera frame, stamped with the time of the state it shows."""
        if self._camera is not None:
            stamp_ns = time.monotonic_ns()
            self._camera.publish(self._scene.render(), stamp_ns)
            self._frames += 1

    def _device_us(self, now_ns: int) -> int:
        return (now_ns - self._epoch_ns) // 1000


def die_with_parent() -> None:
    """SIGTERM when the parent ends, even by SIGKILL; Ctrl-C is for the parent, which stops the arm first."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if not sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edgevla.sim.virtual_arm", description="One virtual arm.")
    parser.add_argument("--sim", default="drawer-open-v3", help="Meta-World task")
    parser.add_argument("--seed", type=int, default=0, help="of the scene")
    parser.add_argument("--half-way", action="store_true", help="start with the drawer or window half open")
    parser.add_argument("--plant", choices=["metaworld", "integrator"], default="metaworld")
    parser.add_argument("--wall-x", type=float, default=np.inf, help="m, integrator: an obstacle in x")
    parser.add_argument("--camera", default=CORNER.name, help="name of the policy's camera, which says what it sees")
    parser.add_argument("--camera-fd", type=int, help="inherited descriptor of a camera slot")
    parser.add_argument("--period-s", type=float, default=0.0125, help="T, the plant's step")
    parser.add_argument("--camera-every", type=int, default=2, help="periods between two frames")
    return parser.parse_args(argv)


def _scene(arguments: argparse.Namespace) -> Scene:
    if arguments.plant == "integrator":
        return IntegratorScene(arguments.wall_x, view_of(arguments.camera))
    from edgevla.sim.metaworld import MetaworldPlant  # costs seconds: only when it is asked for

    return MetaworldPlant(arguments.sim, arguments.seed, arguments.half_way, view=view_of(arguments.camera))


def _require_period(period_s: float) -> None:
    if not PERIODS_S[0] <= period_s <= PERIODS_S[1]:  # NaN fails both
        expected = f"{PERIODS_S[0]:g} <= --period-s <= {PERIODS_S[1]:g}"
        raise Usage(
            explain("the period makes no arm", expected, period_s, "pass another; the reference arm has 0.0125")
        )


def _camera(fd: int) -> CameraSlot:
    try:
        return CameraSlot.attach(fd)
    except (OSError, DeviceFault) as error:
        got = str(error).partition("\n")[0]
        todo = "pass the number of an inherited camera slot with --camera-fd, or leave it out"
        raise DeviceFault(explain("no camera slot", f"one at descriptor {fd}", got, todo)) from None


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, or that of the error that kept the arm from starting."""
    die_with_parent()
    arguments = _arguments(argv)
    talk = Talk()
    try:
        _require_period(arguments.period_s)
        scene = _scene(arguments)
        camera = None if arguments.camera_fd is None else _camera(arguments.camera_fd)
    except Exception as error:
        if not isinstance(code := getattr(error, "exit_code", None), int):
            raise
        talk.say(event="error", message=str(error), exit_code=code)
        sys.stderr.write(f"error: {error}\n")  # for a person: the line above is for a parent process
        return code
    with PtyPair() as line, contextlib.closing(scene):
        arm = VirtualArm(scene, line, camera, talk, arguments.period_s, arguments.camera_every)
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        arm.run(sys.stdin.fileno())
        talk.say(event="exit", **arm.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
