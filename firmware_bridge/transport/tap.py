"""Putting something between a driver and its transports: a recording, a counter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_PARTS = ("open", "write", "read", "wait_readable", "close")


def tap(arm: Any, wrap: Callable[[Any], Any]) -> list[Any]:
    """Replace every transport that `arm` and its parts hold by `wrap(transport)`; the wrappers, one per transport.

    To be called before connect(). A part that kept a transport's method instead of the transport is not reached.
    """
    wrappers: dict[int, tuple[Any, Any]] = {}
    seen: set[int] = set()
    ahead = [arm]
    while ahead:
        holder = ahead.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for name, value in list(vars(holder).items()):
            if _is_transport(value):
                if id(value) not in wrappers:
                    wrappers[id(value)] = value, wrap(value)
                setattr(holder, name, wrappers[id(value)][1])
            else:
                ahead += [part for part in _parts(value) if _is_ours(part)]
    return [wrapper for _, wrapper in wrappers.values()]


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, dict) else (value,)


def _is_ours(part: Any) -> bool:
    return type(part).__module__.startswith("firmware_bridge.") and hasattr(part, "__dict__")


def _is_transport(value: Any) -> bool:
    return _is_ours(value) and ".transport." in type(value).__module__ and all(hasattr(value, p) for p in _PARTS)
