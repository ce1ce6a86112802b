"""What this machine answers to the golden vectors, and how far from another's: per stage, in action units.

    python -m edgevla.bundle.answers BUNDLE ANSWERS.npz

Every value counts from raw camera bytes and raw state on: `preprocess` is the first stage, NumPy alone.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle.arrays import Array, load_npz, npz_bytes
from edgevla.bundle.manifest import Manifest
from edgevla.bundle.parts import Golden, sampled
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.errors import EdgevlaError
from edgevla.policy.engine import PolicyEngine

PREPROCESS = "preprocess"
_ENVIRONMENT = "environment"


@dataclass(frozen=True)
class StageError:
    """How far one stage is from what was expected, at most."""

    stage: str
    output: str
    error: float  # in the units of the output
    largest: float  # of the expected output, absolute

    def diverges(self, tolerance: float) -> bool:
        """Beyond `tolerance` of the output's own size; NaN always."""
        return not self.error <= tolerance * max(self.largest, 1.0)


def answers_of(engine: PolicyEngine, golden: Golden) -> dict[str, Array]:
    """Every value by name, as `PolicyEngine.trace` gives them."""
    engine.set_instruction(golden.instruction)
    values = engine.trace(golden.images, golden.state, golden.prefix)
    return {name: np.asarray(value) for name, value in values.items() if value is not None}


def against_recorded(golden: Golden, answers: Mapping[str, Array], manifest: Manifest) -> list[StageError]:
    """Errors of every stage against the golden vector, in the order they run."""
    errors = []
    for stage in manifest.stages:
        for tensor in stage.outputs:
            expected = golden.outputs[f"{stage.name}.{tensor.name}"]
            got = answers[tensor.name]
            # The chunk of a trace holds the actions alone; the recorded output of its stage may hold padding too.
            pair = (golden.chunk, got[0]) if tensor.name == "chunk" else (expected, sampled(got))
            errors.append(_error(stage.name, tensor.name, *pair))
    return errors


def between(expected: Mapping[str, Array], got: Mapping[str, Array], manifest: Manifest) -> list[StageError]:
    """Errors of every stage of one machine against another's, preprocessing first."""
    made = [(stage.name, tensor.name) for stage in manifest.stages for tensor in stage.outputs]
    raw = [(PREPROCESS, name) for name in sorted(set(expected) - {name for _, name in made})]
    return [_error(stage, name, expected[name], got[name]) for stage, name in [*raw, *made]]


def first_divergence(errors: list[StageError], tolerance: float) -> StageError | None:
    """The first stage beyond the tolerance: where to look."""
    return next((error for error in errors if error.diverges(tolerance)), None)


def worst_channel(error: Array, manifest: Manifest) -> tuple[float, str]:
    """The largest error of a chunk (H, A), normalised, told in the unit of its channel: 0.0012, "m on z"."""
    normalised = _largest_by_channel(error)
    channel = manifest.channels[int(normalised.argmax())]
    unit = "" if channel.unit == "1" else f"{channel.unit} "
    return float(normalised.max() * channel.scale), f"{unit}on {channel.name}"


def errors_in_units(error: Array, manifest: Manifest) -> dict[str, float]:
    """The largest error of a normalised chunk (H, A) by channel, each in its own unit."""
    largest = _largest_by_channel(error)
    return {c.name: float(value * c.scale) for c, value in zip(manifest.channels, largest, strict=True)}


def _largest_by_channel(error: Array) -> Array:
    """(A,); NaN counts as infinite."""
    largest: Array = np.nan_to_num(np.abs(np.asarray(error, np.float64)), nan=np.inf, posinf=np.inf).max(axis=0)
    return largest


def _error(stage: str, output: str, expected: Array, got: Array) -> StageError:
    if expected.shape != got.shape:
        return StageError(stage, output, float("inf"), 0.0)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    if not a.size:
        return StageError(stage, output, 0.0, 0.0)
    return StageError(stage, output, float(np.abs(a - b).max()), float(np.abs(a).max()))


def environment() -> dict[str, str]:
    """What answered: architecture and versions."""
    import onnxruntime

    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def answer_all(bundle: Bundle) -> dict[str, dict[str, Array]]:
    """Answers by golden vector."""
    engine = PolicyEngine(bundle)
    return {name: answers_of(engine, golden) for name, golden in bundle.golden.items()}


def write_answers(path: Path, answers: Mapping[str, Mapping[str, Array]]) -> None:
    arrays = {f"{vector}|{name}": value for vector, values in answers.items() for name, value in values.items()}
    arrays[_ENVIRONMENT] = np.asarray(json.dumps(environment()))
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(npz_bytes(arrays))
    os.replace(part, path)


def read_answers(path: Path) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
    """Answers by golden vector, and the environment that gave them. Raises BadInput."""
    arrays = load_npz(path.read_bytes(), path.name)
    told = json.loads(str(arrays.pop(_ENVIRONMENT)))
    answers: dict[str, dict[str, Array]] = {}
    for key, value in arrays.items():
        vector, _, name = key.partition("|")
        answers.setdefault(vector, {})[name] = value
    return answers, told


def main(arguments: list[str]) -> int:
    """Answers of this machine into a file."""
    try:
        source, dest = arguments
        write_answers(Path(dest), answer_all(open_bundle(source)))
    except ValueError:
        print("usage: python -m edgevla.bundle.answers BUNDLE ANSWERS.npz", file=sys.stderr)
        return 2
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
