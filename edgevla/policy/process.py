"""The policy process: blocked until the servo asks, one inference at a time, an answer for every request.

    python -m edgevla.policy.process     (started by `edgevla.control.run`, configured by one line on stdin)

It never touches the arm. A request that finds its inputs too old, or whose inference fails, is answered with
the reason: the servo counts a release miss and asks again. A new instruction is prepared between two requests.
Events: ready, instruction, instruction-failed, inputs, inference-failed (once), error.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.control.config import PolicyConfig, policy_config
from edgevla.control.exchange import Reply, Request, Status, pack_reply, unpack_reply, unpack_request, unpack_words
from edgevla.control.realtime import pin
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, explain
from edgevla.flight.tape import Observation, Seen, pack_observation
from edgevla.policy.blend import setpoints_to_release
from edgevla.policy.providers import RunsOn, require_used
from edgevla.sensors.assemble import CameraLimit, Limits, judge
from edgevla.sensors.camera import CameraSlot, Frame, at_or_before
from edgevla.telemetry.rows import GRAPHS, Rows, inference_dtype

Float32 = NDArray[np.float32]
Images = Mapping[str, NDArray[np.uint8]]

BUNDLE_ENGINE = "edgevla.policy.process:bundle_engine"
WARM_UPS = 10  # inferences before the first that counts: allocations, caches, CPU frequency


class Engine(Protocol):
    """What the process needs of a policy (edgevla.policy.engine.PolicyEngine has it)."""

    def set_instruction(self, text: str) -> None:
        """Raises BadInput on words outside the vocabulary."""

    def forget(self) -> None:
        """What was observed before counts no more."""

    def observe(self, images: Images, state: Float32) -> None:
        """An observation of an earlier tick, oldest first."""

    def infer(self, images: Images, state: Float32, prefix: Float32) -> Float32:
        """Images uint8 (h, w, 3) by camera, state (s,), prefix (d, n) normalised -> chunk (H, n) normalised."""

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Chunk (H, n) -> absolute set-points (H, n), from `anchor`, the set-point at k + d - 1."""

    def node_providers(self) -> dict[str, dict[str, int]]:
        """Nodes by the provider that ran them, by stage. Asked once, after the first inference."""


def bundle_engine(config: PolicyConfig) -> Engine:
    """The engine of a bundle on disk, every file verified."""
    from edgevla.bundle.reader import open_bundle
    from edgevla.policy.engine import PolicyEngine

    bundle = open_bundle(config.bundle)
    runs_on = RunsOn(config.providers, config.provider_options, config.spinning, config.engines)
    engine: Engine = PolicyEngine(bundle, threads=config.threads, runs_on=runs_on, read_back=True)
    return engine


def load_factory(dotted: str) -> Callable[[PolicyConfig], Engine]:
    """The engine factory of that name, "module:function"."""
    module, _, function = dotted.partition(":")
    factory: Callable[[PolicyConfig], Engine] = getattr(importlib.import_module(module), function)
    return factory


@dataclass(frozen=True)
class _Answered:
    """What came of one request."""

    status: Status
    setpoints: Float32
    chunk: Float32 | None = None
    text: str = ""  # why not, for people


class Policy:
    """One engine between the request slot and the reply slot."""

    def __init__(self, config: PolicyConfig, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._requests, self._replies = Slots.attach(config.request_fd), Slots.attach(config.reply_fd)
        self._words = Slots.attach(config.words_fd)
        self._cameras = {camera.name: CameraSlot.attach(camera.fd) for camera in config.cameras}
        self._limits = Limits(
            {camera.name: CameraLimit(camera.max_age_s, camera.when_missing) for camera in config.cameras},
            config.max_state_age_s,
            config.max_skew_s,
        )
        self._rows = Rows(config.rows_fd, inference_dtype())
        self._tape = Slots.attach(config.tape_fd) if config.tape_fd >= 0 else None
        self._answered = 0  # sequence of the newest request that has its answer
        self._heard = 0  # sequence of the newest words
        self._epoch = config.instruction_epoch
        self._acted_on = -1  # epoch of the last inference
        self._said_failed = False
        self._unfit = ""  # what the inputs were last found to lack
        self._timed: tuple[int, int] = (0, 0)  # when the engine was called and when it answered, ns
        self._nothing: Float32 = np.zeros((config.horizon, config.channels), np.float32)

    # --- start ----------------------------------------------------------------------------------------------

    def first_frames(self) -> Images:
        """A frame of every camera that must be there. Raises DeviceFault when none comes, BadInput on a wrong size."""
        patience_s, images = self._config.first_frame_s, {}
        until = time.monotonic() + patience_s
        for camera in self._config.cameras:
            while (frame := self._cameras[camera.name].latest()) is None and camera.when_missing == "refuse":
                if time.monotonic() > until:
                    got, todo = "none", "check that the camera is connected and its process runs"
                    what = f"the camera {camera.name} is silent"
                    raise DeviceFault(explain(what, f"a frame within {patience_s:g} s", got, todo))
                time.sleep(0.01)
            if frame is None:
                continue
            expected = (camera.height, camera.width, 3)
            if frame.image.shape != expected:
                what, todo = f"the image of camera {camera.name} has a wrong size", "set it to the bundle's resolution"
                raise BadInput(explain(what, f"{expected} (height, width, RGB)", frame.image.shape, todo))
            images[camera.name] = frame.image
        return images

    def warm_up(self) -> tuple[list[int], dict[str, dict[str, int]]]:
        """Run the whole path on real frames: durations in ns, first to last, and which provider ran the nodes."""
        config, images, durations = self._config, self.first_frames(), []
        state = np.zeros(config.states, np.float32)
        prefix = np.zeros((config.delay, config.channels), np.float32)
        commanded = np.zeros((config.delay + 1, config.channels), np.float32)
        providers: dict[str, dict[str, int]] = {}
        for run in range(WARM_UPS):
            begun_ns = time.monotonic_ns()
            self._chunk(images, state, prefix, commanded)
            durations.append(time.monotonic_ns() - begun_ns)
            if run == 0:
                providers = self._engine.node_providers()
        self._engine.forget()
        return durations, providers

    def answer_orphan(self) -> None:
        """After a restart: the request that the last process left unanswered ends here, without a chunk."""
        request, reply = self._requests.read(), self._replies.read()
        if request is None:
            return
        self._answered = request[0]
        tick = unpack_request(request[1]).tick
        if reply is None or unpack_reply(reply[1]).tick != tick:
            self._reply(Reply(tick, time.monotonic_ns(), Status.RESTARTED, self._nothing))

    # --- one request ----------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Prepare the newest words; the old ones stay when the policy cannot hear them."""
        found = self._words.read(after=self._heard)
        if found is None:
            return
        self._heard = found[0]
        epoch, text = unpack_words(found[1])
        if epoch == self._epoch:
            return
        begun_ns = time.monotonic_ns()
        try:
            self._engine.set_instruction(text)
        except EdgevlaError as error:
            emit("instruction-failed", epoch=epoch, text=text, message=str(error))
            return
        self._epoch = epoch
        emit("instruction", epoch=epoch, text=text, took_ns=time.monotonic_ns() - begun_ns)

    def serve(self) -> None:
        """Answer the newest request, if it is a new one."""
        found = self._requests.read(after=self._answered)
        if found is None:
            self.listen()
            return
        self._answered = found[0]
        request = unpack_request(found[1])
        if request.instruction != self._epoch:
            self.listen()
        frames = {name: slot.latest() for name, slot in self._cameras.items()}
        begun_ns = time.monotonic_ns()  # after the frames: none is of the future
        cleared = request.first or self._epoch != self._acted_on
        answered, used = self._judge_and_infer(request, frames, begun_ns, cleared)
        done_ns = time.monotonic_ns()
        self._reply(Reply(request.tick, done_ns, answered.status, answered.setpoints, self._epoch))
        self._record(request, frames, used, answered, begun_ns, done_ns, cleared)
        self.listen()

    def _judge_and_infer(
        self, request: Request, frames: Mapping[str, Frame | None], now_ns: int, cleared: bool
    ) -> tuple[_Answered, list[dict[str, Frame]]]:
        """Are the inputs young enough and of one moment? Then infer. Also the frames used, oldest tick first."""
        stamps = {name: None if frame is None else frame.stamp_ns for name, frame in frames.items()}
        verdict = judge(stamps, request.state_stamp_ns, now_ns, self._limits)
        status = Status[verdict.status.name]
        if verdict.text != self._unfit and (verdict.text == "") != (self._unfit == ""):
            emit("inputs", tick=request.tick, status=status.name, text=verdict.text)
        self._unfit = verdict.text
        shown = {name: frame for name, frame in frames.items() if frame is not None and name not in verdict.blanks}
        used = [shown] if cleared else self._past(request, shown)
        if cleared or self._config.observations > 1:
            self._engine.forget()
        if status is not Status.OK:
            return _Answered(status, self._nothing, text=verdict.text), [shown]
        return self._infer(request, used), used

    def _past(self, request: Request, shown: dict[str, Frame]) -> list[dict[str, Frame]]:
        """Frames of the ticks k - T + 1 .. k: of each tick the newest taken by then."""
        if self._config.observations == 1:
            return [shown]
        kept = {name: self._cameras[name].history() for name in shown}
        rows = []
        for back in range(self._config.observations - 1, 0, -1):
            time_ns = request.asked_ns - round(back * self._config.period_s * 1e9)
            found = {name: at_or_before(frames, time_ns) for name, frames in kept.items()}
            rows.append({name: frame for name, frame in found.items() if frame is not None})
        return [*rows, shown]

    def _infer(self, request: Request, seen: list[dict[str, Frame]]) -> _Answered:
        images = [{name: frame.image for name, frame in row.items()} for row in seen]
        try:
            for image, state in zip(images[:-1], request.state[-len(images) : -1], strict=True):
                self._engine.observe(image, state)
            chunk, setpoints = self._chunk(images[-1], request.state[-1], request.prefix, request.commanded)
            self._acted_on = self._epoch
        except Exception as error:  # whatever the engine raises costs one chunk, never the process
            if not self._said_failed:
                self._said_failed = True
                emit("inference-failed", message=f"{type(error).__name__}: {error}")
            return _Answered(Status.FAILED, self._nothing, text=str(error))
        if setpoints.shape != self._nothing.shape or not np.isfinite(setpoints).all():
            return _Answered(Status.NOT_FINITE, self._nothing, chunk)
        return _Answered(Status.OK, setpoints, chunk)

    def _chunk(self, images: Images, state: Float32, prefix: Float32, commanded: Float32) -> tuple[Float32, Float32]:
        """Chunk and set-points; a policy that is given no prefix has its seam blended."""
        blend = self._config.blend_ticks
        called_ns = time.monotonic_ns()
        chunk = self._engine.infer(images, state, prefix if blend is None else prefix[:0])
        self._timed = called_ns, time.monotonic_ns()
        return chunk, setpoints_to_release(self._engine, chunk, commanded, blend)

    def _parts(self, begun_ns: int, done_ns: int) -> tuple[int, int, NDArray[np.int64]]:
        """preprocess_ns, postprocess_ns, graph_ns of the inference that has just ended: together all of it."""
        called_ns, answered_ns = self._timed
        names = tuple(getattr(self._engine, "graphs", ()))
        before_ns, graphs = graph_times(getattr(self._engine, "stage_ns", {}), names, answered_ns - called_ns)
        preprocess_ns = called_ns - begun_ns + before_ns
        return preprocess_ns, done_ns - begun_ns - preprocess_ns - int(graphs.sum()), graphs

    def _reply(self, reply: Reply) -> None:
        self._replies.write(pack_reply(reply))

    def _record(
        self,
        request: Request,
        frames: Mapping[str, Frame | None],
        used: list[dict[str, Frame]],
        answered: _Answered,
        begun_ns: int,
        done_ns: int,
        cleared: bool,
    ) -> None:
        """A row for the figures, an entry on the tape; after the reply has gone out."""
        ages = [begun_ns - frame.stamp_ns for frame in frames.values() if frame is not None]
        age_ns = max(ages, default=-1)
        state_age_ns = begun_ns - request.state_stamp_ns if request.state_stamp_ns else -1
        times = (request.tick, request.asked_ns, done_ns, age_ns, state_age_ns, done_ns - begun_ns)
        parts = self._parts(begun_ns, done_ns) if answered.chunk is not None else (0, 0, np.zeros(GRAPHS, np.int64))
        self._rows.append((*times, answered.status, self._epoch, *parts))
        if self._tape is None:
            return
        entry = Observation(
            tick=request.tick,
            asked_ns=request.asked_ns,
            begun_ns=begun_ns,
            done_ns=done_ns,
            status=answered.status,
            instruction=self._epoch,
            cleared=cleared,
            state_stamp_ns=request.state_stamp_ns,
            state=request.state[-len(used) :].reshape(-1),
            prefix=request.prefix,
            commanded=request.commanded,
            frames=_named(used),
            chunk=answered.chunk,
            setpoints=answered.setpoints,
        )
        self._tape.write(pack_observation(entry))


def graph_times(stage_ns: Mapping[str, int], graphs: tuple[str, ...], engine_ns: int) -> tuple[int, NDArray[np.int64]]:
    """(ns before the first graph, ns (GRAPHS,) of each graph) of an engine call that took `engine_ns`.

    An engine that names no graphs is one graph. Those that have no place share the last one.
    """
    times = np.zeros(GRAPHS, np.int64)
    if not graphs:
        times[0] = engine_ns
        return 0, times
    for place, name in enumerate(graphs):
        times[min(place, GRAPHS - 1)] += stage_ns[name]
    return stage_ns["preprocess"], times


def _named(used: list[dict[str, Frame]]) -> dict[str, Seen]:
    """Frames by camera, those of j ticks before as `camera@-j`."""
    named = {}
    for back, row in zip(range(len(used) - 1, -1, -1), used, strict=True):
        for name, frame in row.items():
            key = f"{name}@-{back}" if back else name
            named[key] = Seen(frame.stamp_ns, frame.sequence, frame.image)
    return named


def resident_mb() -> float:
    """Largest resident size of this program so far, MB.

    VmHWM, not ru_maxrss: the kernel hands the latter down through fork and exec, so that it tells of whoever
    started this process too.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Unsound(explain("the memory of the policy", "a line VmHWM in /proc/self/status", "none", "mount /proc"))


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
    imported_ns, imported_cpu_ns = time.monotonic_ns(), time.process_time_ns()
    config = policy_config(read_line(0))
    adopt(config.parent_pid, signal.SIGKILL)
    not_pinned = pin(config.core)
    engine = load_factory(config.engine)(config)
    loaded_ns = time.monotonic_ns()
    engine.set_instruction(config.instruction)
    heard_ns = time.monotonic_ns()
    policy = Policy(config, engine)
    durations, providers = policy.warm_up()
    require_used(providers, config.providers)
    _require_memory(config)
    policy.answer_orphan()
    gc.collect()
    gc.freeze()
    gc.disable()
    start = {"imported": imported_ns, "loaded": loaded_ns, "heard": heard_ns, "warm": time.monotonic_ns()}
    told = {"warm_up_ns": durations, "resident_mb": resident_mb(), "not_pinned": not_pinned, "providers": providers}
    emit("ready", **told, start_ns=start, cpu_ns={"imported": imported_cpu_ns, "warm": time.process_time_ns()})
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
