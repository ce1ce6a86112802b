"""What the reference firmware costs and how fast it answers: `python -m bench.firmware --build out/firmware`.

Host board: exchanges per second, one after the other, through `EdgelinkArm`. Cortex-M4 in QEMU: round trips, and the
size and stack of its image. QEMU's instructions take no true time: its round trips are those of this host. Stack: the
worst path of gcc's call graph; functions of libgcc and libm are not in it and are named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.transport.serial import SerialTransport
from profiles import load_arm

_LINE = ["-chardev", "pty,id=c0", "-serial", "chardev:c0"]
QEMU = ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", *_LINE, "-kernel"]
SECONDS = 3.0
INTERRUPTS = ("uart0_rx_handler", "systick_handler", "fault_handler")
LOST_S = 0.5  # s without an answer: the exchange is lost


def exchange(command: list[str], start: np.ndarray, seconds: float = SECONDS) -> dict[str, Any]:
    """Back-to-back exchanges with the board that `command` starts: rate and round trips in us."""
    arm_profile = load_arm("metaworld-sawyer")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], 10)[0]:
            raise TimeoutError(f"{command[0]} names no port")
        found = re.search(r"/dev/pts/\d+", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"{command[0]} names no port")
        arm = EdgelinkArm(SerialTransport(found[0], arm_profile.baud), arm_profile.channels)
        arm.connect()
        arm.arm()
        arm.poll()
        trips, lost = _trips(arm, start, seconds)
        arm.close()
    finally:
        process.terminate()
        process.wait(10)
    p50, p99 = np.percentile(trips, [50, 99])
    return {
        "exchanges": len(trips),
        "per_second": round(len(trips) / seconds, 1),
        "round_trip_us_p50": round(float(p50), 1),
        "round_trip_us_p99": round(float(p99), 1),
        "lost": lost,
        "refused": arm.counts.refused,
    }


def _trips(arm: EdgelinkArm, start: np.ndarray, seconds: float) -> tuple[list[float], int]:
    trips: list[float] = []
    lost = 0
    end_ns = time.monotonic_ns() + int(seconds * 1e9)
    setpoint = start.copy()
    while time.monotonic_ns() < end_ns:
        setpoint[0] = start[0] + 0.05 * np.sin(len(trips) * 1e-3)
        sent_ns = time.monotonic_ns()
        arm.send(setpoint, sent_ns + 50_000_000)
        while (state := arm.poll()) is None and time.monotonic_ns() - sent_ns < LOST_S * 1e9:
            arm.wait_readable(sent_ns + int(LOST_S * 1e9))
        if state is None:
            lost += 1
        else:
            trips.append((time.monotonic_ns() - sent_ns) / 1e3)
    return trips, lost


def size_of(elf: Path) -> dict[str, int]:
    """text, data, bss in bytes."""
    words = subprocess.run(["arm-none-eabi-size", str(elf)], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(words[:3], map(int, words[6:9]), strict=True))


def stack_of(objects: Path) -> dict[str, Any]:
    """Deepest path from main and from an interrupt, in bytes, by gcc's call graph (-fcallgraph-info=su)."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for graph in objects.rglob("*.ci"):
        text = graph.read_text()
        for title, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(static\)', text):
            frames[title] = int(size)
        for source, target in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
            calls.setdefault(source, set()).add(target)
    main, path = _deepest("main", frames, calls, ())
    handlers = {name: _deepest(name, frames, calls, ())[0] for name in frames if name in INTERRUPTS}
    outside = sorted({name for names in calls.values() for name in names if name not in frames})
    return {
        "main_bytes": main,
        "deepest_path": path,
        "interrupt_bytes": max(handlers.values(), default=0),
        "exception_frame_bytes": 108,  # Armv7-M with FPU, DDI 0403 B1.5.6: 26 words and alignment
        "not_counted": outside,
    }


def _deepest(
    name: str, frames: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...]
) -> tuple[int, list[str]]:
    if name in above:
        raise ValueError(f"recursion: {' > '.join((*above, name))}")
    below = [_deepest(target, frames, calls, (*above, name)) for target in sorted(calls.get(name, ()))]
    size, path = max(below, default=(0, []), key=lambda found: found[0])
    return frames.get(name, 0) + size, [name, *path]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The reference firmware: rate, round trip, size, stack.")
    parser.add_argument("--build", type=Path, default=Path("out/firmware"), help="folder of make firmware")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    arguments = parser.parse_args(argv)
    arm, build = load_arm("metaworld-sawyer"), arguments.build
    start = (np.array(arm.start_low, np.float32) + np.array(arm.start_high, np.float32)) / 2
    measured = {
        "host": exchange([str(build / "edgelink-host")], start, arguments.seconds),
        "qemu_cortex_m4": exchange([*QEMU, str(build / "edgelink-m4.elf")], start, arguments.seconds),
        "size_bytes": size_of(build / "edgelink-m4.elf"),
        "stack": stack_of(build / "edgelink-m4-objects"),
    }
    text = json.dumps(measured, indent=1) + "\n"
    print(text, end="")
    if arguments.out is not None:
        temporary = arguments.out.with_suffix(".part")
        temporary.write_text(text)
        os.replace(temporary, arguments.out)
    return 1 if measured["host"]["lost"] or measured["qemu_cortex_m4"]["lost"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
