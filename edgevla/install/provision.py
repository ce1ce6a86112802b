"""Bring the installer and the first trusted key to a bare robot, from an unpacked bundle.

    python3 -I NAME.bundle/runtime/provision.py --key release.pub

Runs before anything is installed: Python 3.10 and its standard library. Before it is started, the bundle's manifest is
verified with stock openssl (docs/bundle.md); this does so once more, then verifies the installer's wheels by the
manifest, and only then imports the rest of itself (`edgevla.install.agent_files`) from edgevla's own wheel.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # this file's folder: what lies there beside it is in no manifest, json.py say

import argparse
import base64
import binascii
import contextlib
import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_WHEEL_BYTES = 1024 * 1024 * 1024  # as packed, and as unpacked
_DER_HEAD = bytes.fromhex("302a300506032b6570032100")  # SPKI of Ed25519 (RFC 8410); 32 bytes follow
_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_WHEEL = re.compile(r"runtime/wheels/[A-Za-z0-9_][A-Za-z0-9._-]*\.whl")


class Refusal(Exception):
    """It is not done; the text says why. `code` as everywhere in edgevla: 1 refused, 4 bad input."""

    def __init__(self, text: str, code: int = 4) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Key:
    """A public key."""

    der: bytes

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @property
    def id(self) -> str:
        return self.fingerprint[:16]

    @property
    def pem(self) -> str:
        return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(self.der).decode()}\n-----END PUBLIC KEY-----\n"


@dataclass(frozen=True)
class Bundle:
    """What the manifest says of the installer's wheels."""

    folder: Path
    id: str
    arch: str
    python: str
    agent_wheels: tuple[tuple[str, str, int], ...]  # path, sha256, bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _options(arguments)
    try:
        bundle = read_bundle(options.bundle)
        key = read_key(options.key)
        check_signature(bundle.folder, key, options.no_openssl)
        check_machine(bundle)
        wheels = check_wheels(bundle)
        confirm(key, options.fingerprint)
        _from_the_wheel(wheels).provision(options.prefix, bundle.id, wheels, key.id, key.pem)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"error: {error.filename or 'the disk'}: {error.strerror or error}", file=sys.stderr)
        return 4
    except Exception as error:  # of the imported part: it carries its exit code and is one clear message
        if not isinstance(code := getattr(error, "exit_code", None), int):
            raise
        print(f"error: {error}", file=sys.stderr)
        return code
    return 0


def _from_the_wheel(wheels: Sequence[Path]) -> Any:
    """The part that writes, from the wheel that was just verified: importing needs no unpacking."""
    own = [str(wheel) for wheel in wheels if wheel.name.startswith("edgevla-")]
    sys.path[:0] = own
    sys.dont_write_bytecode = True
    return importlib.import_module("edgevla.install.agent_files")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="provision.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--key", type=Path, required=True, help="public key in PEM, brought here by a way you trust")
    parser.add_argument("--prefix", type=Path, default=Path("/opt/edgevla"), help="default: %(default)s")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parent.parent, help="unpacked bundle")
    parser.add_argument("--fingerprint", help="of the key, as it was told to you; without it you are asked")
    text = "there is no openssl here, and the signature was verified where the bundle came from"
    parser.add_argument("--no-openssl", action="store_true", help=text)
    return parser.parse_args(arguments)


def read_bundle(folder: Path) -> Bundle:
    """The bundle's release. Raises Refusal."""
    with (folder / "manifest.json").open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        data: Any = json.loads(raw) if len(raw) <= MAX_MANIFEST_BYTES else None
        release, files = data["release"], data["files"]
        if release["envelope"] != 1:
            raise Refusal(f"{folder}: written by a newer edgevla, in a form that this provision.py does not know")
        wheels = tuple(_wheel_entry(path, files[path]) for path in release["agent_wheels"])
        found = Bundle(
            folder, hashlib.sha256(raw).hexdigest()[:32], str(release["arch"]), str(release["python"]), wheels
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refusal(
            f"{folder}/manifest.json is not that of a bundle for a robot: `edgevla bundle build` makes one"
        ) from None
    if not wheels:
        raise Refusal(f"{folder}: the bundle brings no installer")
    return found


def _wheel_entry(path: object, entry: Mapping[str, Any]) -> tuple[str, str, int]:
    if not isinstance(path, str) or not _WHEEL.fullmatch(path):
        raise ValueError(path)
    return path, str(entry["sha256"]), int(entry["bytes"])


def read_key(path: Path) -> Key:
    """An Ed25519 public key. Raises Refusal."""
    with path.open("rb") as file:
        found = _PEM.fullmatch(file.read(16 * 1024).decode("ascii", "replace"))
    with contextlib.suppress(binascii.Error):
        der = base64.b64decode("".join(found[1].split()), validate=True) if found else b""
        if der.startswith(_DER_HEAD) and len(der) == len(_DER_HEAD) + 32:
            return Key(der)
    raise Refusal(f"{path} is no Ed25519 public key in PEM (BEGIN PUBLIC KEY)")


def check_signature(folder: Path, key: Key, no_openssl: bool) -> None:
    """The manifest is signed by that key. Raises Refusal."""
    manifest, signature = folder / "manifest.json", folder / "manifest.sig"
    if not signature.is_file():
        raise Refusal(f"{folder} is not signed: `edgevla bundle sign` does that where it was made")
    openssl = shutil.which("openssl")
    if openssl is None and no_openssl:
        return
    if openssl is None:
        raise Refusal("no openssl here to verify the signature with; --no-openssl, if that was done elsewhere", 1)
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(key.pem.encode())  # the key that is pinned, and no file that may change meanwhile
    with os.fdopen(read_end, "rb"):
        words = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", f"/dev/fd/{read_end}", "-rawin"]
        words += ["-in", str(manifest), "-sigfile", str(signature)]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False, pass_fds=(read_end,))
    if done.returncode != 0:
        raise Refusal(f"{folder} is not signed by the key {key.id}, or its manifest was altered: do not use it")


def check_machine(bundle: Bundle) -> None:
    """The wheels are for this computer. Raises Refusal."""
    here = platform.machine(), "{}.{}".format(*sys.version_info)
    if here != (bundle.arch, bundle.python):
        wanted = f"{bundle.arch} with Python {bundle.python}"
        raise Refusal(
            f"the bundle is for {wanted}, this is {here[0]} with Python {here[1]}: build it for this target", 1
        )


def check_wheels(bundle: Bundle) -> list[Path]:
    """The installer's wheels, each of the size and sha256 that the manifest says. Raises Refusal."""
    found = []
    for name, sha256, size in bundle.agent_wheels:
        path = bundle.folder / name
        if path.stat().st_size != size or size > MAX_WHEEL_BYTES or _sha256(path) != sha256:
            raise Refusal(f"{path} was altered: get the bundle again")
        found.append(path)
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def confirm(key: Key, told: str | None) -> None:
    """Somebody compared the fingerprint. Raises Refusal."""
    print(f"fingerprint of the key (sha256): {key.fingerprint}")
    if told is not None:
        if re.sub(r"[\s:]", "", told).lower() != key.fingerprint:
            raise Refusal("the key has another fingerprint than --fingerprint says: do not use it", 1)
        return
    try:
        answer = input("Is it the one that you were told by another way? Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip() != "yes":
        raise Refusal("not confirmed; nothing was changed", 1)


if __name__ == "__main__":
    sys.exit(main())
