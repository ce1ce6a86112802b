"""Which module of a family a board carries: `--target jetson-orin` means the one that is found.

A device tree says it twice. Its `compatible` names carrier and module by NVIDIA's part numbers, such as
"nvidia,p3768-0000+p3767-0005-super" and "nvidia,p3767-0005" on an Orin Nano developer kit: that decides. Where it names
no module at all, `model` ("NVIDIA Jetson Orin Nano ...") together with the memory does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from firmware_bridge.errors import explain
from profiles.errors import ProfileError
from profiles.loader import load_target
from profiles.model import Target

_LEAST_SHARE = 0.75  # of the memory built in that Linux reports; firmware, camera and display keep the rest


@dataclass(frozen=True)
class BoardFacts:
    """What a board says of itself; '', () and None where it says nothing."""

    model: str = ""  # /proc/device-tree/model
    compatible: tuple[str, ...] = ()  # /proc/device-tree/compatible
    memory_mb: int | None = None  # MemTotal

    def __str__(self) -> str:
        memory = "unknown memory" if self.memory_mb is None else f"{self.memory_mb} MB"
        return f"{self.model or 'no model'}, {' '.join(self.compatible) or 'nothing compatible'}, {memory}"


def resolve_module(family: Target, facts: BoardFacts) -> Target:
    """The target of the module that these facts tell; a target that is no family is its own. Raises ProfileError."""
    return choose_module(family, [load_target(name) for name in family.modules], facts) if family.family else family


def choose_module(family: Target, modules: Sequence[Target], facts: BoardFacts) -> Target:
    """`resolve_module` among targets that are already read. Raises ProfileError where none or several fit."""
    parts = {part for text in facts.compatible for part in _parts(text)}
    said = parts | set(facts.compatible)
    fitting = [module for module in modules if any(_parts(text) & said or text in said for text in module.compatible)]
    if not fitting and not _other_module(parts):
        fitting = [module for module in modules if _by_model_and_memory(module, facts)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(module.name for module in fitting or modules)
    what = f"{'more than one' if fitting else 'no'} module of {family.name} fits this board"
    todo = "name its target yourself: one of these, or a file of your own with `extends` (docs/targets.md)"
    raise ProfileError(explain(what, f"{'exactly one of' if fitting else 'one of'} {names}", str(facts), todo))


def _parts(compatible: str) -> set[str]:
    """Part numbers in a `compatible` string: {'p3768-0000', 'p3767-0005'}."""
    return set(re.findall(r"\bp\d{4}-\d{4}\b", compatible))


def _other_module(parts: set[str]) -> bool:
    """Whether it names a module of Orin (p3701 AGX, p3767 NX and Nano) that no target is for: then none is guessed."""
    return any(part.startswith(("p3701-", "p3767-")) for part in parts)


def _by_model_and_memory(module: Target, facts: BoardFacts) -> bool:
    if not module.board_model or module.board_model not in facts.model:
        return False
    if module.ram_mb is None or facts.memory_mb is None:
        return module.ram_mb is None
    return _LEAST_SHARE * module.ram_mb < facts.memory_mb <= module.ram_mb
