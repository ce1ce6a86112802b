"""The policy process: blocked until the servo asks, one inference at a time, an answer for every request.

    python -m edgevla.policy.process     (started by `edgevla.control.run`, configured by one line on stdin)

It never touches the arm. A request that finds its inputs too old, or whose inference fails, is answered with
the reason: the servo counts a release miss and asks again. Events: ready, error, inference-failed (once).
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.control.config import PolicyConfig, policy_config
from edgevla.control.exchange import Reply, Request, Status, pack_reply, unpack_reply, unpack_request
from edgevla.control.realtime import pin
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, DeviceFault, Refused, explain
from edgevla.sensors.camera import CameraSlot, Frame
from edgevla.telemetry.rows import Rows, inference_dtype

Float32 = NDArray[np.float32]

BUNDLE_ENGINE = "edgevla.policy.process:bundle_engine"
_WARM_UPS = 10  # inferences before the first that counts: allocations, caches, CPU frequency


class Engine(Protocol):
    """What the process needs of a policy (edgevla.policy.engine.PolicyEngine has it)."""

    def set_instruction(self, text: str) -> None:
        """Raises BadInput on words outside the vocabulary."""

    def infer(self, image: NDArray[np.uint8], state: Float32, prefix: Float32) -> Float32:
        """Image (h, w, 3), state (s,), prefix (d, n) normalised -> chunk (H, n) normalised."""

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Chunk (H, n) -> absolute set-points (H, n), from `anchor`, the set-point at k + d - 1."""


def bundle_engine(bundle: str, threads: int) -> Engine:
    """The engine of a bundle on disk, every file verified."""
    from edgevla.bundle.reader import open_bundle
    from edgevla.policy.engine import PolicyEngine

    engine: Engine = PolicyEngine(open_bundle(bundle), threads=threads)
    return engine


def load_factory(dotted: str) -> Callable[[str, int], Engine]:
    """The engine factory of that name, "module:function"."""
    module, _, function = dotted.partition(":")
    factory: Callable[[str, int], Engine] = getattr(importlib.import_module(module), function)
    return factory


class Policy:
    """One engine between the request slot and the reply slot."""

    def __init__(self, config: PolicyConfig, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._requests, self._replies = Slots.attach(config.request_fd), Slots.attach(config.reply_fd)
        self._camera = CameraSlot.attach(config.camera_fd)
        self._rows = Rows(config.rows_fd, inference_dtype())
        self._answered = 0  # sequence of the newest request that has its answer
        self._said_failed = False
        self._nothing: Float32 = np.zeros((config.horizon, config.channels), np.float32)

    def first_frame(self) -> Frame:
        """The camera's first frame. Raises DeviceFault when none comes, BadInput on a wrong size."""
        patience_s = self._config.first_frame_s
        until = time.monotonic() + patience_s
        while (frame := self._camera.latest()) is None:
            if time.monotonic() > until:
                raise DeviceFault(
                    explain(
                        "the camera is silent",
                        f"a frame within {patience_s:g} s",
                        "none",
                        "check that the camera is connected and its process runs",
                    )
                )
            time.sleep(0.01)
        expected = (self._config.height, self._config.width, 3)
        if frame.image.shape != expected:
            raise BadInput(
                explain(
                    "the camera's image has a wrong size",
                    f"{expected} (height, width, RGB)",
                    frame.image.shape,
                    "set the camera to the resolution of the bundle",
                )
            )
        return frame

    def warm_up(self) -> list[int]:
        """Run the whole path on a real frame; durations in ns, first to last."""
        config, frame, durations = self._config, self.first_frame(), []
        state = np.zeros(config.states, np.float32)
        prefix = np.zeros((config.delay, config.channels), np.float32)
        anchor = np.zeros(config.channels, np.float32)
        for _ in range(_WARM_UPS):
            begun_ns = time.monotonic_ns()
            chunk = self._engine.infer(frame.image, state, prefix)
            self._engine.to_setpoints(chunk, anchor, config.delay)
            durations.append(time.monotonic_ns() - begun_ns)
        return durations

    def answer_orphan(self) -> None:
        """After a restart: the request that the last process left unanswered ends here, without a chunk."""
        request, reply = self._requests.read(), self._replies.read()
        if request is None:
            return
        self._answered = request[0]
        tick = unpack_request(request[1]).tick
        if reply is None or unpack_reply(reply[1]).tick != tick:
            self._reply(Reply(tick, time.monotonic_ns(), Status.RESTARTED, self._nothing))

    def serve(self) -> None:
        """Answer the newest request, if it is a new one."""
        found = self._requests.read(after=self._answered)
        if found is None:
            return
        self._answered = found[0]
        request = unpack_request(found[1])
        begun_ns = time.monotonic_ns()
        frame = self._camera.latest()
        status = self._judge(request, frame, begun_ns)
        setpoints = self._nothing
        if status is Status.OK and frame is not None:
            status, setpoints = self._infer(request, frame)
        done_ns = time.monotonic_ns()
        self._reply(Reply(request.tick, done_ns, status, setpoints))
        self._rows.append(
            (
                request.tick,
                request.asked_ns,
                done_ns,
                begun_ns - frame.stamp_ns if frame is not None else -1,
                begun_ns - request.state_stamp_ns,
                done_ns - begun_ns,
                status,
            )
        )

    def _judge(self, request: Request, frame: Frame | None, now_ns: int) -> Status:
        """Are the inputs young enough to act on?"""
        if frame is None:
            return Status.NO_FRAME
        if now_ns - frame.stamp_ns > self._config.max_frame_age_s * 1e9:
            return Status.OLD_FRAME
        if now_ns - request.state_stamp_ns > self._config.max_state_age_s * 1e9:
            return Status.OLD_STATE
        return Status.OK

    def _infer(self, request: Request, frame: Frame) -> tuple[Status, Float32]:
        try:
            chunk = self._engine.infer(frame.image, request.state, request.prefix)
            setpoints = self._engine.to_setpoints(chunk, request.anchor, len(request.prefix))
        except Exception as error:  # whatever the engine raises costs one chunk, never the process
            if not self._said_failed:
                self._said_failed = True
                emit("inference-failed", message=f"{type(error).__name__}: {error}")
            return Status.FAILED, self._nothing
        if setpoints.shape != self._nothing.shape or not np.isfinite(setpoints).all():
            return Status.NOT_FINITE, self._nothing
        return Status.OK, setpoints

    def _reply(self, reply: Reply) -> None:
        self._replies.write(pack_reply(reply))


def resident_mb() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _require_memory(config: PolicyConfig) -> None:
    used = resident_mb()
    if used > config.memory_mb:
        raise Refused(
            explain(
                "the policy needs more memory than the target grants",
                f"{config.memory_mb} MB",
                f"{used:.0f} MB",
                "choose a smaller student, or raise memory_mb in the target profile",
            )
        )


def main() -> int:
    """Configuration on stdin, events on stdout; ends when stdin closes."""
    config = policy_config(read_line(0))
    adopt(config.parent_pid, signal.SIGKILL)
    not_pinned = pin(config.core)
    engine = load_factory(config.engine)(config.bundle, config.threads)
    engine.set_instruction(config.instruction)
    policy = Policy(config, engine)
    durations = policy.warm_up()
    _require_memory(config)
    policy.answer_orphan()
    gc.collect()
    gc.freeze()
    gc.disable()
    emit("ready", warm_up_ns=durations, resident_mb=resident_mb(), not_pinned=not_pinned)
    _serve_until_parent_ends(policy, config.kick_fd)
    return 0


def _serve_until_parent_ends(policy: Policy, kick_fd: int) -> None:
    poll = select.poll()
    poll.register(kick_fd, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        ready: dict[int, Any] = dict(poll.poll())
        if kick_fd in ready:
            os.eventfd_read(kick_fd)
            policy.serve()
        if 0 in ready and not os.read(0, 64):
            return


if __name__ == "__main__":
    sys.exit(guarded(main))
