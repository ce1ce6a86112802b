"""Ask the kernel in a child process for what a servo takes, with the very calls of a servo.

    python -m edgevla.doctor.grant PRIORITY SERVO_CORE POLICY_CORE      (-1: not pinned)

It holds the priority for as long as it takes to print one line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgevla.control import realtime

_CHILD_S = 30.0


@dataclass(frozen=True)
class Grant:
    """What a child process was given. `missing`: what it asked for and did not get, each with the kernel's reason."""

    fifo_priority: int  # 0: SCHED_OTHER
    memory_locked: bool
    locked_kb: int
    core: int | None
    missing: tuple[str, ...]


def try_grant(priority: int, servo_core: int | None, policy_core: int | None) -> Grant | str:
    """What a process of this user is given here; a sentence when the attempt itself failed."""
    cores = [str(-1 if core is None else core) for core in (servo_core, policy_core)]
    argv = [sys.executable, "-m", "edgevla.doctor.grant", str(priority), *cores]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_CHILD_S)
        value = json.loads(done.stdout)
        return Grant(**{**value, "missing": tuple(value["missing"])})
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, KeyError) as error:
        return f"the attempt in a child process failed ({type(error).__name__}: {error})"


def ask(priority: int, servo_core: int | None, policy_core: int | None) -> Grant:
    """Take it in this process, which is not the same afterwards."""
    import numpy  # noqa: F401  (the servo has it loaded: locked memory is counted with it)

    refused = realtime.pin(policy_core)
    granted = realtime.ask(priority, servo_core)
    missing = ((f"policy {refused}",) if refused else ()) + granted.missing
    return Grant(granted.fifo_priority, granted.memory_locked, _locked_kb(), granted.core, missing)


def _locked_kb() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmLck:"):
            return int(line.split()[1])
    return 0


def _core(text: str) -> int | None:
    return None if int(text) < 0 else int(text)


def main(arguments: list[str]) -> None:
    """One line of JSON on stdout."""
    priority, servo_core, policy_core = arguments
    grant = ask(int(priority), _core(servo_core), _core(policy_core))
    print(json.dumps(grant.__dict__))


if __name__ == "__main__":
    main(sys.argv[1:])
