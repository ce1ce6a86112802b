"""What the shared memory between the processes costs. Run with ``make bench``, or alone:

pytest bench/test_shm.py --benchmark-only --benchmark-json out/shm.json
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgevla.control.shm import Slots
from edgevla.telemetry.rows import Rows, tick_dtype

SIZES = [200, 4096, 1 << 20]  # bytes: a request, a reply with its chunk, a camera frame
CHANNELS, STATES = 7, 14
CHECKS: dict[str, Callable[[bytes], object]] = {
    "zlib.crc32": zlib.crc32,
    "zlib.adler32": zlib.adler32,
    "blake2b": lambda data: hashlib.blake2b(data, digest_size=8).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


@pytest.mark.benchmark(group="slots: write")
@pytest.mark.parametrize("size", SIZES)
def test_write(benchmark: Any, size: int) -> None:
    ring, payload = Slots.create(size), os.urandom(size)
    assert benchmark(ring.write, payload) > 0
    ring.close()


@pytest.mark.benchmark(group="slots: read")
@pytest.mark.parametrize("size", SIZES)
def test_read(benchmark: Any, size: int) -> None:
    ring, payload = Slots.create(size), os.urandom(size)
    ring.write(payload)
    assert benchmark(ring.read) == (1, payload)
    ring.close()


@pytest.mark.benchmark(group="slots: read")
def test_look_for_something_new_in_vain(benchmark: Any) -> None:
    """What the servo does in most steps."""
    ring = Slots.create(4096)
    assert benchmark(ring.read, ring.write(b"old")) is None
    ring.close()


@pytest.fixture
def rows() -> Any:
    made = Rows.create(tick_dtype(CHANNELS, STATES), 10_000)
    yield made
    made.close()


def tick_row() -> tuple[Any, ...]:
    """A row of the columns as they are, set-points and states as arrays."""
    zero = np.zeros((), tick_dtype(CHANNELS, STATES))
    return tuple(zero[name].copy() if zero[name].shape else zero[name].item() for name in zero.dtype.names or ())


@pytest.mark.benchmark(group="rows")
def test_append(benchmark: Any, rows: Rows) -> None:
    benchmark(rows.append, tick_row())
    assert rows.count > 0


@pytest.mark.benchmark(group="rows")
@pytest.mark.parametrize("behind", [1, 100])
def test_since(benchmark: Any, rows: Rows, behind: int) -> None:
    for _ in range(200):
        rows.append(tick_row())
    found, _, lost = benchmark(rows.since, 200 - behind)
    assert (len(found), lost) == (behind, 0)


@pytest.mark.benchmark(group="checksums of the standard library, 1 MiB")
@pytest.mark.parametrize("name", CHECKS)
def test_checksum(benchmark: Any, name: str) -> None:
    assert benchmark(CHECKS[name], os.urandom(1 << 20)) is not None
