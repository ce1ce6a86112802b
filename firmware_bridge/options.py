"""The protocol's own options of a profile: an unknown one, or one of another kind, is an error, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firmware_bridge.config import Option
from firmware_bridge.errors import BridgeError, explain, suggest


def read(protocol: str, given: Mapping[str, Option], defaults: Mapping[str, tuple[type, Any]]) -> dict[str, Any]:
    """`given` over `defaults` (name -> kind, default). An int serves where a float is asked. Raises BridgeError."""
    chosen = {name: default for name, (_, default) in defaults.items()}
    for name, value in given.items():
        kind = defaults[name][0] if name in defaults else None
        fits = kind is not None and (type(value) is kind or (kind is float and type(value) is int))
        if kind is None or not fits:
            known = ", ".join(f"{key} ({kind.__name__})" for key, (kind, _) in defaults.items())
            got = f"{name} = {value!r}"
            todo = ("" if name in defaults else suggest(name, defaults)) + "correct [options] of the arm profile"
            raise BridgeError(explain(f"an option of {protocol}", known, got, todo))
        chosen[name] = float(value) if kind is float else value
    return chosen
