"""`edgevla bench submit`: a measurement of a real board, packed, shown, written; or one of somebody else's, checked."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

import profiles
from bench.files import write_text
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import BadInput, Refused, Usage, explain

SUFFIX = ".submission.json"


def submit(
    result: Path | None = typer.Argument(None, metavar="[GUARD.json]", help="As edgevla bench guard writes it"),
    by: str = typer.Option("", "--by", help="The name that the table shall show"),
    name: str = typer.Option("", "--name", help="Of the submission: lower-case letters, digits, dashes"),
    out: Path | None = typer.Option(None, "--out", "-o", help=f"NAME{SUFFIX}"),
    check: Path | None = typer.Option(None, "--check", help="Verify this file instead: schema, histograms, hashes"),
    yes: bool = typer.Option(False, "--yes", "-y", help="Write without asking"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Pack a measurement of this board into one file that can be reviewed; shown before it is written.

    No host or user name, path or serial number goes in. Exit 4: no sound submission.

    Example: edgevla bench submit out/guard.json --by "a lab" --name nano-8-desk
    """
    from bench.submit.document import NAME, checked, packed

    if check is not None:
        found = checked(read(check))
        tell(found, as_json)
        return
    if result is None or not by.strip() or not NAME.fullmatch(name):
        got = f"{result or 'no file'}, --by {by!r}, --name {name!r}"
        raise Usage(explain("what to pack", "GUARD.json --by NAME --name lower-case-letters", got, "say all three"))
    from bench.submit.board import environment

    found = packed(read(result), name, by.strip(), target_sha256(result), environment())
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    private(text)
    tell(found, as_json)
    path = out or Path(name + SUFFIX)
    if not path.name.endswith(SUFFIX):
        raise Usage(explain("the file's name", f"NAME{SUFFIX}", path.name, "pass another --out"))
    if not yes and not typer.confirm(f"Write this to {path.name}?", err=True):
        raise Refused(explain("nothing was written", "a yes", "no", "say yes, or --yes"))
    write_text(path, text)
    if not as_json:
        say(f"{path}: {len(text):,} bytes")


def read(path: Path) -> Any:
    """JSON of bounded size. Raises BadInput."""
    from bench.submit.document import MOST_BYTES

    try:
        size = path.stat().st_size
        most = MOST_BYTES if path.name.endswith(SUFFIX) else 64 * MOST_BYTES
        if size > most:
            raise BadInput(explain(f"{path.name} is too large", f"at most {most} bytes", size, "pack a guarded run"))
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"{path.name} cannot be read", "JSON", error, "pass another file")) from None


def target_sha256(result: Path) -> str:
    """Of the target profile that the run names, as this edgevla reads it. Raises BadInput."""
    named = read(result)
    try:
        target = profiles.load_target(str(named["target"]))
    except (KeyError, TypeError) as error:
        todo = "run the guard again"
        raise BadInput(explain(f"{result.name} names no target", "a guarded run", error, todo)) from None
    text = json.dumps(asdict(target), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def private(text: str) -> None:
    """Raises Refused where this machine's or user's name is in the text. Too short a name would be found anywhere."""
    names = {"host name": socket.gethostname(), "user name": getpass.getuser()}
    words = set(text.replace('"', " ").replace(",", " ").split())
    found = [what for what, word in names.items() if len(word) > 2 and word != "root" and word in words]
    if found:
        todo = "look at what is shown, and pass another --by or --name"
        raise Refused(explain("it would say who you are", "no host or user name", ", ".join(found), todo))


def tell(found: dict[str, Any], as_json: bool) -> None:
    """Everything that the file holds; of histograms their length."""
    if as_json:
        print_json(found)
        return
    around = ("host", "environment", "bundle", "target", "arm", "load", "sound", "unsound_because", "by", "sha256")
    print_table(found["name"], ("what", "in the file"), [(key, json.dumps(found[key])) for key in around])
    body = [
        (
            stage,
            str(told["p50_us"]),
            str(told["p99_us"]),
            str(told["max_us"]),
            str(told["count"]),
            f"{len(told['hdr'])} B",
        )
        for stage, told in found["stages"].items()
    ]
    print_table("stages, us", ("stage", "p50", "p99", "largest", "samples", "histogram"), body)
    verdicts = {True: "kept", False: "BROKEN", None: "not judged"}
    claims = [
        (c["name"], c["kind"], str(c["value_us"]), str(c["limit_us"]), verdicts[c["kept"]]) for c in found["claims"]
    ]
    print_table("claims, us", ("claim", "kind", "value", "limit", ""), claims)
