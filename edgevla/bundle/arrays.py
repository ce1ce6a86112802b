"""NumPy files from outside: size known before memory is taken, never a pickle, never a NaN."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.lib import format as npy

from edgevla.errors import BadInput, explain

MAX_ARRAY_BYTES = 256 * 1024**2  # of one array and of all arrays of one .npz, unpacked

Array = np.ndarray[Any, np.dtype[Any]]


def load_npy(raw: bytes, where: str) -> Array:
    """Bytes of a .npy file -> array. Raises BadInput naming `where`."""
    try:
        shape, dtype, data_bytes = _header(raw)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        _refuse(where, "a NumPy .npy file", error)
    if dtype.hasobject:
        _refuse(where, "an array of numbers or text, never a pickle", f"dtype {dtype}")
    if math.prod(shape) * dtype.itemsize != data_bytes or data_bytes > MAX_ARRAY_BYTES:
        _refuse(where, f"{dtype}{list(shape)}, {MAX_ARRAY_BYTES} bytes at most", f"{data_bytes} bytes of data")
    array: Array = np.load(io.BytesIO(raw), allow_pickle=False)
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        _refuse(where, "finite numbers", f"{int((~np.isfinite(array)).sum())} that are NaN or infinite")
    return array


def load_npz(raw: bytes, where: str) -> dict[str, Array]:
    """Bytes of a .npz file -> its arrays by name. Raises BadInput naming `where`."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
            if unpacked > MAX_ARRAY_BYTES:
                _refuse(where, f"{MAX_ARRAY_BYTES} bytes unpacked at most", unpacked)
            members = {item.filename: archive.read(item) for item in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        _refuse(where, "a NumPy .npz file", error)
    return {name.removesuffix(".npy"): load_npy(data, f"{where}:{name}") for name, data in members.items()}


def expect(array: Array, where: str, dtype: str, shape: tuple[int | None, ...]) -> Array:
    """The array itself if it has that dtype and shape (None: any length). Raises BadInput."""
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if str(array.dtype) != dtype or not fits:
        wanted = [("any" if n is None else n) for n in shape]
        _refuse(where, f"{dtype}{wanted}", f"{array.dtype}{list(array.shape)}")
    return array


def npy_bytes(array: Array) -> bytes:
    """Array -> bytes of a .npy file; the same array gives the same bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Arrays -> bytes of a .npz file; the same arrays give the same bytes (no time stamps in it)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted(arrays.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(array), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _header(raw: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    stream = io.BytesIO(raw)
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f".npy version {version}")
    shape, _, dtype = read(stream)
    return shape, dtype, len(raw) - stream.tell()


def _refuse(where: str, expected: str, got: object) -> NoReturn:
    raise BadInput(explain(f"{where} is wrong", expected, got, "export the bundle again"))
