"""What this host gives the prediction: operators, shares of its peaks, and what its own prediction is worth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.predict.ceilings import Ceilings
from bench.predict.interval import Interval, predict, shares
from bench.roofline.classes import BETWEEN, Operator
from bench.roofline.run import each_chunk, roofline
from edgevla.bundle.reader import Bundle
from edgevla.policy.engine import PolicyEngine

SOUND = 0.9  # of a core, below which what is measured here says more of other programs


@dataclass(frozen=True)
class Here:
    """`measured_ms`: p50 of the graphs of a chunk in the policy engine, half before the profile and half after."""

    operators: tuple[Operator, ...]
    shares: dict[str, float]
    own: Interval
    measured_ms: float
    samples: int
    cpu_share: float  # of a core, while it was measured: little on a machine that does other work

    def validation(self) -> dict[str, Any]:
        """Whether the method holds where it can be checked: it says that times add up, nothing of another machine."""
        return {
            "prediction": {"low_ms": self.own.low_ms, "high_ms": self.own.high_ms, "prediction_not_measurement": True},
            "measured_p50_ms": self.measured_ms,
            "samples": self.samples,
            "inside": self.own.holds(self.measured_ms),
            "cpu_share": round(self.cpu_share, 3),
            "sound": self.cpu_share >= SOUND,
        }


def look(bundle: Bundle, rounds: int) -> Here:
    """Profiles the bundle, and measures the same graphs as a robot runs them. One thread, some seconds."""
    before, share_before = engine_ms(bundle, rounds // 2)
    found = roofline(bundle, rounds=rounds)
    after, share_after = engine_ms(bundle, rounds - rounds // 2)
    times = np.concatenate([before, after])
    operators = tuple(operator for graph in found.graphs for operator in graph.operators)
    between_us = next(row.ms for row in found.rows if row.name == BETWEEN) * 1e3 / len(operators)
    launch_us = max(2.0, between_us)
    peaks = found.peaks
    ceilings = Ceilings("this host, one core", peaks.u8s8_gops, peaks.fp32_gops, peaks.copy_gbs, 1.0, launch_us, 1.0, (
        "peaks of one thread, measured in the same run: large products in U8S8 and FP32, a large copy",
        f"{launch_us:.1f} us between operators (2 assumed, or as measured here, the larger)",
    ))  # fmt: skip
    here = shares(found.rows)
    own = predict(operators, here, ceilings)
    return Here(operators, here, own, float(np.median(times)), times.size, min(share_before, share_after))


def engine_ms(bundle: Bundle, rounds: int) -> tuple[Any, float]:
    """ms of the graphs of a chunk, call by call, on golden inputs; and the share of a core that the calls got."""
    engine, golden = PolicyEngine(bundle), next(iter(bundle.golden.values()))
    engine.set_instruction(golden.instruction)
    names = [stage.name for stage in each_chunk(bundle.manifest.stages)]
    times, begun_s, cpu_s = [], time.monotonic(), time.process_time()
    for index in range(rounds + 10):
        engine.infer(golden.images, golden.state, golden.prefix)
        if index >= 10:
            times.append(sum(engine.stage_ns[name] for name in names) / 1e6)
    return np.asarray(times), (time.process_time() - cpu_s) / (time.monotonic() - begun_s)
