"""`edgevla bundle`: show, verify and compare; what makes and moves bundles stands in modules of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

import profiles
from edgevla.bundle import Bundle
from edgevla.bundle.diff import differences
from edgevla.bundle.verify import Verdict, verify_golden, verify_graphs
from edgevla.cli.archives import KEY_OPTION, PATH_ARGUMENT, TRUST_OPTION, opened, pack, store_of, unpack
from edgevla.cli.building import build
from edgevla.cli.bundle_facts import facts_of, signature_of
from edgevla.cli.output import JSON_OPTION, kept, megabytes, print_json, print_table, say
from edgevla.cli.signing import keygen, sign, trust
from edgevla.errors import Refused
from edgevla.policy.engines import runs_on_of
from edgevla.policy.providers import ON_CPU
from edgevla.trust.envelope import release_id
from edgevla.trust.store import TrustStore

TARGET_OPTION = typer.Option("", "--target", help="Name or .toml: on the providers of this target")

app = typer.Typer(
    help="Show, verify, compare, build, sign or pack a bundle.",
    epilog="Example: edgevla bundle show out/student.bundle",
    no_args_is_help=True,
)


@app.command()
def show(
    path: str = PATH_ARGUMENT,
    key: list[Path] = KEY_OPTION,
    trust: Path | None = TRUST_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Print what is in a bundle, after every hash was found right.

    Example: edgevla bundle show out/student.bundle
    """
    store = store_of(key, trust)
    with opened(path, store) as bundle:
        if as_json:
            print_json(_summary(path, bundle, store))
            return
        manifest = bundle.manifest
        print_table(f"{manifest.name} · {path}", ["what", "value"], facts_of(bundle, store))
        rows = [(c.name, c.kind, c.space, c.frame, c.unit, c.scale, c.minimum, c.maximum) for c in manifest.channels]
        print_table("action", ["channel", "kind", "space", "frame", "unit", "scale", "minimum", "maximum"], rows)
        files = [(name, megabytes(entry.bytes), entry.sha256[:16]) for name, entry in manifest.files.items()]
        print_table("files", ["file", "size", "sha256"], files)


@app.command()
def verify(
    path: str = PATH_ARGUMENT,
    key: list[Path] = KEY_OPTION,
    trust: Path | None = TRUST_OPTION,
    target: str = TARGET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Check every hash, load every graph, and compare every golden vector with what this machine computes.

    With --key or --trust the signature is judged first, before anything of the bundle is used. With --target the graphs
    run on the providers of that target, which must be those that really ran them; without it on the CPU.

    Example: edgevla bundle verify out/student.bundle --key release.pub
    """
    store = store_of(key, trust)
    with opened(path, store) as bundle:
        runs_on = runs_on_of(profiles.load_target(target), bundle.path) if target else ON_CPU
        verdicts = [*_signature(bundle, store), _hashes(bundle), *verify_graphs(bundle, runs_on)]
        if all(verdict.kept for verdict in verdicts):  # graphs of another interface cannot run the golden vectors
            verdicts += verify_golden(bundle, runs_on)
        signature = signature_of(bundle, store)
    broken = [verdict for verdict in verdicts if not verdict.kept]
    if as_json:
        rows = [asdict(verdict) for verdict in verdicts]
        print_json({"bundle": path, "kept": not broken, "signature": signature, "verdicts": rows})
    else:
        table = [(v.name, v.expected, v.got, kept(v.kept)) for v in verdicts]
        print_table(f"verify {path}", ["what", "expected", "got", ""], table)
    if broken:
        first = f"{broken[0].name}: {broken[0].got}"
        raise Refused(f"{len(broken)} of {len(verdicts)} checks are broken, the first: {first}")
    if not as_json:
        unjudged = "" if store else "; the signature was not judged, pass --key or --trust"
        say(f"{len(verdicts)} checks kept{unjudged}", "green")


@app.command()
def diff(
    before: str = typer.Argument(..., help="Folder or archive of the one bundle"),
    after: str = typer.Argument(..., help="Folder or archive of the other"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what changed from one bundle to another: timing, channels, targets, wheels, counter, files.

    Example: edgevla bundle diff out/student.bundle out/release.tar.zst
    """
    with opened(before) as old, opened(after) as new:
        changes = differences(old.manifest, new.manifest)
        ids = [release_id(bundle.head.manifest) for bundle in (old, new)]
        sizes = [bundle.total_bytes() for bundle in (old, new)]
    if as_json:
        print_json({"ids": ids, "bytes": sizes, "changes": [asdict(change) for change in changes]})
        return
    if changes:
        rows = [(change.subject, change.what, change.before, change.after) for change in changes]
        print_table(f"{before} -> {after}", ["of", "what", "before", "after"], rows)
    say(f"{len(changes)} differences, {megabytes(sizes[0])} -> {megabytes(sizes[1])}, release id {ids[0]} -> {ids[1]}")


for command in (build, keygen, sign, trust, pack, unpack):
    app.command()(command)


def _signature(bundle: Bundle, store: TrustStore | None) -> list[Verdict]:
    """A row for the signature that `opened` judged; none where nobody said by which keys."""
    if store is None:
        return []
    name = store.judge(bundle.head.manifest, bundle.head.signature)
    return [Verdict("signature", "of a trusted key", f"key {name}", True)]


def _hashes(bundle: Bundle) -> Verdict:
    count = len(bundle.manifest.files)
    return Verdict("sha256 of every file", f"{count} files", f"{count} files, {megabytes(bundle.total_bytes())}", True)


def _summary(path: str, bundle: Bundle, store: TrustStore | None) -> dict[str, Any]:
    sizes = {
        "all": bundle.total_bytes(),
        "model": bundle.total_bytes("model/"),
        "float": bundle.total_bytes("float/"),
    }
    facts = {"path": path, "id": release_id(bundle.head.manifest), "signature": signature_of(bundle, store)}
    return {**facts, "bytes": sizes, "manifest": asdict(bundle.manifest)}
