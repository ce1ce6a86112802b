"""Which wheels a robot's Python can run: pure, from its Python, architecture and C library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from packaging.tags import Tag, compatible_tags, cpython_tags

from edgevla.errors import BadInput, Refused, explain
from profiles.model import Target

# Oldest C library that a manylinux tag names, and the older names of such tags (PEP 513, 571, 599, 600).
_OLDEST_MINOR = {"x86_64": 5, "aarch64": 17}
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Platform:
    """The robot as a wheel's tag sees it."""

    python: str  # '3.10'
    arch: str  # 'aarch64', as `uname -m` says it
    glibc: str  # '2.35'

    @property
    def cp(self) -> str:
        """'cp310'."""
        return "cp" + self.python.replace(".", "")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Platform tags that run there, the most demanding first."""
        major, minor = _numbers(self.glibc, "glibc")
        oldest = _OLDEST_MINOR.get(self.arch)
        if major != 2 or oldest is None:
            expected, got = f"Linux with glibc 2 on {' or '.join(_OLDEST_MINOR)}", f"glibc {self.glibc} on {self.arch}"
            raise BadInput(explain("no wheels are made for this target", expected, got, "correct its profile"))
        found = []
        for number in range(minor, oldest - 1, -1):
            found.append(f"manylinux_2_{number}_{self.arch}")
            found += [f"{_OLD_NAMES[number]}_{self.arch}"] if number in _OLD_NAMES else []
        return tuple(found)

    @cached_property
    def ranks(self) -> dict[Tag, int]:
        """Tag -> rank, 0 is the best, as pip orders them."""
        version = _numbers(self.python, "python")
        tags = [
            *cpython_tags(version, abis=[self.cp], platforms=self.names),
            *compatible_tags(version, interpreter=self.cp, platforms=self.names),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    @cached_property
    def vendor_tags(self) -> frozenset[Tag]:
        """Tags of a wheel that a maker built on the very system: `linux_aarch64` promises no C library."""
        return frozenset(
            cpython_tags(_numbers(self.python, "python"), abis=[self.cp], platforms=[f"linux_{self.arch}"])
        )

    @property
    def markers(self) -> dict[str, str]:
        """What a requirement's marker asks for, as this robot's Python would answer (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }


def platform_of(target: Target) -> Platform:
    """The platform a target names. Raises Refused where its profile does not say Python and C library."""
    glibc = target.minimum.get("glibc", "")
    if not target.python or not glibc:
        got = f"python = {target.python!r}, minimum.glibc = {glibc!r}"
        todo = "choose a target of `edgevla profiles list` that says both, or add them to the profile"
        raise Refused(explain(f"no release can be built for target {target.name}", "its Python and glibc", got, todo))
    return Platform(target.python, target.arch, glibc)


def pip_flags(platform: Platform) -> list[str]:
    """Options that make pip choose wheels for `platform`, whatever it runs on itself."""
    names = [word for name in platform.names for word in ("--platform", name)]
    abis = [word for abi in (platform.cp, "abi3", "none") for word in ("--abi", abi)]
    return ["--only-binary=:all:", "--python-version", platform.python, "--implementation", "cp", *names, *abis]


def describe_tags(tags: Sequence[Tag] | frozenset[Tag]) -> str:
    """Tags as a file name has them, sorted."""
    return ", ".join(sorted(map(str, tags)))


def _numbers(version: str, what: str) -> tuple[int, int]:
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise BadInput(explain(f"the target's {what}", "two numbers: '3.10'", repr(version), "correct its profile"))
    return int(parts[0]), int(parts[1])
