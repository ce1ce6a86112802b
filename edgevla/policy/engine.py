"""The policy at run time: three ONNX graphs, NumPy around them, nothing else.

Stages: `text` once per instruction, `vision` and `head` once per chunk. The graphs, the fixed noise z, the statistics
and the words all come from the bundle.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.bundle.reader import Bundle
from edgevla.errors import BadInput, DeviceFault, explain
from edgevla.policy.preprocess import Float32, image_tensor, prefix_tensors, state_tensor
from edgevla.policy.setpoints import integrate
from edgevla.policy.tokens import Vocabulary

_PROVIDER = "CPUExecutionProvider"


class _Session(Protocol):
    def run(self, outputs: list[str] | None, feeds: dict[str, Any]) -> list[Any]: ...


class PolicyEngine:
    """Observation in, action chunk out.

    Args:
        bundle: an opened (verified) bundle.
        threads: of ONNX Runtime, within one operator.
        float_model: run the FP32 graphs that the bundle carries for comparison instead of its artifact.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, float_model: bool = False) -> None:
        manifest = bundle.manifest
        self._timing, self._camera = manifest.timing, manifest.camera
        self._sessions = {
            name: open_session(bundle.model(name, float_model), name, threads) for name in ("text", "vision", "head")
        }
        self._vocabulary = Vocabulary(bundle.vocabulary.tokens, bundle.vocabulary.max_tokens)
        self._noise = bundle.noise[None]
        self._mean, self._std = bundle.stats.state_mean, bundle.stats.state_std
        self._delta = np.array([channel.kind == "delta" for channel in manifest.channels])
        self._scale = bundle.stats.action_scale
        self._low = np.array([channel.minimum for channel in manifest.channels], np.float32)
        self._high = np.array([channel.maximum for channel in manifest.channels], np.float32)
        _refuse_velocity(bundle)
        self._text: Float32 | None = None
        self.stage_ns: dict[str, int] = {}

    def set_instruction(self, text: str) -> None:
        """Encodes an instruction; later inferences act on it.

        Raises:
            BadInput: a word outside the vocabulary.
        """
        tokens = self._vocabulary.encode(text)[None]
        self._text = self._run("text", tokens=tokens)

    def infer(self, image: npt.NDArray[np.uint8], state: Float32, prefix: Float32) -> Float32:
        """One chunk float32 (H, A) in normalised action units; its first d rows are the prefix.

        Args:
            image: RGB uint8 (h, w, 3), as the camera gave it.
            state: float32 (S,) in the units of the manifest.
            prefix: float32 (d, A), the actions already committed, normalised.

        Raises:
            BadInput: no instruction set, an input of the wrong size or not finite, or a graph that fails.
            DeviceFault: the graph answered something that is not finite.
        """
        if self._text is None:
            raise BadInput(explain("no instruction", "set_instruction() first", "none", "give --instruction"))
        started = time.monotonic_ns()
        pixels = image_tensor(image, self._camera.height, self._camera.width)
        body = state_tensor(state, self._mean, self._std)
        rows, mask = prefix_tensors(prefix, self._timing.horizon, self._timing.d_max)
        self.stage_ns["preprocess"] = time.monotonic_ns() - started
        vision = self._run("vision", image=pixels)
        chunk = self._run(
            "head",
            vision=vision,
            text=self._text,
            state=body,
            noise=self._noise,
            prefix=rows,
            prefix_mask=mask,
        )[0]
        if not np.isfinite(chunk).all():
            raise DeviceFault(
                explain("policy output", "finite actions", "NaN or infinity", "stop and check the bundle")
            )
        return chunk

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Absolute set-points (H, A) of a chunk (H, A).

        `anchor` (A,) is the set-point commanded at tick k + d - 1; see `edgevla.policy.setpoints.integrate`.
        """
        return integrate(chunk * self._scale, anchor, d, self._delta, self._low, self._high)

    def stages(self) -> dict[str, _Session]:
        """The sessions by stage, for parity and profiling."""
        return dict(self._sessions)

    def _run(self, stage: str, **feeds: Any) -> Any:
        started = time.monotonic_ns()
        try:
            output = self._sessions[stage].run(None, feeds)[0]
        except Exception as error:  # what ONNX Runtime raises has no base class of its own
            got = f"{type(error).__name__}: {str(error)[:200]}"
            todo = "see `edgevla bundle verify`, and export the bundle again"
            raise BadInput(explain(f"stage {stage}", "a graph that answers", got, todo)) from error
        self.stage_ns[stage] = time.monotonic_ns() - started
        return output


def open_session(graph: bytes, name: str, threads: int = 1) -> _Session:
    """An ONNX Runtime session of one graph on the CPU.

    Raises:
        BadInput: ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    try:
        session: _Session = onnxruntime.InferenceSession(graph, options, providers=[_PROVIDER])
    except Exception as error:
        raise BadInput(
            explain(
                f"stage {name}",
                "a graph that ONNX Runtime loads",
                str(error)[:300],
                "export the bundle again",
            )
        ) from error
    return session


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
