"""Which board this is, and which target of a family it is."""

from __future__ import annotations

import platform
import re

from edgevla.doctor.probe import Tree
from edgevla.errors import Refused, explain
from profiles import BoardFacts, Target, resolve_module


def board_facts(tree: Tree) -> BoardFacts:
    """What the device tree and the kernel say; empty where there is no device tree."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", tree.text("proc/meminfo"), re.MULTILINE)
    compatible = tree.text("proc/device-tree/compatible")
    return BoardFacts(
        model=tree.text("proc/device-tree/model"),
        compatible=tuple(part for part in compatible.split("\0") if part),
        memory_mb=int(total[1]) // 1024 if total else None,
    )


def target_here(target: Target, tree: Tree | None = None, machine: str = "") -> Target:
    """The target as it is on this machine: of a family, the module that was found.

    Raises:
        Refused: the target is of another architecture.
        ProfileError: no module of the family is this board.
    """
    found = machine or platform.machine()
    if target.arch != found:
        todo = "name the target of this machine with --target, or run on the target itself"
        raise Refused(explain(f"target {target.name} does not run on this machine", target.arch, found, todo))
    return resolve_module(target, board_facts(tree or Tree()))
