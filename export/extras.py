"""Libraries that only an extra brings: imported where they are used, one clear error where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgevla.errors import Usage, explain


def library(module: str, extra: str) -> Any:
    """The module of that dotted name.

    Raises:
        Usage: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        what = f"this needs a library that is not installed: {error.name}"
        todo = f"pip install 'edgevla[{extra}]'"
        raise Usage(explain(what, f"the extra `{extra}`", "an environment without it", todo)) from error
