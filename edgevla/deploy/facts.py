"""What a robot says of itself, as values; a fact that it does not say, or says in another form, is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgevla.doctor.finding import LEVELS, Finding
from edgevla.errors import BadInput, Usage, explain
from profiles.modules import BoardFacts


@dataclass(frozen=True)
class Facts:
    """One robot. Versions as text, '36.4.3'; each None: not known."""

    arch: str | None = None  # uname -m
    python: str | None = None  # of the python3 that releases are made with, '3.10'
    l4t: str | None = None  # Jetson Linux
    glibc: str | None = None
    kernel: str | None = None  # uname -r
    free_bytes: int | None = None  # where releases go
    time_unix_s: float | None = None  # time of day
    board: BoardFacts = field(default_factory=BoardFacts)

    def version(self, name: str) -> str | None:
        """By the names that a target's least versions have."""
        return {"l4t": self.l4t, "glibc": self.glibc, "kernel": self.kernel, "python": self.python}.get(name)


def facts_of(said: Mapping[str, Any]) -> Facts:
    """The robot's answer as Facts."""
    compatible = said.get("compatible")
    board = BoardFacts(
        model=_text(said, "board_model") or "",
        compatible=tuple(str(text) for text in compatible) if isinstance(compatible, list) else (),
        memory_mb=_whole(said, "memory_mb"),
    )
    time = said.get("time_unix_s")
    return Facts(
        arch=_text(said, "arch"),
        python=_text(said, "python"),
        l4t=_text(said, "l4t"),
        glibc=_text(said, "glibc"),
        kernel=_text(said, "kernel"),
        free_bytes=_whole(said, "free_bytes"),
        time_unix_s=float(time) if isinstance(time, (int, float)) and not isinstance(time, bool) else None,
        board=board,
    )


def findings_of(said: Sequence[Mapping[str, Any]]) -> list[tuple[str, Finding]]:
    """(subject, finding) of what the robot's doctor found; what is none is left out."""
    found = []
    for table in said:
        name, level, todo = table.get("name"), table.get("level"), table.get("todo") or ()
        if isinstance(name, str) and level in LEVELS and isinstance(todo, (list, tuple)):
            lines = tuple(map(str, todo))
            if not lines and level in ("warn", "fail"):
                lines = ("call `edgevla doctor` on the robot",)
            text = str(table.get("found", "")), str(table.get("expected", ""))
            found.append((str(table.get("subject", "")), Finding(name, str(level), *text, lines)))
    return found


def _text(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) and value else None


def _whole(said: Mapping[str, Any], key: str) -> int | None:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def require_settings(hello: Mapping[str, Any]) -> None:
    """Raises Usage where the robot has no robot.toml, BadInput where it has one that is wrong."""
    if hello.get("robot"):
        return
    if hello.get("robot_error"):
        raise BadInput(str(hello["robot_error"]))
    todo = "pass --robot robot.toml once: service, port, cameras, instruction (docs/service.md)"
    raise Usage(explain("the robot has no settings of its own", "etc/robot.toml", "none", todo))
