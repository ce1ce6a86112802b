"""Read ``report.json`` defensively: a missing part is None (said as such), a broken one is one error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import BadInput, explain

Assets = Mapping[str, NDArray[Any]] | Path | None
MAX_JSON_BYTES = 256 << 20
MAX_ARRAY_BYTES = 256 << 20


def read_report(path: Path) -> dict[str, Any]:
    """Parse a report.json; BadInput if it is not there, too large or not a JSON object."""
    todo = "run `make demo`, or give the path of its report.json"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BadInput(explain(f"{path} is too large", f"<= {MAX_JSON_BYTES} bytes", path.stat().st_size, todo))
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(explain(f"cannot read {path}", "a report.json", error.strerror, todo)) from None
    except ValueError as error:
        raise BadInput(explain(f"{path} is not valid JSON", "a report.json", error, todo)) from None
    if not isinstance(report, dict):
        raise BadInput(explain(f"{path} is not a report", "a JSON object", type(report).__name__, todo))
    return report


def get(report: Any, path: str) -> Any:
    """``get(report, "models.teacher.bytes")``; None where any part is absent. Keys may not contain a dot."""
    value = report
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def number(report: Any, path: str) -> float | None:
    """A finite number, or None. NaN is as missing as no entry at all; a bool or a text is not a number."""
    return as_number(get(report, path))


def as_number(value: Any) -> float | None:
    """The value as a finite float, or None."""
    usable = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def rows(report: Any, path: str) -> list[Mapping[str, Any]]:
    """A list of objects; empty when absent."""
    value = get(report, path)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise BadInput(explain(f"report: {path} has the wrong shape", "a list of objects", type(value).__name__, TODO))
    return value


TODO = "compare with bench/report/schema.md"


def array(report: Any, path: str, assets: Assets) -> NDArray[Any] | None:
    """A numeric array: inline list, or ``{"file": "name.npy"}`` in ``assets``; None when absent or empty."""
    return as_array(get(report, path), assets, path)


def as_array(value: Any, assets: Assets, path: str) -> NDArray[Any] | None:
    """Like ``array``, for a value already in hand."""
    if isinstance(value, Mapping) and set(value) == {"file"}:
        value = _asset(str(value["file"]), assets)
    if value is None:
        return None
    try:
        found = np.asarray(value)
    except ValueError:
        found = np.empty(0, object)
    if found.dtype.kind not in "iuf" and found.size:
        raise BadInput(explain(f"report: {path} is no array", "numbers", str(found.dtype), TODO))
    return found if found.size else None


def _asset(name: str, assets: Assets) -> NDArray[Any] | None:
    """An array by file name. Only plain names: nothing outside the report's folder is ever read."""
    if isinstance(assets, Mapping):
        return assets.get(name)
    if assets is None:
        return None
    if Path(name).name != name or not name.endswith(".npy"):
        raise BadInput(explain("report names an unsafe file", "a plain NAME.npy beside it", name, TODO))
    path = assets / name
    if not path.is_file():
        return None
    if path.is_symlink() or path.stat().st_size > MAX_ARRAY_BYTES:
        raise BadInput(explain(f"{path} is not read", f"a plain file of <= {MAX_ARRAY_BYTES} bytes", "not so", TODO))
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(explain(f"{path} is no .npy array", "numpy format, no pickle", error, TODO)) from None


def indices(values: Any) -> list[int]:
    """Tick numbers out of a list; anything else is left out."""
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping)):
        return []
    return [int(v) for v in values if as_number(v) is not None]
