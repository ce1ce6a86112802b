"""What runs inside the machine: vcan0, then pytest over `real_can.py` and the CAN tests of every protocol there is.

The tests of the protocols are those of `make test`: EDGEVLA_CAN puts their virtual devices on vcan0. Each outcome is
a line on the console; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_bridge.protocols import KINDS
from firmware_bridge.virtual import __main__ as virtual
from firmware_bridge.virtual import client

REPO = Path(__file__).resolve().parents[2]
PARTS = ("test_connect.py", "test_driver.py", "test_oracle.py")
MARK = "TEST-CAN "


class Outcomes:
    """pytest plugin: one line per test, counts per file."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.failed: list[str] = []
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, _, name = report.nodeid.partition("::")
        if report.failed:
            self.failed.append(report.nodeid)
            print(f"\nFAIL  {report.nodeid} ({report.when})\n{report.longreprtext[-6000:]}", flush=True)
        elif report.skipped:
            self.skipped[report.nodeid] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
            print(f"\nskip  {file} {name}: {self.skipped[report.nodeid]}", flush=True)
        elif report.when == "call":
            self.passed[file] = self.passed.get(file, 0) + 1
            print(f"\nok    {file} {name} ({report.duration:.2f} s)", end="", flush=True)


class Forked:
    """The process of a virtual device as a fork of this one, with what `VirtualProcess` uses of Popen.

    A fresh interpreter imports for seconds on an emulated processor; several hundred tests start one each.
    """

    def __init__(self, command: list[str], **_: object) -> None:
        (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_device(command[3], their_in, their_out)
        os.close(their_in)
        os.close(their_out)
        self.stdin, self.stdout = os.fdopen(our_out, "w"), os.fdopen(our_in)

    def wait(self, timeout: float = 5.0) -> None:
        until_s = time.monotonic() + timeout
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until_s:
                raise subprocess.TimeoutExpired("virtual device", timeout)
            time.sleep(0.005)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _become_device(asked: str, stdin: int, stdout: int) -> None:
    """Never returns. Descriptors of the tests are closed: a socket of theirs must not live on here."""
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.closerange(3, 256)
    sys.stdout, sys.argv = os.fdopen(1, "w", closefd=False), ["virtual", asked]
    code = 5
    try:
        code = virtual.main()
    finally:
        sys.stdout.flush()
        os._exit(code)


def can_tests() -> list[str]:
    """The protocols' own tests, and the contract test, as far as they exist."""
    folder = REPO / "tests/firmware_bridge"
    names = [name for name, kind in KINDS.items() if kind == "can"]
    found = [folder / name / part for name in names for part in PARTS]
    found.append(folder / "test_contract.py")
    return [str(path.relative_to(REPO)) for path in found if path.exists()]


def main() -> int:
    interface = os.environ["EDGEVLA_CAN"]
    for name in (interface, os.environ["EDGEVLA_CAN_SECOND"]):
        subprocess.run(["ip", "link", "add", "dev", name, "type", "vcan"], check=True)
        subprocess.run(["ip", "link", "set", name, "mtu", "72", "up"], check=True)
    os.chdir(REPO)
    vars(client)["Popen"] = Forked
    outcomes, started_s = Outcomes(), time.monotonic()
    chosen = os.environ.get("EDGEVLA_CAN_TESTS", "").split() or ["tests/qemu_can/real_can.py", *can_tests()]
    quiet = ["-p", "no:cacheprovider", "-p", "no:terminal", "-W", "ignore", "--confcutdir=tests/firmware_bridge"]
    quiet += ["-o", "addopts=--import-mode=importlib"]  # those of pyproject.toml are for a terminal
    code = pytest.main([*quiet, *chosen], plugins=[outcomes])
    result = {
        "kernel": os.uname().release,
        "interface": interface,
        "passed": outcomes.passed,
        "failed": outcomes.failed,
        "skipped": outcomes.skipped,
        "tests_s": round(time.monotonic() - started_s, 1),
        "pytest_exit_code": int(code),
    }
    print(f"\n{MARK}{json.dumps(result)}", flush=True)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
