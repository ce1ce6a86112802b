"""A robot as a virtual machine: arm64 with the PREEMPT_RT kernel, its CAN bus and its reset line.

    python -m tests.stand_in.twin [--out bench/results/twin.json]

Needs root; installs mmdebstrap, qemu-user-static and qemu-system-arm where they are missing. The first run makes root
and image (minutes), kept in out/cache/stand_in. Exit code 0 too when this machine cannot run it, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.stand_in import hardening, releases
from tests.stand_in.arm import VirtualArm
from tests.stand_in.container import SERIAL
from tests.stand_in.machine import Twin
from tests.stand_in.nspawn import proven
from tests.stand_in.scenario import Scenario
from tests.stand_in.steps import REPO, Steps
from tests.stand_in.tools import provide

_PROGRAMS = ("mmdebstrap", "qemu-aarch64-static", "qemu-system-aarch64", "qemu-img", "mke2fs", "depmod", "cpio", "ssh")
# Two frames over the kernel's own bus; and a bus made by slcand from a serial line, as a USB adapter is.
_VCAN = """set -e
modprobe vcan; ip link add vcan0 type vcan; ip link set vcan0 up
candump -n 2 -T 20000 vcan0 > /tmp/frames & sleep 1
cansend vcan0 123#DEADBEEF; cansend vcan0 124##1CAFE; wait; cat /tmp/frames
"""
_SLCAND = """set -e
modprobe slcan
python3 -c '
import os, pty, select, sys, time
adapter, line = pty.openpty()
print(os.ttyname(line), flush=True)
said, end = b"", time.monotonic() + 60
while time.monotonic() < end:
    if select.select([adapter], [], [], 1)[0]:
        said += os.read(adapter, 100)
        open("/tmp/adapter.said", "wb").write(said)
' > /tmp/adapter.tty & adapter=$!
until [ -s /tmp/adapter.tty ]; do sleep 0.2; done
slcand -o -c -s8 "$(cat /tmp/adapter.tty)" can0
until ip link show can0 >/dev/null 2>&1; do sleep 0.2; done
ip link set can0 up; cansend can0 123#DEADBEEF; sleep 2
kill $adapter; tr '\\r' ' ' < /tmp/adapter.said
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPO / "bench" / "results" / "twin.json")
    return proven(Steps("twin"), parser.parse_args().out, _prove)


def _prove(steps: Steps) -> None:
    provide(*_PROGRAMS)
    with VirtualArm() as arm, Twin(steps, arm.port) as twin:
        _system(steps, twin)
        _can(steps, twin)
        with steps.step("a hardened unit"):
            found = hardening.probe(twin.remote, hardening.PLAIN, f"22 {SERIAL}")
            hardening.judge(steps, found, seccomp=True)
        _deploys(steps, twin)
        with steps.step("power off"):
            twin.power_off()


def _deploys(steps: Steps, twin: Twin) -> None:
    with steps.step("four signed releases"):
        made = releases.build("arm64", twin.folder / "releases")
    Scenario(steps, "twin", twin.remote, made, SERIAL, twin.folder / "home", reset=lambda: _reset(steps, twin)).run()


def _reset(steps: Steps, twin: Twin) -> None:
    before = _boot_id(twin)
    twin.reset()
    twin.wait()
    after = _boot_id(twin)
    steps.check("boot id after the reset", "another", "another" if after != before else after, after != before)


def _boot_id(twin: Twin) -> str:
    return twin.remote.run("cat /proc/sys/kernel/random/boot_id").out.strip()


def _system(steps: Steps, twin: Twin) -> None:
    with steps.step("what runs there"):
        kernel = twin.remote.run("uname -mv").out.strip()
        steps.check("kernel", "PREEMPT_RT, aarch64", kernel, "PREEMPT_RT" in kernel and "aarch64" in kernel)
        state = twin.remote.run("systemctl is-system-running --wait", check=False, timeout_s=300).said
        failed = twin.remote.run("systemctl --failed --no-legend --plain", check=False).said
        steps.check("systemd", "running", f"{state} {failed}".strip(), state == "running")


def _can(steps: Steps, twin: Twin) -> None:
    with steps.step("vcan"):
        frames = twin.remote.run(_VCAN, timeout_s=180).out
        kept = "DE AD BE EF" in frames and "CA FE" in frames
        steps.check("vcan0", "a CAN and a CAN FD frame", " / ".join(frames.split("\n")[:2]), kept)
    with steps.step("slcand"):
        said = twin.remote.run(_SLCAND, timeout_s=180).out.strip()
        kept = "S8" in said and "O" in said and "t1234DEADBEEF" in said
        steps.check("can0 by slcand", "S8, O, t1234DEADBEEF on the serial line", said, kept)


if __name__ == "__main__":
    sys.exit(main())
