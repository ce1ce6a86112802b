"""Releases of a few hundred bytes, keys that are always the same, and archives taken apart and put together again."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgevla.trust import archive
from edgevla.trust.envelope import sum_line
from edgevla.trust.keys import PrivateKey, PublicKey
from edgevla.trust.signing import sign
from edgevla.trust.store import TrustStore, pinned

NAME = "arm"
WHEEL = "runtime/wheels/edgevla-0.1.0-py3-none-any.whl"
FILES = {"model/head.onnx": b"graph" * 300, "profiles/arm.toml": b"", WHEEL: b"wheel" * 99, "z.txt": b"z" * 512}
RELEASE = {
    "envelope": 1,
    "counter": 7,
    "target": "generic-aarch64",
    "arch": "aarch64",
    "python": "3.10",
    "wheels": [WHEEL],
    "agent_wheels": [WHEEL],
    "needs_gpu_wheel": False,
}
# How edgevla compresses, written once more: an archive of another frame would be refused for its frame.
FRAME = {"window_log": 23, "write_checksum": 1, "write_content_size": 0, "write_dict_id": 0}


def key_of(number: int) -> PrivateKey:
    """A key pair that is always the same."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"test key %d" % number).digest())
    return PrivateKey(key, PublicKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)))


KEY = key_of(1)
STORE: TrustStore = pinned([KEY.public])


def manifest_of(files: Mapping[str, bytes] = FILES, **changes: Any) -> dict[str, Any]:
    """manifest.json of a release, with nothing of a policy in it: what an installer of any version must read."""
    entries = {name: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for name, raw in files.items()}
    return {"schema": "edgevla.bundle/3", "name": NAME, "files": entries, "release": RELEASE, "later": [1], **changes}


def raw_of(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1).encode()


def write_release(root: Path, files: Mapping[str, bytes] = FILES, key: PrivateKey | None = KEY, **changes: Any) -> Path:
    """A release's folder; unsigned where there is no key."""
    raw = raw_of(manifest_of(files, **changes))
    heads = {"manifest.json": raw, "manifest.sha256": sum_line(raw)}
    if key is not None:
        heads["manifest.sig"] = sign(key, raw)
    for name, content in {**heads, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@dataclass(frozen=True)
class Entry:
    """One entry of a tar: its header (or headers) and its content with the zeros behind it."""

    header: bytes
    content: bytes

    @property
    def name(self) -> str:
        return self.header[:100].rstrip(b"\0").decode()


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, form: int = tarfile.USTAR_FORMAT, **more: Any
) -> Entry:
    """An entry as Python's tarfile writes it: whatever somebody might put into an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = len(content), kind, 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return Entry(info.tobuf(form), content + bytes(-len(content) % 512))


def entries_of(packed: bytes) -> list[Entry]:
    """The entries of an archive without long names."""
    raw, entries, at = untarred(packed), [], 0
    while any(header := raw[at : at + 512]):
        size = int(header[124:135], 8)
        end = at + 512 + size + -size % 512
        entries.append(Entry(header, raw[at + 512 : end]))
        at = end
    return entries


def tar_of(entries: Iterable[Entry], end: bytes = bytes(1024)) -> bytes:
    return b"".join(one.header + one.content for one in entries) + end


def untarred(packed: bytes) -> bytes:
    """The tar stream in an archive."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def compressed(raw: bytes, **changes: int) -> bytes:
    form = zstandard.ZstdCompressionParameters.from_level(1, **{**FRAME, **changes})
    stream = zstandard.ZstdCompressor(compression_params=form).compressobj()
    return stream.compress(raw) + stream.flush()


def packed_release(folder: Path, **changes: Any) -> bytes:
    """Bytes of the archive of a release made in `folder`."""
    archive.pack(write_release(folder / "made.bundle", **changes), folder / "made.tar.zst")
    return (folder / "made.tar.zst").read_bytes()


def accepted(packed: bytes, check: archive.Check = STORE.check) -> str:
    """The id of the release in it. Raises BadInput."""
    return archive.inspect_stream(io.BytesIO(packed), "some.tar.zst", check).id


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
