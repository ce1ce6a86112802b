"""A report of invented numbers, for its tests and for looking at the page; it says so itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.evidence.paired import Design, PairCounts, sequential_verdict

TASKS = ("drawer-open", "drawer-close", "window-open", "window-close", "button-press", "door-open")


def synthetic_report(rounds: int = 300, ticks: int = 14_000) -> dict[str, Any]:
    """Every part present, inline arrays only."""
    rng = np.random.default_rng(0)
    latencies = _latencies(rng, rounds)
    return {
        "title": "edgevla report (synthetic test data)",
        "synthetic": True,
        "host": {
            "cpu": "Test CPU",
            "cores_usable": 2,
            "flags": ["avx512_vnni"],
            "kernel": "0.0-test",
            "python": "3.11",
        },
        "models": {
            "teacher": _model(6_900_000, 13_800_000, 1_510_000_000, latencies["teacher_eager"]),
            "student_fp32": _model(3_420_000, 13_700_000, 212_000_000, latencies["student_fp32"]),
            "student_int8": _model(3_420_000, 3_610_000, 212_000_000, latencies["student_int8"]),
        },
        "success": {
            "pairs": 120,
            "teacher": 0.967,
            "student_fp32": 0.958,
            "student_int8": 0.95,
            "loss_upper95": 0.048,
            "halfway": 0.94,
            "blank_words": 0.51,
            "demos_only": 0.87,
            "without_z": 0.83,
        },
        "many": {"bundle": "many.bundle", "tasks": {"reach": True, "push": False}, "late_commands": 0},
        "loop": {
            "ticks": ticks,
            "late_commands": 0,
            "misses": 3,
            "release_misses": 2,
            "wake_p99_us": 180.0,
            "wake_p999_us": 900.0,
        },
        "steps_s": {
            "set-up": 41.0,
            "fetch demonstrations": 3.2,
            "distil": 452.0,
            "export and quantize": 31.0,
            "check": 64.0,
            "paired rollouts": 171.0,
            "closed loop": 58.0,
        },
        "total_s": 820.2,
        "figures": {
            "latencies_ns": {name: values.tolist() for name, values in latencies.items()},
            "latency_run": {"threads": 1, "rounds": rounds, "warmup": 10, "stolen_s": 0.21},
            "ratios": [
                {
                    "slow": "teacher_eager",
                    "fast": "student_int8",
                    "median": 27.1,
                    "low": 26.4,
                    "high": 27.9,
                    "rounds": rounds,
                },
                {
                    "slow": "student_fp32",
                    "fast": "student_int8",
                    "median": 2.42,
                    "low": 2.38,
                    "high": 2.47,
                    "rounds": rounds,
                },
            ],
            "ticks": _ticks(rng, ticks),
            "parity": _parity(),
            "per_task": [
                {
                    "task": t,
                    "pairs": 20,
                    "teacher": 19,
                    "student_fp32": 19 - (i == 4),
                    "student_int8": 19 - (i == 2),
                    "only_teacher": 1 + (i == 2),
                    "only_int8": 1,
                }
                for i, t in enumerate(TASKS)
            ],
            "sequential": sequential_verdict(Design(), [PairCounts(237, 6, 5, 2), PairCounts(476, 11, 9, 4)]).as_dict(),
            "halfway": [
                {
                    "scene": f"{thing} half open",
                    "instruction": f"{verb} the {thing}",
                    "model": model,
                    "episodes": 25,
                    "right": right,
                }
                for model, right in (("student_int8", 24), ("trained with blank words", 13))
                for thing in ("drawer", "window")
                for verb in ("open", "close")
            ],
            "frames": {
                "images": _images(12).tolist(),
                "ticks": list(range(0, 96, 8)),
                "task": "drawer-open-v3",
                "instruction": "open the drawer",
                "seed": 7,
                "success": True,
                "model": "student int8",
            },
            "claims": [
                {
                    "name": "horizon",
                    "text": "H >= d + (m + 1) r",
                    "kind": "proved",
                    "left": 32,
                    "right": 26,
                    "unit": "ticks",
                    "kept": True,
                },
                {
                    "name": "inference",
                    "text": "inference p99.9 <= L",
                    "kind": "bounded",
                    "left": 4.1,
                    "right": 25.0,
                    "unit": "ms",
                    "samples": 4603,
                    "kept": True,
                },
            ],
        },
    }


def _model(parameters: int, size: int, macs: int, ns: np.ndarray) -> dict[str, Any]:
    p50, p99 = (float(np.percentile(ns, q)) / 1e6 for q in (50, 99))
    return {"parameters": parameters, "bytes": size, "macs": macs, "p50_ms": p50, "p99_ms": p99}


def _latencies(rng: np.random.Generator, rounds: int) -> dict[str, np.ndarray]:
    middles_ms = {
        "teacher_eager": 36.0,
        "teacher_fp32": 15.0,
        "student_fp32": 3.2,
        "student_int8": 1.33,
        "student_int8/vision": 0.95,
        "student_int8/head": 0.29,
    }
    drift = rng.lognormal(0, 0.03, rounds)
    spikes = np.where(rng.random(rounds) < 0.03, rng.uniform(1.2, 1.9, rounds), 1.0)
    return {n: (1e6 * m * drift * spikes * rng.lognormal(0, 0.02, rounds)).astype(int) for n, m in middles_ms.items()}


def _ticks(rng: np.random.Generator, ticks: int) -> dict[str, Any]:
    wake = 22_000 * rng.lognormal(0, 0.25, ticks)
    late = rng.random(ticks) < 0.02
    wake[late] = rng.lognormal(np.log(120_000), 0.7, late.sum())
    wake[ticks // 3], wake[ticks // 2] = 7_400_000, 6_600_000
    return {
        "period_s": 0.0125,
        "wake_ns": wake.astype(int).tolist(),
        "release_misses": [ticks // 3, ticks // 2],
        "episode_starts": list(range(0, ticks, 500)),
        "stolen_s": 0.4,
        "best_effort": False,
    }


def _parity() -> list[dict[str, Any]]:
    stages = (
        ("vision", 2.1e-6, 0.012),
        ("text", 4e-7, 0.004),
        ("head", 3.3e-6, 0.015),
        ("chunk", 3.9e-6, 0.016),
    )
    fp32 = [_parity_row(s, "torch FP32", "ONNX FP32", rms / 4, rms, 1.0, "<= 1e-4 max") for s, rms, _ in stages]
    int8 = [_parity_row(s, "ONNX FP32", "ONNX int8", 4 * rms, rms, 1 - rms**2, "rms <= 0.03") for s, _, rms in stages]
    return fp32 + int8


def _parity_row(stage: str, ref: str, cand: str, most: float, rms: float, cosine: float, limit: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "reference": ref,
        "candidate": cand,
        "samples": 320,
        "max_abs": most,
        "rel_rms": rms,
        "cosine_min": cosine,
        "tolerance": limit,
        "within": True,
    }


def _images(n: int) -> np.ndarray:
    """Test pictures: a gradient with a square that moves."""
    across, down = np.meshgrid(np.arange(96), np.arange(96))
    images = np.empty((n, 96, 96, 3), np.uint8)
    images[:] = np.stack([across * 2, down * 2, 160 - across], axis=-1).astype(np.uint8)
    for i in range(n):
        images[i, 36:60, 6 * i : 6 * i + 24] = (250, 240, 60)
    return images
