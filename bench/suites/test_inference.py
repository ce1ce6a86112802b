"""One inference of a bundle, from raw camera bytes to the action chunk, and the pieces around it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="inference")


@pytest.mark.parametrize("path", of_suite("inference"), ids=lambda path: path.name)
def test_inference(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)
