"""`edgevla bundle pack` and `unpack`, and what the other commands need to take a folder or an archive alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from edgevla.bundle import Bundle, open_bundle
from edgevla.cli.output import JSON_OPTION, megabytes, print_json, require_writable, say
from edgevla.errors import Usage, explain
from edgevla.trust import archive
from edgevla.trust.keys import load_public
from edgevla.trust.policies import release_meant
from edgevla.trust.store import MAX_STORE_BYTES, TrustStore, parse_store, pinned

PATH_ARGUMENT = typer.Argument(..., help="Folder NAME.bundle, or archive NAME.tar.zst")
KEY_OPTION = typer.Option([], "--key", help="Public key that must have signed it; more than one: one of them.")
TRUST_OPTION = typer.Option(None, "--trust", help="trust.json: one of its keys must have signed it.")


def pack(
    bundle: str = typer.Argument(..., help="Folder NAME.bundle"),
    output: Path = typer.Option(..., "-o", "--output", help="Archive to write, NAME.tar.zst"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a bundle as one file; the same bundle always gives the same bytes.

    Example: edgevla bundle pack out/student.bundle -o out/student.tar.zst
    """
    require_writable(output)
    envelope = archive.pack(open_bundle(bundle).path, output)
    size_bytes = output.stat().st_size
    if as_json:
        print_json({"archive": str(output), "id": envelope.id, "bytes": size_bytes, "unpacked": envelope.total_bytes})
        return
    say(f"{output}: {megabytes(size_bytes)} for {megabytes(envelope.total_bytes)}, release id {envelope.id}", "green")


def unpack(
    path: Path = typer.Argument(..., help="Archive NAME.tar.zst"),
    output: Path = typer.Option(..., "-o", "--output", help="Folder to write, NAME.bundle; not there yet"),
    key: list[Path] = KEY_OPTION,
    trust: Path | None = TRUST_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write an archive's bundle into a folder; with --key or --trust only if it is signed so.

    Example: edgevla bundle unpack out/student.tar.zst -o out/copy.bundle --key release.pub
    """
    if output.suffix != ".bundle":
        raise Usage(explain("a bundle's folder needs its ending", "NAME.bundle", output.name, "rename -o"))
    store = store_of(key, trust)
    envelope = archive.unpack(path, output, check_of(store))
    if as_json:
        print_json({"bundle": str(output), "id": envelope.id, "judged": store is not None})
        return
    how = "signature verified" if store else "signature not judged, pass --key or --trust"
    say(f"{output}: {len(envelope.files)} files, release id {envelope.id}, {how}", "green")


@contextmanager
def opened(path: str, store: TrustStore | None = None) -> Iterator[Bundle]:
    """The bundle in a folder, or in an archive that is unpacked for as long as this lasts.

    With a store its signature is judged before anything else is read. Raises BadInput.
    """
    if not path.endswith(archive.SUFFIX):
        yield open_bundle(path, check_of(store))
        return
    with tempfile.TemporaryDirectory(prefix="edgevla-") as folder:
        root = Path(folder, "unpacked.bundle")
        archive.unpack(Path(path), root, check_of(store))
        yield open_bundle(root)


def check_of(store: TrustStore | None) -> archive.Check:
    """What judges the head of a bundle: the store's keys, or nothing but the form."""
    return archive.unsigned if store is None else release_meant(store.check)


def store_of(keys: list[Path], trust: Path | None) -> TrustStore | None:
    """The keys of the two options; None: none was named. Raises Usage, BadInput, OSError."""
    if keys and trust is not None:
        raise Usage(explain("--key and --trust exclude each other", "one of them", "both", "leave one out"))
    if trust is not None:
        return load_store(trust)
    return pinned([load_public(path) for path in keys]) if keys else None


def load_store(path: Path) -> TrustStore:
    """The trust store in that file. Raises BadInput, OSError."""
    with path.open("rb") as file:
        return parse_store(file.read(MAX_STORE_BYTES + 1), str(path))
