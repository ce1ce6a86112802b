"""deploy.toml: which robot, bundle and key `edgevla deploy --target NAME` means, so that one line is enough.

`deploy.toml` in the working folder, written by a person, comes before the one in ~/.config/edgevla, which the first
deploy to a target writes. Paths in it are relative to its own folder.

    [targets.jetson-orin]
    host = "robot@192.168.1.20"
    bundle = "out/student.tar.zst"   # an archive, a bundle's folder, or a folder of them
    key = "release.pub"              # optional: what the bundle must be signed by, checked here before it travels
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "deploy.toml"
_MAX_BYTES = 256 * 1024
_PATHS = ("bundle", "key", "ssh_config")
_HEAD = "# Written by `edgevla deploy`: what was said the last time it was kept. Yours to change.\n"


@dataclass(frozen=True)
class Remembered:
    """What is known of one target; '' where nothing is."""

    host: str = ""
    bundle: str = ""
    key: str = ""
    prefix: str = ""
    ssh_config: str = ""


KEYS = tuple(field.name for field in fields(Remembered))


def user_file() -> Path:
    """The file that deploys write."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "edgevla" / FILE


def recall(target: str) -> tuple[Remembered, Path | None]:
    """What is known of that target, and the file that says so. Raises BadInput."""
    for path in (Path(FILE), user_file()):
        if path.is_file() and (found := read(path).get(target)) is not None:
            return _absolute(found, path.parent), path
    return Remembered(), None


def targets_known() -> list[str]:
    """Targets that a file names, sorted. Raises BadInput."""
    return sorted({name for path in (Path(FILE), user_file()) if path.is_file() for name in read(path)})


def read(path: Path) -> dict[str, Remembered]:
    """Target -> what the file says. Raises BadInput naming the key."""
    raw = path.read_bytes()
    try:
        data = tomllib.loads(raw.decode("utf-8")) if len(raw) <= _MAX_BYTES else {}
    except (ValueError, RecursionError) as error:
        _refuse(path, "TOML", error)
    targets = data.get("targets")
    if set(data) != {"targets"} or not isinstance(targets, dict):
        _refuse(path, "tables [targets.NAME] only", ", ".join(sorted(data)) or "nothing")
    return {name: _entry(path, name, table) for name, table in targets.items()}


def remember(path: Path, target: str, known: Remembered) -> bool:
    """Write what is known of one target; the others stay. False where it stood there already.

    Raises BadInput, OSError.
    """
    everything = read(path) if path.is_file() else {}
    if everything.get(target) == known:
        return False
    everything[target] = known
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{FILE}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(encode(everything))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
    return True


def encode(everything: dict[str, Remembered]) -> str:
    """The text of the file."""
    tables = []
    for target, known in sorted(everything.items()):
        lines = [f"{key} = {_text(getattr(known, key))}" for key in KEYS if getattr(known, key)]
        tables.append("\n".join([f"[targets.{_text(target)}]", *lines]) + "\n")
    return "\n".join([_HEAD, *tables])


def _text(value: str) -> str:
    """A TOML basic string: its escapes are those of JSON, save for DEL."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _entry(path: Path, name: str, table: Any) -> Remembered:
    if not isinstance(table, dict):
        _refuse(path, f"a table [targets.{name}]", str(table)[:80])
    for key, value in table.items():
        if key not in KEYS or not isinstance(value, str):
            _refuse(path, f"texts of {', '.join(KEYS)} in [targets.{name}]", f"{key} = {value!r}"[:80])
    return Remembered(**table)


def _absolute(known: Remembered, folder: Path) -> Remembered:
    paths = {key: str(folder / Path(getattr(known, key)).expanduser()) for key in _PATHS if getattr(known, key)}
    return Remembered(**{**{key: getattr(known, key) for key in KEYS}, **paths})


def _refuse(path: Path, expected: str, got: object) -> NoReturn:
    raise BadInput(explain(f"{path} is wrong", expected, got, "correct or remove it; a deploy writes it anew"))
