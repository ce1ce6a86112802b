"""One inference of a bundle, from raw camera bytes to the action chunk, and the pieces around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

engine_module = pytest.importorskip("edgevla.policy.engine", reason="the policy engine is not there yet")
bundle_module = pytest.importorskip("edgevla.bundle")

pytestmark = pytest.mark.benchmark(group="inference")


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Any:
    return bundle_module.open_bundle(bundle_path)


@pytest.fixture(scope="module", params=[False, True], ids=["int8", "fp32"])
def engine(bundle: Any, request: pytest.FixtureRequest) -> Any:
    made = engine_module.PolicyEngine(bundle, threads=1, float_model=request.param)
    made.set_instruction("open the drawer")
    return made


@pytest.mark.parametrize("prefix_ticks", [0, 2, 8])
def test_one_chunk(benchmark: Any, engine: Any, bundle_path: Path, prefix_ticks: int) -> None:
    """Prefix 0: start; 2: the host profile's d; 8: d_max."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    state, prefix = np.array([0.0, 0.6, 0.2, 1.0], np.float32), np.zeros((prefix_ticks, 4), np.float32)
    benchmark.extra_info["bundle"] = bundle_path.name
    chunk = benchmark(engine.infer, image, state, prefix)
    assert chunk.shape[1] == 4
    assert np.isfinite(chunk).all()


def test_integration_of_a_chunk(benchmark: Any, engine: Any) -> None:
    chunk, anchor = np.zeros((32, 4), np.float32), np.array([0.0, 0.6, 0.2, 0.0], np.float32)
    assert benchmark(engine.to_setpoints, chunk, anchor, 2).shape == (32, 4)


def test_opening_and_verifying_a_bundle(benchmark: Any, bundle_path: Path) -> None:
    benchmark.extra_info["bundle"] = bundle_path.name
    benchmark.pedantic(bundle_module.open_bundle, args=(bundle_path,), rounds=5)
