"""A bundle opened, verified, packed and unpacked."""

from __future__ import annotations

from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="bundle")


@pytest.mark.parametrize("path", of_suite("bundle"), ids=lambda path: path.name)
def test_bundle(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)
