"""The envelope: the part of manifest.json that every version keeps, so that an older installer takes a newer bundle.

Schema number, name, files, release; other keys are ignored here and judged by `edgevla.bundle.manifest`.
Pure and standard library only: it runs on the robot before anything of a bundle is trusted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain
from edgevla.trust.strict_json import AGAIN, parse_json
from edgevla.trust.words import shown

MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"  # `sha256sum -c manifest.sha256` checks it without edgevla
MANIFEST_SIG = "manifest.sig"  # `openssl pkeyutl -verify` checks it without edgevla
HEAD = (MANIFEST, MANIFEST_SUM, MANIFEST_SIG)  # what `files` never lists
TRUST_FILE = "trust/trust.json"  # a trust update that a release may carry
SCHEMA_OF_POLICY, SCHEMA_OF_RELEASE = 2, 3  # the oldest that is read; the first with a `release` table
ENVELOPE = 1
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_FILES = 4096
MAX_FILE_BYTES = 8 * 1024**3 - 1  # what a tar header can say in octal
MAX_TOTAL_BYTES = 16 * 1024**3
MAX_COUNTER = 2**53 - 1  # exact in every JSON reader
ID_DIGITS = 32

_SCHEMA = re.compile(r"edgevla\.bundle/([1-9][0-9]{0,5})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]{0,127}")  # + in versions of wheels, @ in systemd's templates
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARCH = re.compile(r"[a-z0-9_]{1,32}")
_PYTHON = re.compile(r"[1-9]\.[0-9]{1,3}")
_NEWER = "update edgevla on this machine, or build the bundle with the version that is on it"


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str  # 64 hexadecimal digits
    bytes: int


@dataclass(frozen=True)
class Release:
    """What makes a bundle something that a robot installs."""

    counter: int  # >= 1; a robot takes none below the highest that was good on it
    target: str  # name of the target profile; the profile itself is profiles/target.toml
    arch: str  # as `uname -m` says it
    python: str  # "3.10"
    wheels: tuple[str, ...]  # paths in `files`, in the order they are installed
    agent_wheels: tuple[str, ...]  # those of them that the installer itself runs from
    needs_gpu_wheel: bool  # one of them must be NVIDIA's own onnxruntime-gpu
    envelope: int = ENVELOPE


@dataclass(frozen=True)
class Envelope:
    """What an installer must know of a bundle, whatever wrote it."""

    schema: int
    name: str
    files: Mapping[str, FileEntry]  # relative path -> what it must be
    release: Release | None  # None: a policy without what a robot needs to run it
    id: str  # the release id: sha256 of manifest.json, its first 32 hexadecimal digits

    @property
    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())


def parse_envelope(raw: bytes) -> Envelope:
    """Bytes of manifest.json -> its envelope. Raises BadInput naming the key that is wrong."""
    if len(raw) > MAX_MANIFEST_BYTES:
        _fail("size", f"{MAX_MANIFEST_BYTES} bytes at most", len(raw))
    data = parse_json(raw, MANIFEST)
    if type(data) is not dict:
        raise BadInput(explain(f"{MANIFEST} is wrong", "a table", type(data).__name__, AGAIN))
    schema = _schema(data)
    files = _files(data)
    return Envelope(
        schema=schema,
        name=_matching(data, "name", _NAME, "a name of letters, digits, '.', '_', '-'"),
        files=files,
        release=_release(data, schema, files),
        id=release_id(raw),
    )


def release_id(raw: bytes) -> str:
    """The id of the release whose manifest.json has those bytes."""
    return hashlib.sha256(raw).hexdigest()[:ID_DIGITS]


def sum_line(raw: bytes) -> bytes:
    """Content of manifest.sha256, as `sha256sum -c` reads it."""
    return f"{hashlib.sha256(raw).hexdigest()}  {MANIFEST}\n".encode()


def check_path(path: str) -> str:
    """A plain relative path inside the bundle, or BadInput: no '..', no root, no odd characters."""
    parts = path.split("/")
    plain = 0 < len(path) <= 255 and all(_PART.fullmatch(part) for part in parts) and len(parts) <= 8
    if not plain or str(PurePosixPath(path)) != path or path in HEAD:
        expected = "a relative path of plain names inside the bundle"
        todo = "do not use this bundle; get it again from where it was made"
        raise BadInput(explain(f"{MANIFEST}: a file's path is not allowed", expected, repr(path[:200]), todo))
    return path


def _schema(data: Mapping[str, Any]) -> int:
    expected = f"edgevla.bundle/{SCHEMA_OF_POLICY} or above"
    found = _SCHEMA.fullmatch(_value(data, "schema", str, expected))
    if not found:
        _fail("schema", expected, data["schema"])
    number = int(found[1])
    if number < SCHEMA_OF_POLICY:
        _fail("schema", expected, data["schema"], "export it again with this edgevla; it reads nothing that old")
    return number


def _files(data: Mapping[str, Any]) -> dict[str, FileEntry]:
    table = _value(data, "files", dict, "a table of files")
    if not 0 < len(table) <= MAX_FILES:
        _fail("files", f"1 to {MAX_FILES} files", len(table))
    files = {check_path(path): _entry(path, entry) for path, entry in table.items()}
    for path in files:
        for parent in PurePosixPath(path).parents:
            if str(parent) in files:
                _fail("files", f"a folder {parent}, as {path} lies in it", "a file of that name too")
    if (total := sum(entry.bytes for entry in files.values())) > MAX_TOTAL_BYTES:
        _fail("files", f"{MAX_TOTAL_BYTES} bytes in all at most", total)
    return files


def _entry(path: str, table: Any) -> FileEntry:
    if type(table) is not dict:
        _fail(f"files: {path}", "a table", type(table).__name__)
    sha256 = _matching(table, "sha256", _SHA256, "64 lower-case hexadecimal digits", f"files: {path}: ")
    return FileEntry(sha256, _whole(table, "bytes", 0, MAX_FILE_BYTES, f"files: {path}: "))


def _release(data: Mapping[str, Any], schema: int, files: Mapping[str, FileEntry]) -> Release | None:
    if schema < SCHEMA_OF_RELEASE:
        if "release" in data:
            _fail("release", f"nothing in schema {schema}", "a release")
        return None
    table = _value(data, "release", dict, "a table: counter, target, wheels")
    where = "release: "
    if _whole(table, "envelope", 1, 10**6, where) != ENVELOPE:
        _fail("release: envelope", ENVELOPE, f"{table['envelope']}: written by a newer edgevla", _NEWER)
    wheels = _wheels(table, "wheels", files)
    return Release(
        counter=_whole(table, "counter", 1, MAX_COUNTER, where),
        target=_matching(table, "target", _NAME, "the name of a target profile", where),
        arch=_matching(table, "arch", _ARCH, "an architecture, as `uname -m` says it", where),
        python=_matching(table, "python", _PYTHON, "a Python version, 3.10", where),
        wheels=wheels,
        agent_wheels=_wheels(table, "agent_wheels", wheels),
        needs_gpu_wheel=_value(table, "needs_gpu_wheel", bool, "true or false", where),
    )


def _wheels(table: Mapping[str, Any], key: str, known: Any) -> tuple[str, ...]:
    value = _value(table, key, list, "a list of paths", "release: ")
    for path in value:
        if type(path) is not str or not path.endswith(".whl") or path not in known:
            among = "listed in `files`" if key == "wheels" else "listed in `wheels`"
            _fail(f"release: {key}", f"paths of wheels {among}", repr(path))
    if len(set(value)) != len(value):
        _fail(f"release: {key}", "each wheel once", "one twice")
    return tuple(value)


def _value(table: Mapping[str, Any], key: str, kind: type, expected: str, where: str = "") -> Any:
    if key not in table:
        _fail(where + key, expected, "nothing: the key is missing")
    value = table[key]
    if type(value) is not kind:  # a bool is no whole number here
        _fail(where + key, expected, repr(value))
    return value


def _matching(table: Mapping[str, Any], key: str, pattern: re.Pattern[str], expected: str, where: str = "") -> str:
    value: str = _value(table, key, str, expected, where)
    if not pattern.fullmatch(value):
        _fail(where + key, expected, repr(value))
    return value


def _whole(table: Mapping[str, Any], key: str, least: int, most: int, where: str = "") -> int:
    expected = f"a whole number in [{least}, {most}]"
    value: int = _value(table, key, int, expected, where)
    if not least <= value <= most:
        _fail(where + key, expected, value)
    return value


def _fail(key: str, expected: object, got: object, todo: str = AGAIN) -> NoReturn:
    raise BadInput(explain(f"{MANIFEST}: `{key}` is wrong", expected, shown(str(got)), todo))
