"""What a hardened unit really gets: run as its ExecStart in a stand-in, prints one JSON line. Standard library only.

    python3 -I probe.py PORT [DEVICE]

PORT: of 127.0.0.1, where the stand-in's sshd listens. DEVICE: a serial port, or an interface of a CAN bus.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import socket
import sys

_LOCKED_BYTES = 4 << 20


def main() -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    port, device = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    found = {
        "takes_fifo": _takes_fifo(),  # first: what follows is told as it is then
        "uid": os.getuid(),
        "policy": os.sched_getscheduler(0),
        "fifo": os.SCHED_FIFO,
        "priority": os.sched_getparam(0).sched_priority,
        "memlock": list(resource.getrlimit(resource.RLIMIT_MEMLOCK)),
        "rtprio": list(resource.getrlimit(resource.RLIMIT_RTPRIO)),
        "locks_4_mib": _locks(),
        "inet": _family(socket.AF_INET),
        "reaches_sshd": _reaches(port),
        "opens_device": _opens(device) if device else "no device asked for",
        "unix": _family(socket.AF_UNIX),
        "can": _family(socket.AF_CAN),
        "seccomp": status.get("Seccomp", "").strip(),
        "no_new_privileges": status.get("NoNewPrivs", "").strip(),
        "writes_usr": _writes("/usr/probe"),
    }
    print(json.dumps(found), flush=True)


def _locks() -> str:
    """Whether 4 MiB stay in memory for good: the error's name, "" when they do."""
    area = mmap.mmap(-1, _LOCKED_BYTES)
    pointer = ctypes.c_char.from_buffer(area)
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.mlock(ctypes.c_void_p(ctypes.addressof(pointer)), ctypes.c_size_t(_LOCKED_BYTES))
    return os.strerror(ctypes.get_errno()) if refused else ""


def _family(family: int) -> str:
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_CAN else socket.SOCK_STREAM).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _takes_fifo() -> str:
    """Whether it may give itself SCHED_FIFO 80, as the servo does."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(80))
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _reaches(port: int) -> str:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _opens(device: str) -> str:
    try:
        if device.startswith("/"):
            os.close(os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        else:
            with socket.socket(socket.AF_CAN, socket.SOCK_RAW, 1) as bus:
                bus.bind((device,))
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _writes(path: str) -> str:
    try:
        with open(path, "x", encoding="ascii"):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


if __name__ == "__main__":
    main()
