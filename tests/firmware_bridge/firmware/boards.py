"""The two boards as processes: the host build and the Cortex-M4 in QEMU, each with its line on a pty."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from edgevla.cli.firmware import device_config
from firmware_bridge.firmware.configure import config_header
from profiles import load_arm
from tests.firmware_bridge.firmware import native

# A watchdog that a busy machine does not trip: nothing here is about 100 ms.
ARM = replace(load_arm("metaworld-sawyer"), watchdog_s=1.0)
_LINE = ["-chardev", "pty,id=c0", "-serial", "chardev:c0"]
QEMU = ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", *_LINE, "-kernel"]
NEEDED = {
    "host": {"make": "make", "cc": "gcc"},
    "qemu": {
        "make": "make",
        "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
        "qemu-system-arm": "qemu-system-arm",
    },
}


def missing(board):
    """Why `board` cannot run here, or "" when it can."""
    if board == "qemu" and not os.environ.get("EDGEVLA_QEMU"):
        return "the Cortex-M4 in QEMU is part of make test-firmware (EDGEVLA_QEMU=1)"
    lacking = {package for tool, package in NEEDED[board].items() if shutil.which(tool) is None}
    return f"{board} board: apt install {' '.join(sorted(lacking))}" if lacking else ""


def build(folder, target, *variables):
    """config.h of Sawyer and `target` of the firmware's own Makefile into `folder`."""
    (folder / "config.h").write_text(config_header(device_config(ARM, 0.0125)))
    command = ["make", "-s", "-C", str(native.ROOT), f"OUT={folder}", f"CONFIG={folder}", *variables, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


class Board:
    """A running firmware; `port` is its line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert select.select([self.process.stdout], [], [], 10)[0], f"{command[0]} says nothing"
        self.first = self.process.stdout.readline()
        self.port = re.search(r"/dev/pts/\d+", self.first)[0]

    def end(self) -> dict:
        """Close its standard input, as a parent's end does; its last line, where it has one."""
        self.process.stdin.close()
        if self.process.args[0] == "qemu-system-arm":
            self.process.terminate()
        self.process.wait(10)
        lines = self.process.stdout.read().splitlines()
        self.process.stdout.close()
        return json.loads(lines[-1]) if lines else {}


@contextlib.contextmanager
def running(board: str, folder: Path, clock_us: int = 0):
    """`board` out of `folder`, ended at the end."""
    image = folder / ("edgelink-m4-late.elf" if clock_us else "edgelink-m4.elf")
    command = [*QEMU, str(image)] if board == "qemu" else [str(folder / "edgelink-host")]
    started = Board([*command, *(["--clock-us", str(clock_us)] if clock_us and board == "host" else [])])
    try:
        if board == "qemu":
            time.sleep(0.3)  # its first instructions
        yield started
    finally:
        if started.process.poll() is None:
            started.end()
