"""What a cell costs at run time: latency of its int8 bundle, in turns with the others, and the memory of a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.interleaved import measure

ROUNDS, WARM = 300, 30
_SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from export.study.measure import asked_of
from edgevla.bundle.reader import open_bundle
call = asked_of(open_bundle(Path(sys.argv[1])))
for _ in range(20):
    call()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({"rss_mb": int(status["VmRSS"].split()[0]) * 1024 / 1e6}))
"""


def asked_of(bundle: Bundle) -> Callable[[], object]:
    """One inference of a bundle, warm with its instruction, from raw pictures."""
    engine, manifest = PolicyEngine(bundle), bundle.manifest
    engine.set_instruction(next(iter(bundle.golden.values())).instruction)
    rng = np.random.default_rng(0)
    images = {c.name: rng.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in manifest.cameras}
    state = np.zeros(len(manifest.state), np.float32)
    prefix = np.zeros((min(2, manifest.timing.d_max), len(manifest.channels)), np.float32)
    return lambda: engine.infer(images, state, prefix)


def latencies(bundles: Mapping[str, Path], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """p50_ms and p99_ms by name, one inference of each in turns."""
    calls = {name: asked_of(open_bundle(path)) for name, path in bundles.items()}
    found = measure(calls, rounds, WARM)
    return {
        name: {"p50_ms": float(np.quantile(ns, 0.5)) / 1e6, "p99_ms": float(np.quantile(ns, 0.99)) / 1e6}
        for name, ns in ((name, found.ns[name]) for name in calls)
    }


def resident_mb(bundle: Path) -> float:
    """Of a process that runs the bundle and nothing else, 20 inferences in."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(bundle)], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return float(told["rss_mb"])
