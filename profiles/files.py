"""Profiles as files: which are shipped, where a name leads to, what a file says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from firmware_bridge.errors import explain
from profiles.errors import ProfileError
from profiles.strict import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
CHOOSE = "check the path, or take a shipped one: `edgevla profiles list`"
_MAX_BYTES = 256 * 1024  # a profile is a page of text


def shipped(kind: str) -> list[str]:
    """Names of the shipped profiles of that kind, 'target' or 'arm', sorted."""
    return sorted(path.stem for path in (HERE / f"{kind}s").glob("*.toml"))


def is_path(name: str) -> bool:
    """Whether a name that nobody ships is meant as a path."""
    return name.endswith(".toml") or "/" in name


def find(kind: str, name: str) -> Path:
    """The file of a shipped name, or the path itself. Raises ProfileError for a word that is neither."""
    known = shipped(kind)
    if name in known:
        return HERE / f"{kind}s" / f"{name}.toml"
    if not is_path(name):
        expected = f"one of {', '.join(known)}, or a path to a .toml file"
        refuse(f"unknown {kind} {name!r}", expected, repr(name), "see `edgevla profiles list`")
    return Path(name)


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of the file and what it says. Raises ProfileError."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            refuse(f"{path} is no profile", f"a page of TOML, {_MAX_BYTES} bytes at most", f"{size} bytes", CHOOSE)
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        refuse(f"{path} cannot be read", "a readable TOML file", error.strerror, CHOOSE)
    except UnicodeDecodeError as error:
        refuse(f"{path} is not valid TOML", "UTF-8 text", error, CHOOSE)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        refuse(f"{path} is not valid TOML", "TOML", error, Table.todo)  # the error names line and column
    if not data:
        refuse(f"{path} is empty", "the keys of a target or an arm", f"{size} bytes without a key", Table.todo)
    return text, data


def refuse(what: str, expected: object, got: object, todo: str) -> NoReturn:
    """Raises ProfileError with the four parts of an error."""
    raise ProfileError(explain(what, expected, got, todo))
