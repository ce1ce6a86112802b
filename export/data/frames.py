"""Decoded pictures on disk, so that any tick is one read away while training and memory stays bounded.

One file `NAME.npy`, uint8 (F, h, w, 3), per video (or parquet) file and camera, named after the sha256 of its source:
it is made once, whole or not at all, and belongs to whoever opens the same recording.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from edgevla.errors import BadInput, explain
from export.data.interface import Uint8
from export.distill.progress import Reporter

Shape = tuple[int, int, int, int]  # F, h, w, 3
MARGIN_BYTES = 1 << 28  # left free on the disk


def cached_frames(
    folder: Path, name: str, shape: Shape, decode: Callable[[], Iterator[Uint8]], progress: bool = True
) -> Uint8:
    """The frames of one source, mapped from disk; decoded now if they are not there yet.

    Raises:
        BadInput: no room on the disk, or a source that gives another number of frames or another size.
    """
    path = folder / f"{name}.npy"
    kept = _mapped(path, shape)
    if kept is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    _require_room(folder, shape)
    temporary = folder / f".part-{os.getpid()}-{path.name}"
    try:
        _write(temporary, shape, decode(), name, progress)
        os.replace(temporary, path)
    except OSError as error:
        room = f"room for {_size(shape)} in {folder}"
        todo = "free space, or choose another work folder; what is decoded already stays good"
        raise BadInput(explain("cannot keep decoded frames", room, error.strerror or str(error), todo)) from error
    finally:
        temporary.unlink(missing_ok=True)
    mapped = _mapped(path, shape)
    if mapped is None:
        raise BadInput(explain("decoded frames", f"a whole {path}", "a file altered meanwhile", "run again"))
    return mapped


def _mapped(path: Path, shape: Shape) -> Uint8 | None:
    """None where there is no such file, or not that of this shape, whole."""
    try:
        frames: Uint8 = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return frames if frames.shape == shape and frames.dtype == np.uint8 else None


def _require_room(folder: Path, shape: Shape) -> None:
    free = shutil.disk_usage(folder).free
    if free < int(np.prod(shape)) + MARGIN_BYTES:
        todo = "free space, or choose another work folder"
        expected = f"{_size(shape)} and {MARGIN_BYTES / 1e6:.0f} MB to spare in {folder}"
        raise BadInput(explain("no room for decoded frames", expected, f"{free / 1e6:.0f} MB free", todo))


def _size(shape: Shape) -> str:
    return f"{np.prod(shape) / 1e6:.0f} MB"


def _write(path: Path, shape: Shape, frames: Iterator[Uint8], name: str, progress: bool) -> None:
    """By plain writes: a mapped file on a full disk would end the process with a bus error."""
    reporter = Reporter(f"decoding {shape[0]} frames", shape[0], progress)
    done = 0
    try:
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for frame in frames:
                if frame.shape != shape[1:] or done == shape[0]:
                    got = f"frame {done} of {frame.shape[0]} x {frame.shape[1]}"
                    expected = f"{shape[0]} frames of {shape[1]} x {shape[2]} pixels"
                    raise BadInput(explain(f"pictures of {name}", expected, got, "get the dataset again whole"))
                file.write(np.ascontiguousarray(frame).data)
                done += 1
                reporter.show(done)
    finally:
        reporter.close()
    if done != shape[0]:
        todo = "get the dataset again whole"
        raise BadInput(explain(f"pictures of {name}", f"{shape[0]} frames", f"{done} that can be decoded", todo))
