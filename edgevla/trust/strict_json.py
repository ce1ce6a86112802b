"""JSON from outside, read strictly: UTF-8, no NaN, no key said twice."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain

AGAIN = "get the bundle again from where it was made, or export it again"


def parse_json(raw: bytes, where: str, todo: str = AGAIN) -> Any:
    """JSON without NaN, Infinity or a key said twice. Raises BadInput naming `where`."""

    def constant(token: str) -> NoReturn:
        raise ValueError(f"{token} is no JSON number")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(items)
        if len(table) != len(items):
            raise ValueError("a key is said twice")
        return table

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise BadInput(explain(f"{where} is not valid JSON", "UTF-8 JSON", error, todo)) from error
