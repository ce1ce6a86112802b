"""What compression repeats: a training step, calibration, a graph quantized, a stage exported."""

from __future__ import annotations

from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="compress")


@pytest.mark.parametrize("path", of_suite("compress"), ids=lambda path: path.name)
def test_compress(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)
