"""Out of memory and disk full, as one sentence that says what is safe and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

from edgevla.errors import BadInput, explain


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in NumPy, in torch on a CPU (a RuntimeError with a text) or on a GPU."""
    texts = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(text in str(error) for text in texts)
    )


def out_of_memory(doing: str, error: BaseException, safe: str) -> BadInput:
    """The sentence for a failed allocation. `safe`: what is kept."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    todo = f"{safe}; a smaller --batch, fewer --processes or a smaller student, then run the same command again"
    return BadInput(explain(f"out of memory while {doing}", "memory for one batch", first, todo))


@contextlib.contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """A file is written inside; if that fails, its temporary part goes and what was there before stays.

    Raises:
        BadInput: the disk is full, read-only, or over its quota.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        todo = "free space and run the same command again: it goes on with the last file that was whole"
        raise BadInput(explain(f"cannot write {path.name}", f"room in {path.parent}", str(error), todo)) from error
