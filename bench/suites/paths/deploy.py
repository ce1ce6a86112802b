"""What a deploy computes: chunks and their index, what is missing, signatures, hashes, the envelope, frames."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
MB = 1_000_000
PURE_BYTES = 32 * 1024  # of content for the path whose instructions are counted


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, always the same."""
    import numpy as np

    return np.random.default_rng(seed).bytes(size)


@PATHS.add("deploy/chunks of 32 KiB", pure=True)
def _chunks(place: Place) -> Made:
    """Cut by content, then the hash of each chunk."""
    from edgevla.deploy.chunks import chunks_of

    data = content(PURE_BYTES)
    return Made(
        lambda: chunks_of(data), lambda found: isinstance(found, tuple) and sum(c.length for c in found) == len(data)
    )


@PATHS.add("deploy/index of the release")
def _index(place: Place) -> Made:
    """The files of `place.index_mb` MB, four of them, as a deploy indexes them before it asks the robot."""
    from edgevla.deploy.chunks import index_files

    names = [f"model/{number}.onnx" for number in range(4)]
    (place.folder / "release" / "model").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (place.folder / "release" / name).write_bytes(content(place.index_mb * MB // 4, number))
    return Made(
        lambda: index_files(place.folder / "release", names),
        lambda index: index.total_bytes() == place.index_mb * MB // 4 * 4,
    )


def _indexes(place: Place) -> tuple[Any, Any]:
    """(new, old) of `place.index_mb` MB in chunks of 8 KiB; one chunk in fifty is new."""
    from edgevla.deploy.index import AVERAGE_BYTES, Chunk, ChunkIndex

    count = place.index_mb * MB // AVERAGE_BYTES
    old = [Chunk(hashlib.sha256(b"old %d" % i).hexdigest()[:32], AVERAGE_BYTES) for i in range(count)]
    new = [
        Chunk(hashlib.sha256(b"new %d" % i).hexdigest()[:32], AVERAGE_BYTES) if i % 50 == 0 else c
        for i, c in enumerate(old)
    ]
    return (ChunkIndex({"model/head.onnx": tuple(chunks)}) for chunks in (new, old))  # type: ignore[return-value]


@PATHS.add("deploy/delta plan")
def _delta(place: Place) -> Made:
    """Which chunks of a new release are on no release of the robot."""
    from edgevla.deploy.index import missing

    new, old = _indexes(place)
    there = old.hashes()
    expected = -(-sum(1 for _ in new.chunks()) // 50)
    return Made(lambda: missing(new, there), lambda found: isinstance(found, list) and len(found) == expected)


@PATHS.add("deploy/index to bytes and back")
def _index_bytes(place: Place) -> Made:
    from edgevla.deploy.index import encode_index, parse_index

    new, _ = _indexes(place)
    return Made(lambda: parse_index(encode_index(new)), lambda found: found == new)


FILES = 12  # of a release that a test could hold; a real one has some 60


def manifest(files: int = FILES) -> bytes:
    """manifest.json of a release with that many files."""
    entries = {
        f"wheels/{i:03}.whl": {"sha256": hashlib.sha256(b"%d" % i).hexdigest(), "bytes": i} for i in range(files)
    }
    wheels = sorted(entries)
    release = {
        "envelope": 1,
        "counter": 7,
        "target": "generic-aarch64",
        "arch": "aarch64",
        "python": "3.10",
        "wheels": wheels,
        "agent_wheels": wheels[:1],
        "needs_gpu_wheel": False,
    }
    table = {"schema": "edgevla.bundle/3", "name": "bench", "files": entries, "release": release}
    return json.dumps(table, indent=1).encode()


@PATHS.add("deploy/envelope", pure=True)
def _envelope(place: Place) -> Made:
    from edgevla.trust.envelope import parse_envelope

    raw = manifest()
    return Made(lambda: parse_envelope(raw), lambda found: len(found.files) == FILES)


@PATHS.add("deploy/signature and envelope")
def _signature(place: Place) -> Made:
    from edgevla.trust.keys import generate, load_private
    from edgevla.trust.signing import sign
    from edgevla.trust.store import pinned

    public = generate(place.folder / "bench.key", place.folder / "bench.pub")
    raw, store = manifest(), pinned([public])
    signature = sign(load_private(place.folder / "bench.key"), raw)
    return Made(lambda: store.check(raw, signature), lambda found: len(found.files) == FILES)


@PATHS.add("deploy/hash of every file")
def _hashes(place: Place) -> Made:
    """`place.index_mb` MB against their manifest."""
    from edgevla.trust.envelope import FileEntry
    from edgevla.trust.folder import check_file

    data = content(place.index_mb * MB)
    (place.folder / "whole.bin").write_bytes(data)
    entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))

    def check() -> bool:
        check_file(place.folder, "whole.bin", entry)  # raises where it differs
        return True

    return Made(check, lambda found: found is True)


@PATHS.add("deploy/frame to bytes and back", pure=True)
def _frame(place: Place) -> Made:
    from edgevla.install.frames import encode_frame, read_frame

    header: dict[str, Any] = {"id": 7, "method": "chunks", "params": {"lengths": [8192] * 16}}
    payload = content(16 * 8192)

    def there_and_back() -> Any:
        return read_frame(io.BytesIO(encode_frame(header, payload)), lambda _: len(payload))

    return Made(there_and_back, lambda frame: frame.payload == payload)
