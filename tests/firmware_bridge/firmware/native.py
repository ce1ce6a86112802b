"""The C library under test: compiled once per session, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3] / "firmware_bridge" / "firmware"
HERE = Path(__file__).parent / "c"
LIBRARY = [ROOT / "src" / f"{name}.c" for name in ("edgelink", "limiter", "device")]
FLAGS = [
    *("-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-pedantic"),
    f"-I{ROOT / 'src'}",
]
NO_COMPILER = "no C compiler (cc) here: apt install gcc"


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-14")


def compile_c(folder: Path, name: str, sources: list[Path], *flags: str, cc: str | None = None) -> Path:
    """`name` in `folder`; the compiler's words are the error."""
    out = folder / name
    command = [cc or str(compiler()), *FLAGS, *flags, *map(str, sources), "-lm", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


def doubles(array):
    return np.ascontiguousarray(array, np.float64)


def pointer(array):
    kinds = {"float64": ctypes.c_double, "float32": ctypes.c_float, "uint32": ctypes.c_uint32}
    return array.ctypes.data_as(ctypes.POINTER(kinds[str(array.dtype)]))


class Native:
    """The shim's functions with NumPy arrays."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.shim_half.argtypes = [ctypes.c_float]
        self.c.shim_drive.argtypes = [
            *(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_double),
            *(ctypes.c_void_p,) * 5,
        ]

    def axes(self, rows, steps):
        """rows (n, 6) limits, steps (n,): (n, 9) low .. step, reach, nimble."""
        rows, steps, out = doubles(rows), doubles(steps), np.empty((len(rows), 9))
        self.c.shim_axes(len(rows), pointer(rows), pointer(steps), pointer(out))
        return out

    def channels(self, rows, steps, cases, slow):
        """cases (n, 7): (n, 4) set-point, velocity, acceleration, bits."""
        rows, steps, cases, out = doubles(rows), doubles(steps), doubles(cases), np.empty((len(rows), 4))
        self.c.shim_channels(len(rows), pointer(rows), pointer(steps), pointer(cases), int(slow), pointer(out))
        return out

    def drive(self, rows, step_s, start, wanted, h):
        """wanted (n, channels), h (n,), negative for a step of the stop: (n, channels, 3) and bits (n,)."""
        rows, start, wanted, h = doubles(rows), doubles(start), doubles(wanted), doubles(h)
        out, bits = np.empty((*wanted.shape, 3)), np.empty(len(wanted), np.uint32)
        arrays = [array.ctypes.data for array in (start, wanted, h, out, bits)]
        self.c.shim_drive(len(wanted), wanted.shape[1], rows.ctypes.data, step_s, *arrays)
        return out, bits


class NativeDevice:
    """The C device with the interface of `VirtualDevice`: a plant in Python, the rest in C."""

    NAMES = ("no_hello", "not_armed", "old_sequence", "expired", "too_far_ahead", "wrong_count", "not_finite")
    LINE = ("frames", "bad_stuffing", "bad_crc", "bad_message", "too_short", "too_long")

    def __init__(self, native, plant, schema, rows, watchdog_us=100_000, period_us=12_500):
        self._c, self._plant, self._n = native.c, plant, len(rows)
        rows, position = doubles(rows), np.array(plant.position(), np.float32)
        assert self._c.shim_start(schema, watchdog_us, period_us, self._n, pointer(rows), pointer(position))
        self._out = ctypes.create_string_buffer(65_536)
        self.board_faults = 0

    def feed(self, data, now_us):
        position = np.array(self._plant.position(), np.float32)
        effort = np.array(self._plant.effort(), np.float32)
        arguments = (pointer(position), pointer(effort), self.board_faults, self._out, len(self._out))
        size = self._c.shim_feed(data, len(data), ctypes.c_uint32(now_us & 0xFFFF_FFFF), *arguments)
        return self._out.raw[:size]

    def tick(self, now_us, periods=1):
        """Steps the plant where the device drives it; the set-point (n,) that it gave out."""
        setpoint = np.empty(self._n, np.float32)
        now = ctypes.c_uint32(now_us & 0xFFFF_FFFF)
        self.driven = bool(self._c.shim_tick(now, periods, self.board_faults, pointer(setpoint)))
        if self.driven:
            self._plant.step(setpoint)
        return setpoint

    def counts(self):
        out = np.empty(19, np.uint32)
        self._c.shim_counts(pointer(out))
        values = [int(value) for value in out]
        return {
            "mode": values[0],
            "faults": values[1],
            "accepted": values[2],
            "watchdog_trips": values[3],
            "refused": dict(zip((*self.NAMES, "out_of_limit"), values[5:13], strict=True)),
            "decoder": dict(zip(self.LINE, values[13:], strict=True)),
        }
