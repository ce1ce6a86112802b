"""Profiles written back: self-contained TOML, which loads to the same value. Release bundles carry these.

Byte for byte the same for the same profile. Comments are not kept; `extends` is resolved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from profiles.model import ArmProfile, Target

_NOT_PINNED = -1  # of a core: TOML has no null


def target_toml(target: Target) -> bytes:
    """The target as the text of a profile."""
    data = _said(asdict(target))
    for key in ("servo_core", "policy_core"):
        data.setdefault(key, _NOT_PINNED)
    return _document(data)


def arm_toml(arm: ArmProfile) -> bytes:
    """The arm as the text of a profile, with the calibration that it carries."""
    data = _said(asdict(arm))
    data.setdefault("watchdog_s", "none")
    for channel in data["channels"]:
        if "max_effort" not in channel and "max_following_error" not in channel:
            del channel["effort_s"]  # read beside one of them only
    if data.get("cartesian", {}).get("channels"):
        del data["cartesian"]["tip_xyz"]  # of a chain of joints only
    return _document(data)


def _said(value: Any) -> Any:
    """Without what a profile leaves out: None and empty lists, tables and texts."""
    if isinstance(value, dict):
        return {key: _said(item) for key, item in value.items() if item is not None and item not in ("", (), {})}
    return [_said(item) for item in value] if isinstance(value, tuple) else value


def _document(data: Mapping[str, Any]) -> bytes:
    return "\n".join(_table(data, "")).encode() + b"\n"


def _table(data: Mapping[str, Any], name: str) -> Iterator[str]:
    """Values first, then tables, then lists of tables, as TOML wants them."""
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in data.items() if _is_tables(value)}
    for key, value in data.items():
        if key not in tables and key not in lists:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        yield from ("", f"[{name}{_key(key)}]")
        yield from _table(value, f"{name}{_key(key)}.")
    for key, value in lists.items():
        for item in value:
            yield from ("", f"[[{name}{_key(key)}]]")
            yield from _table(item, f"{name}{_key(key)}.")


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML escapes it, JSON does not
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, bool) else repr(value)
