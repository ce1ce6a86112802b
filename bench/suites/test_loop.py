"""The pieces of a servo step and a control tick, rows of measurements, shared memory."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from bench.suites.paths import HotPath, Place, of_suite
from bench.suites.timed import timed

pytestmark = pytest.mark.benchmark(group="loop")


@pytest.mark.parametrize("path", of_suite("loop"), ids=lambda path: path.name)
def test_loop(benchmark: Any, path: HotPath, place: Place) -> None:
    timed(benchmark, path, place)


CHECKS: dict[str, Callable[[bytes], object]] = {
    "zlib.crc32": zlib.crc32,
    "zlib.adler32": zlib.adler32,
    "blake2b": lambda data: hashlib.blake2b(data, digest_size=8).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


@pytest.mark.benchmark(group="checksums of the standard library, 1 MiB")
@pytest.mark.parametrize("name", CHECKS)
def test_checksum(benchmark: Any, name: str) -> None:
    """Why slots and rows carry a crc32."""
    assert benchmark(CHECKS[name], os.urandom(1 << 20)) is not None
