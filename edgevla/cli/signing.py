"""`edgevla bundle keygen`, `sign` and `trust`: who made a bundle, and whom a robot shall believe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from edgevla.cli.archives import load_store
from edgevla.cli.output import JSON_OPTION, print_json, print_table, require_writable, say
from edgevla.errors import BadInput, Usage, explain
from edgevla.trust.envelope import MANIFEST_SIG
from edgevla.trust.files import write_whole
from edgevla.trust.keys import PublicKey, generate, load_private, load_public
from edgevla.trust.signing import sign_folder
from edgevla.trust.store import TrustStore, pinned

MAX_PASSPHRASE_BYTES = 1024
FD_OPTION = typer.Option(None, "--passphrase-fd", min=0, help="Read the key's passphrase from this file descriptor.")


def _no_output_option(value: str) -> None:
    """Raises Usage where somebody gave -o, or a name that begins like it."""
    if value:
        expected = "the key's name as the only argument, its first character no '-'"
        todo = "edgevla bundle keygen release.key"
        raise Usage(explain("keygen has no option -o", expected, f"-o {value}", todo))


def keygen(
    path: Path = typer.Argument(..., help="Private key to make, NAME.key; the public one is NAME.pub beside it"),
    passphrase: bool = typer.Option(False, "--passphrase", help="Ask for a passphrase that the key is locked with."),
    passphrase_fd: int | None = FD_OPTION,
    _: str = typer.Option("", "-o", hidden=True, is_eager=True, callback=_no_output_option),
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a key pair (Ed25519) to sign bundles with; nothing is ever overwritten.

    Example: edgevla bundle keygen release.key
    """
    if not path.name or path.name.startswith("-"):
        expected = "NAME.key, its first character no '-'"
        raise Usage(explain("a key needs a name", expected, repr(str(path)), "edgevla bundle keygen release.key"))
    public_path = path.with_suffix(".pub")
    if public_path == path:
        raise Usage(explain("that is the name of the public key", "NAME.key", path.name, "choose another ending"))
    for wanted in (path, public_path):
        require_writable(wanted)
    asked = read_passphrase(passphrase_fd, again=True) if passphrase or passphrase_fd is not None else None
    key = generate(path, public_path, asked)
    if as_json:
        print_json({"private": str(path), "public": str(public_path), **_told(key)})
        return
    rows = [("private key", f"{path}, {'locked' if asked else 'not locked'}: keep it, and a copy, away from robots")]
    rows += [("public key", str(public_path)), ("id", key.id), ("fingerprint", key.fingerprint)]
    print_table("a new key", ["what", "value"], rows)


def sign(
    bundle: Path = typer.Argument(..., help="Folder NAME.bundle"),
    key: Path = typer.Option(..., "--key", help="Private key, as keygen writes it"),
    passphrase_fd: int | None = FD_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Sign a bundle: writes manifest.sig into it, over manifest.json, which holds the hash of every file.

    Example: edgevla bundle sign out/student.bundle --key release.key
    """
    if not bundle.is_dir():
        expected = "a folder NAME.bundle; sign first, then pack"
        raise BadInput(explain(f"{bundle} cannot be signed", expected, "no folder", "check the path"))
    private = load_private(key, lambda: read_passphrase(passphrase_fd, again=False))
    envelope = sign_folder(bundle, private)
    if as_json:
        print_json({"bundle": str(bundle), "release_id": envelope.id, **_told(private.public)})
        return
    say(f"{bundle / MANIFEST_SIG}: release id {envelope.id}, signed by {private.public.id}", "green")


def trust(
    path: Path = typer.Argument(..., help="trust.json to show, make or change"),
    add: list[Path] = typer.Option([], "--add", help="Public key to trust from now on."),
    revoke: list[str] = typer.Option([], "--revoke", help="Id of a key, or its file, to trust never again."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show a trust store, or write its next version: its serial rises by one, and a revoked key never comes back.

    Example: edgevla bundle trust trust.json --add next.pub --revoke release.pub
    """
    store = _changed(path, [load_public(one) for one in add], [_id_of(one) for one in revoke])
    if add or revoke:
        require_writable(path)
        write_whole(path, store.to_bytes())
    if as_json:
        keys = [{**_told(key), "revoked": name in store.revoked} for name, key in store.keys.items()]
        print_json({"path": str(path), "serial": store.serial, "keys": keys, "revoked": store.revoked})
        return
    known = [
        (key.id, "revoked" if key.id in store.revoked else "trusted", key.fingerprint) for key in store.keys.values()
    ]
    rows = [*known, *((name, "revoked", "not known") for name in store.revoked if name not in store.keys)]
    print_table(f"{path}, serial {store.serial}", ["key", "state", "fingerprint"], rows)


def _changed(path: Path, add: list[PublicKey], revoke: list[str]) -> TrustStore:
    """The store in the file with these changes; a first one where there is no file and a key to add."""
    if add and not revoke and not path.exists():
        return pinned(add)
    store = load_store(path)
    return store.changed(add, revoke) if add or revoke else store


def _id_of(text: str) -> str:
    """The id of a key that was named by it, or by its file."""
    return load_public(Path(text)).id if Path(text).exists() else text


def _told(key: PublicKey) -> dict[str, Any]:
    return {"id": key.id, "fingerprint": key.fingerprint}


def read_passphrase(descriptor: int | None, again: bool) -> bytes:
    """From the descriptor, one line, or asked for at the terminal. Raises Usage."""
    if descriptor is None:
        if not sys.stdin.isatty():
            todo = "pass --passphrase-fd N, or call it in a terminal"
            raise Usage(explain("the key needs its passphrase", "a terminal to ask at", "none", todo))
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=again, err=True)).encode()
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            line = file.readline(MAX_PASSPHRASE_BYTES + 1).rstrip(b"\r\n")
    except OSError as error:
        todo = "open it for the command: `... --passphrase-fd 3 3< FILE`"
        raise Usage(
            explain(f"no passphrase on descriptor {descriptor}", "one to read from", error.strerror, todo)
        ) from error
    if not 0 < len(line) <= MAX_PASSPHRASE_BYTES:
        expected = f"a line of 1 to {MAX_PASSPHRASE_BYTES} bytes"
        raise Usage(explain(f"no passphrase on descriptor {descriptor}", expected, f"{len(line)} bytes", "check it"))
    return line
