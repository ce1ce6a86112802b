"""Weights in safetensors: one file, or several of at most so many bytes, replaced as one.

    DIR/NAME.safetensors                     all tensors, or
    DIR/NAME.safetensors.index.json          {"metadata": {...}, "weight_map": {tensor: file}}, written last
    DIR/NAME-<16 digits of sha256>.safetensors

What is read is the old or the new, never half of each. The index is that of transformers. A file is called by the hash
of its bytes: what has not changed is not written again, and one that was cut off on its way is found.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

MIB = 1 << 20
_DIGITS = 16


def save_shards(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None, most_bytes: int | None = None
) -> None:
    """Writes NAME.safetensors, or in its place an index and its files, each at most `most_bytes` long. A tensor that
    is larger has a file of its own.

    Args:
        tensors: by name; none of them shares its memory.
        path: DIR/NAME.safetensors.
        metadata: kept beside them.
        most_bytes: None: one file.

    Raises:
        OSError, SafetensorError: no room; what was there before is still whole.
    """
    told, parts = dict(metadata or {}), list(_parts(tensors, most_bytes))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    try:
        if len(parts) == 1:
            save_file(parts[0], temporary, told)
            os.replace(temporary, path)
            _index(path).unlink(missing_ok=True)
        else:
            files = {name: file for part in parts for file in [_write(part, path)] for name in part}
            temporary.write_text(json.dumps({"metadata": told, "weight_map": files}, indent=1) + "\n")
            os.replace(temporary, _index(path))
            path.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)
        ours = path.parent.glob(path.stem + "-" + _DIGITS * "[0-9a-f]" + ".safetensors")
        for left in set(ours) - set(files_of(path)):
            left.unlink()


def load_shards(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata that `save_shards` wrote.

    Raises:
        OSError, SafetensorError, ValueError: a file is missing, cut off or another.
    """
    if not _index(path).exists():
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    tensors: dict[str, Tensor] = {}
    for file in files_of(path):
        tensors |= load(_whole(file))
    return tensors, _read_index(path)[0]


def files_of(path: Path) -> list[Path]:
    """Files that hold the tensors of DIR/NAME.safetensors, in the order of their names. Raises as `load_shards`."""
    if not _index(path).exists():
        return [path] if path.exists() else []
    return [path.parent / name for name in _read_index(path)[1]]


def hash_of(path: Path) -> str:
    """Which weights these are: of the bytes of all files. Raises as `load_shards`."""
    digest = hashlib.sha256()
    for file in files_of(path) or [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _index(path: Path) -> Path:
    return path.with_name(path.name + ".index.json")


def _read_index(path: Path) -> tuple[dict[str, str], list[str]]:
    """Metadata and names of files."""
    try:
        told = json.loads(_index(path).read_text())
        metadata, names = dict(told["metadata"]), sorted(set(map(str, told["weight_map"].values())))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{_index(path).name}: expected metadata and weight_map, got {error!r}") from error
    if any(Path(name).name != name for name in names):
        raise ValueError(f"{_index(path).name}: expected names of files beside it, got {', '.join(names)[:100]}")
    return metadata, names


def _parts(tensors: Mapping[str, Tensor], most_bytes: int | None) -> Iterator[dict[str, Tensor]]:
    """In their order, filled up one after the other."""
    part: dict[str, Tensor] = {}
    length = 0
    for name, tensor in tensors.items():
        more = tensor.nbytes + len(json.dumps(name)) + 128  # of the header: dtype, shape, offsets
        if part and most_bytes is not None and length + more > most_bytes - 128:
            yield part
            part, length = {}, 0
        part[name] = tensor
        length += more
    yield part


def _write(part: Mapping[str, Tensor], path: Path) -> str:
    """The name of the file."""
    raw = save(dict(part))
    file = path.with_name(f"{path.stem}-{hashlib.sha256(raw).hexdigest()[:_DIGITS]}.safetensors")
    if not file.exists() or file.read_bytes() != raw:
        file.write_bytes(raw)
    return file.name


def _whole(file: Path) -> bytes:
    raw = file.read_bytes()
    if not file.stem.endswith(hashlib.sha256(raw).hexdigest()[:_DIGITS]):
        raise ValueError(f"{file.name} was cut off or altered")
    return raw
