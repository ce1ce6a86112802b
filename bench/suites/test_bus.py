"""Every protocol: encode, decode, and a whole exchange with its virtual device."""

from __future__ import annotations

from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="bus")


@pytest.mark.parametrize("path", of_suite("bus"), ids=lambda path: path.name)
def test_bus(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)
