"""What runs inside the machine: vcan0, then pytest over `real_can.py` and the CAN tests of every protocol there is.

The tests of the protocols are those of `make test`: EDGEVLA_CAN puts their virtual devices on vcan0. Each outcome is
a line on the console; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_bridge.protocols import KINDS

REPO = Path(__file__).resolve().parents[2]
PARTS = ("test_driver.py", "test_oracle.py")
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


def can_tests() -> list[str]:
    """The protocols' own tests, and the contract test, as far as they exist."""
    folder = REPO / "tests/firmware_bridge"
    names = [name for name, kind in KINDS.items() if kind == "can"]
    found = [folder / name / part for name in names for part in PARTS]
    found.append(folder / "test_contract.py")
    return [str(path.relative_to(REPO)) for path in found if path.exists()]


def main() -> int:
    interface = os.environ["EDGEVLA_CAN"]
    subprocess.run(["ip", "link", "add", "dev", interface, "type", "vcan"], check=True)
    subprocess.run(["ip", "link", "set", interface, "mtu", "72", "up"], check=True)
    os.chdir(REPO)
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
