"""What the commands that judge a policy have in common: their options, their end, and what they ask of the files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.errors import BadInput, Usage, explain
from edgevla.telemetry.host import describe_host
from examples.metaworld.mt.tasks import SETS
from export.shards import hash_of
from export.structures.teacher import WEIGHTS

RESULTS, CONFIG = "results", "config.json"


def parser_of(words: str | None, out: str = RESULTS) -> argparse.ArgumentParser:
    """A parser with --bundle, --set and -o. words: the module's docstring; out: see `out_of`."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="of the student, int8")
    parser.add_argument("--set", choices=SETS, default="mt10", help="of tasks (default %(default)s)")
    parser.add_argument("-o", "--out", type=Path, help=f"folder (default out/SET/{out})")
    return parser


def out_of(asked: argparse.Namespace, out: str = RESULTS) -> Path:
    """Where to write, made if it is not there: what is committed is never what a command writes to unasked.

    Raises BadInput: nothing can be written there, said before hours of play and not after.
    """
    folder: Path = asked.out or Path("out") / asked.set / out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise BadInput(explain("-o", "a folder that can be written", error, "pass another -o")) from None
    if not writable:
        raise BadInput(explain("-o", "a folder that can be written", f"{folder} is read-only", "pass another -o"))
    return folder


def add_teacher(parser: argparse.ArgumentParser) -> None:
    """--teacher, and --recount in its place."""
    parser.add_argument("--teacher", type=Path, help="folder of the teacher that the bundle was made from")
    parser.add_argument("--recount", action="store_true", help="from the outcomes that are there, playing nothing")


def require_given(asked: argparse.Namespace, *names: str) -> None:
    """Raises Usage: one of the options is missing."""
    lacking = [f"--{name}" for name in names if getattr(asked, name) is None]
    if lacking:
        raise Usage(explain("what to play", " and ".join(f"--{name}" for name in names), "no " + ", ".join(lacking),
                            "pass it; --help has an example"))  # fmt: skip


def require_teacher(teacher: Path, bundle: Path) -> Bundle:
    """The opened bundle, which was made from this teacher. Raises BadInput: from another, or either is unusable."""
    opened = open_bundle(bundle)
    try:
        got = hash_of(teacher / WEIGHTS)
    except (OSError, ValueError) as error:
        raise BadInput(explain("teacher folder", WEIGHTS, f"{teacher}: {error}", "check the path")) from None
    expected = opened.manifest.teacher.sha256
    if got != expected:
        told = f"weights {got[:16]} in {teacher}"
        raise BadInput(explain(f"teacher of {bundle.name}", f"weights {expected[:16]}", told, "pass that one"))
    _require_config(teacher / CONFIG)
    return opened


def _require_config(path: Path) -> None:
    """Here, and not by each of the processes that play."""
    try:
        if "schema" not in dict(json.loads(path.read_text(encoding="utf-8"))):
            raise ValueError("no schema in it")
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(explain("teacher folder", CONFIG, f"{path}: {error}", "train it again")) from None


def require_newest(out: Path, newest: dict[str, str], asked: dict[str, str]) -> None:
    """Both by name: what the rows of `out` say played last, and what was asked for. Raises BadInput: they differ."""
    for name, policy in asked.items():
        if newest[name] != policy:
            todo = "pass another -o, or remove them"
            raise BadInput(explain(f"outcomes of {name} in {out}", policy, newest[name], todo))


def host_of(result: Path, played: bool) -> dict[str, Any]:
    """The host of a result: this one, or where nothing was played the one that it names already."""
    then = None if played or not result.exists() else read_result(result).get("host")
    return then or describe_host()


def read_result(path: Path, *keys: str) -> dict[str, Any]:
    """A result that was written before. Raises BadInput: it is not there, no JSON, or has not all of the keys."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not found.keys() >= set(keys):
            raise ValueError(f"no {' or no '.join(keys) or 'object'} in it")
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"{path}", "the result of a run", error, "let the command run first")) from None
    return found


def recount_into(path: Path, there: Mapping[str, Any], counted: Mapping[str, Any]) -> dict[str, Any]:
    """The result that stands in the file with its figures counted again, and in words whether they are the same."""
    changed = [name for name, value in counted.items() if json.loads(json.dumps(value)) != there.get(name)]
    print(f"{path}: {'differed in ' + ', '.join(changed) if changed else 'the same figures as before'}")
    return {**there, **counted}
