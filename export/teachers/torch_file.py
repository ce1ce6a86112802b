"""Weights of a checkpoint that `torch.save` wrote (.pt, .pth, .ckpt, .bin), without running what a pickle may carry.

state = load_state_dict(Path("last.ckpt"))
module.load_state_dict(state)
"""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevla.errors import BadInput, explain

TOP_KEYS = ("state_dict", "model_state_dict")
WRAPPER = "module."  # of DistributedDataParallel and DeepSpeed


def load_state_dict(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Name -> tensor, on the CPU, in the dtype of the file.

    Args:
        path: the checkpoint: a table of tensors, or one under `state_dict` or `model_state_dict`.
        prefix: taken off as well, such as "model." of a Lightning module; names without it are left out.

    Raises:
        BadInput: no such file, one that is cut off, one that holds code beside tensors, a folder of DeepSpeed,
            no tensors, two tensors of one name, NaN or infinity.
    """
    state = _table(_read(path), path)
    while all(name.startswith(WRAPPER) for name in state):
        state = {name.removeprefix(WRAPPER): tensor for name, tensor in state.items()}
    kept = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not kept:
        some = ", ".join(list(state)[:3])
        raise BadInput(explain(f"{path.name}", f"names that begin with {prefix}", some, "give another prefix"))
    for name, tensor in kept.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            todo = "use another checkpoint"
            raise BadInput(explain(f"tensor {name} in {path.name}", "finite numbers", "NaN or infinity", todo))
    return kept


def _read(path: Path) -> Any:
    if path.is_dir():
        todo = "gather it into one file with the zero_to_fp32.py that DeepSpeed put into the folder"
        raise BadInput(explain(f"checkpoint {path.name}", "one file", "a folder, as DeepSpeed writes it", todo))
    try:
        with warnings.catch_warnings():  # of a pickle protocol that it then refuses by itself
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadInput(explain("checkpoint", f"a file {path}", "no such file", "check the path")) from error
    except pickle.UnpicklingError as error:
        raise BadInput(
            explain(
                f"checkpoint {path.name}",
                "tensors, numbers, texts and tables of them",
                f"{_first_line(error)}: loading the rest would run code of the file",
                'where it was trained, save the weights alone: torch.save(model.state_dict(), "weights.pt")',
            )
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        got, todo = f"{type(error).__name__}: {_first_line(error)}", "fetch it again"
        raise BadInput(explain(f"checkpoint {path.name}", "a whole file of torch.save", got, todo)) from error


def _first_line(error: Exception) -> str:
    """What torch found; the rest of its text is about its own options."""
    named = re.search(r"GLOBAL (\S+)|Unsupported operand \d+", str(error))
    return named.group(1) or named.group(0) if named else (str(error).splitlines() or ["it ends too early"])[0][:120]


def _table(read: Any, path: Path) -> dict[str, Tensor]:
    expected = f"a table of tensors, or one under {' or '.join(TOP_KEYS)}"
    for key in TOP_KEYS:
        if isinstance(read, dict) and isinstance(read.get(key), dict):
            read = read[key]
            break
    if not isinstance(read, dict) or not read:
        got = f"{type(read).__name__}, {len(read)} entries" if isinstance(read, dict) else type(read).__name__
        raise BadInput(explain(f"checkpoint {path.name}", expected, got, "check which file holds the weights"))
    other = [str(name) for name, value in read.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if other:
        got = f"{', '.join(other[:4])}{', ...' if len(other) > 4 else ''} that are no tensors"
        raise BadInput(explain(f"checkpoint {path.name}", expected, got, "check which file holds the weights"))
    return dict(read)
