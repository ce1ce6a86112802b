"""The roofline of a bundle: its stages of one chunk, profiled, against peaks measured before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.roofline.classes import Operator, Peaks, Row, rows, total
from bench.roofline.peaks import measure_peaks
from bench.roofline.profile import profile, recorder_cost_us
from edgevla.bundle.reader import Bundle
from edgevla.policy.engine import open_session
from edgevla.policy.preprocess import image_tensor, prefix_tensors, state_tensor
from edgevla.policy.tokens import Vocabulary
from edgevla.telemetry.host import describe_host

ROUNDS = 300
STAGES = ("vision", "head")  # of each chunk; `text` runs once per instruction
DELAY = 2  # ticks of prefix


@dataclass(frozen=True)
class Roofline:
    """One thread, one run."""

    rows: tuple[Row, ...]
    peaks: Peaks
    wall_ms: float
    float_model: bool
    rounds: int
    recorder_us: float  # what the profiler adds to each operator; taken off

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": [row.as_dict() for row in self.rows],
            "total": dict(total(self.rows)),
            "peaks": asdict(self.peaks),
            "wall_ms": self.wall_ms,
            "float_model": self.float_model,
            "rounds": self.rounds,
            "recorder_us": self.recorder_us,
            "threads": 1,
            "host": describe_host(),
        }


def roofline(bundle: Bundle, float_model: bool = False, rounds: int = ROUNDS) -> Roofline:
    """Profiles what the bundle runs for each chunk; peaks are the better of those before and after."""
    before, cost_us = measure_peaks(), recorder_cost_us()
    feeds, found, wall_ms = _feeds(bundle, float_model), list[Operator](), 0.0
    for stage in STAGES:
        one_pass = profile(bundle.model(stage, float_model), feeds[stage], rounds, cost_us)
        found += one_pass.operators
        wall_ms += one_pass.wall_ms
    peaks = _better(before, measure_peaks())
    return Roofline(tuple(rows(found, wall_ms, peaks)), peaks, wall_ms, float_model, rounds, cost_us)


def _better(a: Peaks, b: Peaks) -> Peaks:
    return Peaks(*(max(pair) for pair in zip(asdict(a).values(), asdict(b).values(), strict=True)))


def _feeds(bundle: Bundle, float_model: bool) -> dict[str, dict[str, Any]]:
    """What the stages are fed for the first golden vector."""
    golden, manifest = next(iter(bundle.golden.values())), bundle.manifest
    words = Vocabulary(bundle.vocabulary.tokens, bundle.vocabulary.max_tokens).encode(golden.instruction)[None]
    image = {"image": image_tensor(golden.image, manifest.camera.height, manifest.camera.width)}
    text, vision = (
        open_session(bundle.model(stage, float_model), stage).run(None, feeds)[0]
        for stage, feeds in (("text", {"tokens": words}), ("vision", image))
    )
    prefix = np.zeros((DELAY, len(manifest.channels)), np.float32)
    rows_, mask = prefix_tensors(prefix, manifest.timing.horizon, manifest.timing.d_max)
    state = state_tensor(golden.state, bundle.stats.state_mean, bundle.stats.state_std)
    head = {"vision": vision, "text": text, "state": state, "noise": bundle.noise[None]}
    return {"vision": image, "head": {**head, "prefix": rows_, "prefix_mask": mask}}
