"""What the imports of a process cost, by package, from `python -X importtime`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from edgevla.errors import Unsound, explain

OURS = ("edgevla", "profiles", "firmware_bridge")
STANDARD, MISC = "standard library", "interpreter start"
PROCESSES = {
    "run": ("edgevla.cli.entry", "edgevla.cli.main", "edgevla.cli.run"),
    "policy": ("edgevla.policy.process", "edgevla.bundle.reader", "edgevla.policy.engine", "onnxruntime"),
    "servo": ("edgevla.control.servo",),
}
_SLOWEST = 5


@dataclass(frozen=True)
class Module:
    """One import: the time in it alone, without what it imports."""

    name: str
    self_us: int


@dataclass(frozen=True)
class Cost:
    """Imports of one process. `packages`: us by top-level package, the dearest first."""

    total_us: int
    packages: dict[str, int]
    slowest: tuple[Module, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse(text: str) -> list[Module]:
    """What `-X importtime` wrote to stderr, in the order in which the imports ended."""
    found = []
    for line in text.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            found.append(Module(rest.rpartition("|")[2].strip(), int(own)))
    return found


def cost_of(modules: list[Module]) -> Cost:
    """By package; what comes before `site` has ended is the interpreter's own start."""
    packages: dict[str, int] = defaultdict(int)
    started = max((index for index, module in enumerate(modules) if module.name == "site"), default=-1)
    for index, module in enumerate(modules):
        packages[MISC if index <= started else package_of(module.name)] += module.self_us
    ordered = dict(sorted(packages.items(), key=lambda item: -item[1]))
    slowest = sorted(modules, key=lambda module: -module.self_us)[:_SLOWEST]
    return Cost(sum(module.self_us for module in modules), ordered, tuple(slowest))


def package_of(module: str) -> str:
    """Top-level package; everything that comes with Python is one."""
    top = module.partition(".")[0]
    return STANDARD if top in sys.stdlib_module_names else top


def measure(process: str) -> Cost:
    """Of one of `PROCESSES`, in a fresh interpreter. Raises Unsound when it cannot be imported."""
    command = [sys.executable, "-X", "importtime", "-c", "import " + ", ".join(PROCESSES[process])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise Unsound(explain(f"imports of {process}", "an exit code of 0", last, "install edgevla again"))
    return cost_of(parse(done.stderr))
