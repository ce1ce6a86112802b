"""The policy at run time: the ONNX graphs of a bundle, NumPy around them, nothing else.

The stages run in the order of the manifest, each fed by name (`edgevla.bundle.wiring`); those that depend on words
alone run once per instruction. The graphs, the fixed noise z, the statistics and the words all come from the bundle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgevla.bundle.manifest import Stage
from edgevla.bundle.reader import Bundle
from edgevla.bundle.wiring import NEXT, once_per_instruction, remembered
from edgevla.errors import BadInput, DeviceFault, explain
from edgevla.policy.preprocess import Float32, Images, pictures, prefix_tensors, state_tensor
from edgevla.policy.providers import ON_CPU, RunsOn
from edgevla.policy.session import Session, open_session, read_back
from edgevla.policy.setpoints import integrate
from edgevla.policy.words import encoder_of

Tensors = dict[str, Any]


class PolicyEngine:
    """Observation in, action chunk out.

    Args:
        bundle: an opened (verified) bundle.
        threads: of ONNX Runtime, within one operator.
        runs_on: providers of ONNX Runtime, in order, with their options.
        read_back: profile until `node_providers` is asked, so that it can say where every node ran.
        float_model: run the FP32 graphs that the bundle carries for comparison instead of its artifact.

    Raises:
        BadInput: a graph or the tokenizer cannot be loaded, or there are no FP32 graphs.
        Refused: a provider is missing or did not load, or TensorRT would have to build an engine.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        float_model: bool = False,
        runs_on: RunsOn = ON_CPU,
        read_back: bool = False,
    ) -> None:
        manifest = bundle.manifest
        self._timing, self._cameras = manifest.timing, manifest.cameras
        self._stages = manifest.float_stages if float_model else manifest.stages
        if not self._stages:
            raise BadInput(explain("FP32 graphs", "float/ in the bundle", "none", "export it with them"))
        self._sessions = {
            s.name: open_session(
                bundle.model(s.name, float_model), s.name, threads, runs_on=runs_on, profiled=read_back
            )
            for s in self._stages
        }
        self._once = once_per_instruction(self._stages)
        self._each = tuple(stage for stage in self._stages if stage not in self._once)
        self.graphs = tuple(stage.name for stage in self._each)  # that each inference runs, in order
        self._encode_words = encoder_of(bundle)
        self._noise = None if bundle.noise is None else bundle.noise[None]
        stats = bundle.stats
        self._state_offset, self._state_scale = stats.state_offset, stats.state_scale
        self._delta = np.array([channel.kind == "delta" for channel in manifest.channels])
        self._offset, self._scale = stats.action_offset, stats.action_scale
        self._low = np.array([channel.minimum for channel in manifest.channels], np.float32)
        self._high = np.array([channel.maximum for channel in manifest.channels], np.float32)
        _refuse_velocity(bundle)
        self._words: Tensors | None = None
        self._past: deque[tuple[Float32, Float32, Float32]] = deque(maxlen=manifest.observations)
        blank = {name: np.zeros(shape, dtype) for name, (dtype, shape) in remembered(self._stages).items()}
        self._blank: Tensors = blank
        self._memory: Tensors = blank
        self.stage_ns: dict[str, int] = {}

    def set_instruction(self, text: str) -> None:
        """Encodes an instruction; later inferences act on it. Earlier observations are forgotten.

        Raises:
            BadInput: words that the policy cannot hear.
        """
        tokens, mask = self._encode_words(text)
        values: Tensors = {"tokens": tokens[None], "token_mask": mask[None]}
        for stage in self._once:
            self._run(stage, values)
        self._words = values
        self.forget()

    def observe(self, images: Images, state: Float32) -> None:
        """An observation of an earlier tick, oldest first, for a policy of more than one: see `infer`."""
        self._observed(images, state)

    def forget(self) -> None:
        """What was observed before counts no more."""
        self._past.clear()
        self._memory = self._blank

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the inferences before it, not on observations alone."""
        return bool(self._blank)

    def node_providers(self) -> dict[str, dict[str, int]]:
        """Nodes by the provider that really ran them, by stage: of the inferences since the start.

        Only of an engine made with `read_back`, once.
        """
        return {name: read_back(session) for name, session in self._sessions.items()}

    def infer(self, images: Images, state: Float32, prefix: Float32) -> Float32:
        """One chunk float32 (H, A) in normalised action units; its first d rows are the prefix.

        Args:
            images: RGB uint8 (h, w, 3) as the camera gave it; of several cameras, by name.
            state: float32 (S,) in the units of the manifest.
            prefix: float32 (d, A), the actions already committed, normalised.

        Raises:
            BadInput: no instruction set, an input of the wrong size or not finite, or a graph that fails.
            DeviceFault: the graph answered something that is not finite.
        """
        chunk: Float32 = self.trace(images, state, prefix)["chunk"][0]
        return chunk

    def trace(self, images: Images, state: Float32, prefix: Float32) -> Tensors:
        """Everything `infer` computes, by name: raw inputs, what every stage answered, `chunk` (1, H, A)."""
        if self._words is None:
            raise BadInput(explain("no instruction", "set_instruction() first", "none", "give --instruction"))
        started = time.monotonic_ns()
        values = {**self._words, **self._memory, **self._observed(images, state)}
        rows, mask = prefix_tensors(prefix, self._timing.horizon, self._timing.d_max)
        values |= {"prefix": rows, "prefix_mask": mask, "noise": self._noise}
        self.stage_ns["preprocess"] = time.monotonic_ns() - started
        for stage in self._each:
            self._run(stage, values)
        chunk = np.ascontiguousarray(values["chunk"][..., : len(self._scale)])
        if not np.isfinite(chunk).all():
            got, todo = "NaN or infinity", "stop and check the bundle"
            raise DeviceFault(explain("policy output", "finite actions", got, todo))
        memory = {name: values[name + NEXT] for name in self._blank}
        for name, kept in memory.items():  # behind a choice the chunk is finite whatever led to it
            if not np.isfinite(kept).all():
                raise DeviceFault(
                    explain(f"memory {name} of the policy", "finite", "NaN or infinity", "check the bundle")
                )
        self._memory = memory
        return {**values, "chunk": chunk}

    def finish(self, values: Mapping[str, Any], done: int) -> Float32:
        """The chunk (H, A) from a trace, of this machine or another: all but the first `done` stages run here."""
        known = dict(values)
        for stage in self._stages[done:]:
            self._run(stage, known)
        chunk: Float32 = known["chunk"][0, :, : len(self._scale)]
        return chunk

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Absolute set-points (H, A) of a chunk (H, A).

        `anchor` (A,) is the set-point commanded at tick k + d - 1; see `edgevla.policy.setpoints.integrate`.
        """
        return integrate(chunk * self._scale + self._offset, anchor, d, self._delta, self._low, self._high)

    def stages(self) -> dict[str, Session]:
        """The sessions by stage, for parity and profiling."""
        return dict(self._sessions)

    def _observed(self, images: Images, state: Float32) -> Tensors:
        """This observation behind those before it; the first one stands for all that came before."""
        pixels, present = pictures(images, self._cameras)
        seen = (pixels, present, state_tensor(state, self._state_offset, self._state_scale)[0])
        self._past.extend([seen] * (1 if self._past else self._past.maxlen or 1))
        if len(self._past) == 1:
            return {"image": pixels[None], "camera_mask": present[None], "state": seen[2][None]}
        image, mask, body = (np.concatenate(column) for column in zip(*self._past, strict=True))
        return {"image": image[None], "camera_mask": mask[None], "state": body[None]}

    def _run(self, stage: Stage, values: Tensors) -> None:
        """Runs a stage, once or once per flow time, and adds its outputs to the values."""
        started = time.monotonic_ns()
        feeds = {tensor.name: values.get(tensor.name) for tensor in stage.inputs}
        try:
            if stage.times:
                values["chunk"] = self._flow(stage, feeds)
            else:
                answers = self._sessions[stage.name].run(None, feeds)
                values |= zip((tensor.name for tensor in stage.outputs), answers, strict=True)
        except Exception as error:  # what ONNX Runtime raises has no base class of its own
            got = f"{type(error).__name__}: {str(error)[:200]}"
            todo = "see `edgevla bundle verify`, and export the bundle again"
            raise BadInput(explain(f"stage {stage.name}", "a graph that answers", got, todo)) from error
        self.stage_ns[stage.name] = time.monotonic_ns() - started

    def _flow(self, stage: Stage, feeds: Mapping[str, Any]) -> Any:
        x = self._noise
        for t in stage.times:
            step = {**feeds, "noisy": x, "t": np.array([t], np.float32)}
            x = self._sessions[stage.name].run(None, step)[0]
        return x


def _refuse_velocity(bundle: Bundle) -> None:
    bad = [channel.name for channel in bundle.manifest.channels if channel.kind == "velocity"]
    if bad:
        raise BadInput(
            explain(
                "action channels",
                "delta or absolute",
                f"velocity: {', '.join(bad)}",
                "export as delta per tick",
            )
        )
