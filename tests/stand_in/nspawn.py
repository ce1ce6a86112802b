"""A robot in a container: systemd and sshd of an arm64 Debian under qemu-user, and of an amd64 one as it is.

    python -m tests.stand_in.nspawn [--arch arm64] [--arch amd64] [--out bench/results/nspawn.json]

Needs root; installs mmdebstrap, qemu-user-static and systemd-container where they are missing. The first run makes
the roots (minutes), kept in out/cache/stand_in. Exit code 0 too when this machine cannot run it, with the reason.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.stand_in import debian, hardening, releases
from tests.stand_in.arm import VirtualArm
from tests.stand_in.container import SERIAL, Container
from tests.stand_in.scenario import Scenario
from tests.stand_in.steps import REPO, Broken, NotHere, Steps
from tests.stand_in.tools import provide

_PROGRAMS = ("mmdebstrap", "qemu-aarch64-static", "systemd-nspawn", "ssh", "ssh-keygen")
ARCHITECTURES = ("amd64", "arm64")  # the quick one first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES)
    parser.add_argument("--out", type=Path, default=REPO / "bench" / "results" / "nspawn.json")
    given = parser.parse_args()
    return proven(Steps("nspawn"), given.out, lambda steps: _prove(steps, given.arch or ARCHITECTURES))


def proven(steps: Steps, out: Path, prove: Callable[[Steps], None]) -> int:
    """Run `prove`, write what came of it, return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that containers and machines end too
    steps.grows = REPO / "out" / f"{out.stem}.log"
    steps.grows.parent.mkdir(exist_ok=True)
    steps.grows.unlink(missing_ok=True)
    try:
        prove(steps)
    except NotHere as reason:
        steps.say(f"SKIPPED: {reason}")
        return 0
    except Broken as found:
        steps.say(f"BROKEN: {found}")
        steps.write("broken", out)
        return 1
    steps.say(f"{len(steps.checks)} checks kept")
    steps.write("kept", out)
    return 0


def _prove(steps: Steps, architectures: list[str] | tuple[str, ...]) -> None:
    provide(*_PROGRAMS)
    for arch in architectures:
        root = debian.root(steps, arch)
        with VirtualArm() as arm, Container(root, steps, arch, arm.port) as container:
            _system(steps, container)
            with steps.step(f"{arch}: a hardened unit"):
                for line in container.drop_in().splitlines():
                    steps.say(f"  the unit here: {line}")
                arguments = f"{container.remote.port} {SERIAL}"
                found = hardening.probe(container.remote, hardening.PLAIN, arguments, container.drop_in())
                hardening.judge(steps, found, seccomp=arch != "arm64")
            _deploys(steps, container, container.folder)


def _deploys(steps: Steps, container: Container, work: Path) -> None:
    arch = container.arch
    with steps.step(f"{arch}: four signed releases"):
        made = releases.build(arch, work / "releases")
    robot = Scenario(steps, arch, container.remote, made, SERIAL, work / "home", container.drop_in(), arch != "arm64")
    robot.sshd_port = container.remote.port
    robot.run()


def _system(steps: Steps, container: Container) -> None:
    with steps.step(f"{container.arch}: what runs there"):
        remote = container.remote
        machine = remote.run("uname -m").out.strip()
        expected = {"arm64": "aarch64", "amd64": "x86_64"}[container.arch]
        steps.check("architecture", expected, machine, machine == expected)
        state = remote.run("systemctl is-system-running --wait", check=False, timeout_s=200).said
        failed = remote.run("systemctl --failed --no-legend --plain", check=False).said
        steps.check("systemd", "running", f"{state} {failed}".strip(), state == "running")
        user = remote.run("sudo -n id -u && id -un", user="robot").out.split()
        steps.check("sudo of the ordinary user", ["0", "robot"], user, user == ["0", "robot"])


if __name__ == "__main__":
    sys.exit(main())
