"""What a submission holds, and what makes one sound. Pure.

Only what is listed here is taken from a result: everything else stays on the board. Words are short and plain, without
a slash, so that no path, address or name of a file can be among them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.verify.differ import compared
from bench.verify.recount import guard
from edgevla.errors import BadInput, explain

SCHEMA = "edgevla.submission/1"
MOST_BYTES, MOST_TEXT, MOST_HDR = 256 * 1024, 200, 64 * 1024
HOST = ("cpu", "arch", "cores_usable", "cores_total", "flags", "memory_mb", "kernel", "preempt_rt", "python",
        "packages", "virtual", "measured_at")  # fmt: skip
CLAIM = ("name", "stage", "kind", "limit_us", "value_us", "samples", "effective_samples", "confidence", "quantile",
         "kept", "slack_us")  # fmt: skip
STAGE = ("p50_us", "p99_us", "p999_us", "max_us", "count", "effective_samples", "autocorrelation_ticks", "hdr")
KEYS = ("schema", "name", "by", "kind", "host", "environment", "bundle", "target", "arm", "load", "claims", "sound",
        "unsound_because", "stages", "sha256")  # fmt: skip
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[/\\@\x00-\x1f]|~")


def packed(
    found: Mapping[str, Any], name: str, by: str, target_sha256: str, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """A submission from a document of `edgevla bench guard`. Raises BadInput."""
    if found.get("schema") != "edgevla.guard/1":
        raise BadInput(explain("that is no guarded run", "edgevla.guard/1", found.get("schema"), "pass guard.json"))
    try:
        document = {
            "schema": SCHEMA,
            "name": name,
            "by": by,
            "kind": "guard",
            "host": {key: plain(found["host"].get(key)) for key in HOST},
            "environment": dict(environment),
            "bundle": {key: plain(found["bundle"][key]) for key in ("name", "sha256")},
            "target": {"name": plain(found["target"]), "sha256": target_sha256},
            "arm": plain(found["arm"]),
            "load": plain(found["load"]),
            "claims": [{key: claim.get(key) for key in CLAIM} for claim in found["claims"]],
            "sound": found["sound"],
            "unsound_because": plain(found["unsound_because"]),
            "stages": {stage: {key: told.get(key) for key in STAGE} for stage, told in found["stages"].items()},
        }
    except (KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise BadInput(explain("the guarded run is not whole", "every part", got, "run the guard again")) from None
    document["sha256"] = sha256_of(document)
    return checked(document)


def plain(value: Any) -> Any:
    """Without what a path is made of."""
    if isinstance(value, str):
        return re.sub(r"\S*[/\\~@]\S*", "(removed)", value)[:MOST_TEXT]
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def sha256_of(document: Mapping[str, Any]) -> str:
    """Over everything but the hash itself, in one canonical form."""
    rest = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def checked(document: Any) -> dict[str, Any]:
    """The document itself where it is a sound submission. Raises BadInput, one reason at a time."""
    if not isinstance(document, dict):
        raise _wrong("schema", SCHEMA, type(document).__name__)
    if document.get("schema") != SCHEMA:
        raise _wrong("schema", SCHEMA, document.get("schema"))
    if set(document) != set(KEYS):
        raise _wrong("its parts", ", ".join(KEYS), ", ".join(sorted(set(document) ^ set(KEYS))) + " differ")
    if not isinstance(document["name"], str) or not NAME.fullmatch(document["name"]):
        raise _wrong("its name", "lower-case letters, digits, dashes", document["name"])
    words = {key: value for key, value in document.items() if key != "schema"}
    for place, text in _texts(words, ""):
        most = MOST_HDR if place.endswith(".hdr") else MOST_TEXT
        if len(text) > most or (not place.endswith(".hdr") and _PATH.search(text)):
            raise _wrong(place, f"plain words, at most {most} characters", repr(text[:60]))
    try:
        hashes = [document["bundle"]["sha256"], document["target"]["sha256"]]
        if not all(isinstance(one, str) and _HASH.fullmatch(one) for one in hashes):
            raise _wrong("hashes of bundle and target", "64 hexadecimal digits each", hashes)
        if set(document["host"]) != set(HOST):
            raise _wrong("host", ", ".join(HOST), ", ".join(document["host"]))
        found = compared(guard_part(document), document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _wrong("its parts", "as `edgevla bench submit` writes them", f"{type(error).__name__}: {error}") from None
    if found.differences:
        raise _wrong("figures", "what the histograms say", found.differences[0])
    if document["sha256"] != sha256_of(document):
        raise _wrong("its hash", sha256_of(document), document["sha256"])
    return document


def guard_part(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What its own histograms say of it. Raises BadInput for a histogram that cannot be read."""
    return guard(Path(), document)


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{place} (key)", str(key)
            yield from _texts(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{place}[{index}]")


def _wrong(what: str, expected: Any, got: Any) -> BadInput:
    return BadInput(explain(f"no sound submission: {what}", expected, got, "pack it again with edgevla bench submit"))
