"""The safetensors of a policy folder, one tensor at a time, and how they get into a module.

A key is read when it is asked for and the file is closed again, so that a large policy never lies in memory twice.
Every refusal is one `BadInput` that names the key, the file and what was expected.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgevla.errors import BadInput, explain

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FSDP = ("*.distcp", "*/*.distcp", "pytorch_model_fsdp*")  # shards, and what the folder around them is called
Rename = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Weights:
    """Where each tensor of a checkpoint lies."""

    files: dict[str, Path]  # by key, in the order of the file

    def __contains__(self, key: str) -> bool:
        return key in self.files

    def __getitem__(self, key: str) -> Tensor:
        path = self.files[key]
        try:
            with safe_open(path, "pt") as file:
                tensor: Tensor = file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise BadInput(explain(f"tensor {key}", "to be read", f"{path.name}: {error}", "fetch it again")) from error
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(
                explain(f"tensor {key}", "finite numbers", f"NaN or infinity in {path.name}", "use another checkpoint")
            )
        return tensor

    @property
    def names(self) -> str:
        """The files, for messages."""
        return ", ".join(sorted({path.name for path in self.files.values()}))


def open_weights(folder: Path) -> Weights:
    """Finds `model.safetensors`, or the shards that its index lists.

    Raises:
        BadInput: none of them, only a pickle or FSDP shards, a truncated file, an index that names what is not there.
    """
    if (folder / SINGLE).is_file():
        return Weights(dict.fromkeys(keys_of(folder / SINGLE), folder / SINGLE))
    if (folder / INDEX).is_file():
        return _sharded(folder)
    raise _no_weights(folder)


def keys_of(path: Path) -> list[str]:
    """Keys of one safetensors file. Raises BadInput: it is not one, or is cut off."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise BadInput(
            explain("weights", "a whole safetensors file", f"{path.name}: {error}", "fetch it again")
        ) from error


def _sharded(folder: Path) -> Weights:
    try:
        index = json.loads((folder / INDEX).read_text())["weight_map"]
        files = {str(key): _inside(folder, str(name)) for key, name in index.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(explain(INDEX, "a weight_map of keys to files", f"{error!r}", "fetch it again")) from error
    there = {path: set(keys_of(path)) for path in sorted(set(files.values()))}
    for key, path in files.items():
        if key not in there[path]:
            raise BadInput(explain(INDEX, f"{key} in {path.name}", "no such tensor there", "fetch the shards again"))
    return Weights(files)


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not a file name")
    return folder / name


def _no_weights(folder: Path) -> BadInput:
    """What lies there instead of safetensors, and what to do with it."""
    shards = [path for pattern in FSDP for path in sorted(folder.glob(pattern))]
    if shards:
        place = shards[0].parent if shards[0].suffix == ".distcp" else shards[0]
        command = shlex.join(["accelerate", "merge-weights", str(place), str(folder)])
        got = f"FSDP shards ({shards[0].relative_to(folder)})"
        return BadInput(explain(f"weights in {folder.name}", SINGLE, got, f"convert them once: {command}"))
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        got = f"only {pickles[0]}, a pickle, which may run code when it is opened"
        todo = "save it again as safetensors: policy.save_pretrained(folder), on a machine that trusts it"
        return BadInput(explain(f"weights in {folder.name}", SINGLE, got, todo))
    return BadInput(explain("weights", f"{SINGLE} or {INDEX}", f"neither in {folder}", "check the path"))


def load_tensors(module: nn.Module, source: Iterable[tuple[str, Tensor]], name: str) -> None:
    """Puts every tensor of the source into the module, whose names and shapes must match; one on `meta` gets its own.

    Tied parameters may come under one of their names only, as safetensors saves them.

    Raises:
        BadInput: a tensor is missing, not expected or of another shape.
    """
    targets = dict(module.state_dict(keep_vars=True))
    seen: set[str] = set()
    for key, tensor in source:
        if key not in targets:
            raise BadInput(explain(f"{name}: {key}", "no such tensor", f"one of {_shape(tensor)}", "check config.json"))
        if targets[key].shape != tensor.shape:
            got = _shape(tensor)
            raise BadInput(explain(f"{name}: {key}", f"shape {_shape(targets[key])}", got, "check config.json"))
        _fill(module, key, targets[key], tensor)
        seen.add(key)
    filled = {id(targets[key]) for key in seen}
    missing = [key for key, target in targets.items() if key not in seen and id(target) not in filled]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        expected = f"tensor {missing[0]} {_shape(targets[missing[0]])}{more}"
        raise BadInput(explain(f"{name}", expected, "not there", "check config.json, or fetch it again"))


def _fill(module: nn.Module, key: str, target: Tensor, tensor: Tensor) -> None:
    if not target.is_meta:
        with torch.no_grad():
            target.copy_(tensor)
        return
    *path, leaf = key.split(".")
    owner = module.get_submodule(".".join(path))
    value: Any = tensor.to(target.dtype, copy=True)
    if isinstance(target, nn.Parameter):
        owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        owner._buffers[leaf] = value


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def renamed(source: Iterable[tuple[str, Tensor]], rename: Rename) -> Iterator[tuple[str, Tensor]]:
    """The source under the names of the module; those renamed to None are left out."""
    for key, tensor in source:
        name = rename(key)
        if name is not None:
            yield name, tensor


def sha256_of(files: Iterable[Path]) -> str:
    """One hash over the names and bytes of all files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(set(files), key=lambda p: p.name):
        total.update(f"{path.name}\n{_sha256(path)}\n".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
