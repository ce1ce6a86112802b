"""What a deploy computes: 100 MB of chunks, what is missing, signatures, hashes."""

from __future__ import annotations

from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="deploy")


@pytest.mark.parametrize("path", of_suite("deploy"), ids=lambda path: path.name)
def test_deploy(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)
