"""The libraries of the extra `edgevla[data]`, imported when a dataset of video and parquet is touched, not before."""

from __future__ import annotations

import importlib
from typing import Any

from edgevla.errors import Usage, explain


def library(name: str) -> Any:
    """The module, such as `av` or `pyarrow.parquet`. Raises Usage where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        todo = 'install it: pip install "edgevla[data]"'
        raise Usage(explain(f"{name} reads and writes LeRobot datasets", "it installed", str(error), todo)) from error
