"""Wheels (PEP 427) as data: which files one holds, where each belongs in a venv, and that its RECORD is right.

Nothing of a wheel is executed. The wheel itself was covered by the signature already; RECORD catches a broken build.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from edgevla.errors import BadInput, explain

MAX_FILES = 50_000  # in one wheel
MAX_BYTES = 8 * 1024**3  # unpacked, in one wheel
_BLOCK = 4096  # bytes, of the file systems that robots have
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]")
_AGAIN = "build the bundle again: `edgevla bundle build`"


@dataclass(frozen=True)
class WheelFile:
    """One file, as it will lie in the venv."""

    info: zipfile.ZipInfo
    dest: PurePosixPath  # relative to the venv
    executable: bool
    sha256: str | None  # hexadecimal; None: RECORD itself, which cannot hold its own
    script: bool  # its first line names the interpreter of the venv


class Wheel:
    """An open wheel. A context manager. Raises BadInput on anything that a venv must not get."""

    def __init__(self, path: Path, site: PurePosixPath) -> None:
        """`site`: where site-packages is in the venv."""
        self.name, self._site = path.name, site
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            self._fail("a zip file", error)
        try:
            self._record_at, self._record = self._read_record()
            self.files = tuple(self._files())
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
            self.close()
            self._fail("a wheel with a RECORD", error)
        except BadInput:
            self.close()
            raise

    def __enter__(self) -> Wheel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    def bytes_unpacked(self) -> int:
        """As the wheel declares them, in whole blocks of the disk, with as much again for compiled Python."""
        sizes = ((-(-file.info.file_size // _BLOCK) * _BLOCK, file.dest.suffix == ".py") for file in self.files)
        return sum(size * (2 if python else 1) for size, python in sizes)

    def entry_point(self, name: str) -> str | None:
        """'package.module:function' of that console script, None when this wheel has none of that name."""
        for file in self.files:
            if file.dest.name == "entry_points.txt" and file.dest.parent.name.endswith(".dist-info"):
                return _console_script(self.read(file).decode("utf-8", "replace"), name)
        return None

    def read(self, file: WheelFile) -> bytes:
        """The content of one file, its hash that of RECORD. Raises BadInput."""
        try:
            with self._zip.open(file.info) as stream:
                raw = stream.read(file.info.file_size + 1)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
            self._fail(f"{file.info.filename} unpacked", error)
        if len(raw) != file.info.file_size:
            self._fail(f"{file.info.file_size} bytes in {file.info.filename}", f"{len(raw)} bytes")
        if file.sha256 is not None and hashlib.sha256(raw).hexdigest() != file.sha256:
            self._fail(f"{file.info.filename} with the sha256 of RECORD", "another sha256")
        return raw

    def _files(self) -> Iterator[WheelFile]:
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
            self._fail(f"{MAX_FILES} files and {MAX_BYTES} bytes at most", "more")
        names = [info.filename for info in infos]
        if len(set(names)) != len(names):
            self._fail("each file once", "one twice")
        if absent := sorted(set(self._record) - set(names)):
            self._fail("every file of RECORD", f"{absent[0]} is missing")
        for info in infos:
            dest = self._dest(info.filename)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                self._fail("plain files", f"{info.filename} is a link or a special file")
            if info.filename not in self._record:
                self._fail("only files of RECORD", info.filename)
            if dest is not None:
                script = dest.parts[0] == "bin"
                executable = script or bool(info.external_attr >> 16 & 0o111)
                yield WheelFile(info, dest, executable, self._record[info.filename], script)

    def _dest(self, name: str) -> PurePosixPath | None:
        """Where it goes; None for headers and for compiled Python, which is made on the robot."""
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or _FORBIDDEN.search(name) or len(name) > 400:
            self._fail("plain relative paths", repr(name[:200]))
        if "__pycache__" in parts:
            return None
        if not parts[0].endswith(".data") or len(parts) == 1:
            return self._site / name
        scheme, rest = parts[1], parts[2:]
        where = {"purelib": self._site, "platlib": self._site, "scripts": PurePosixPath("bin"), "data": PurePosixPath()}
        if scheme == "headers":
            return None
        if scheme not in where or not rest:
            self._fail(f"one of {', '.join(where)} below {parts[0]}", scheme)
        dest = where[scheme].joinpath(*rest)
        if str(dest) == "pyvenv.cfg" or (
            dest.parts[0] == "bin" and (scheme == "data" or dest.name.startswith(("python", "edgevla")))
        ):
            self._fail("no file over the interpreter's or ours", name)
        return dest

    def _read_record(self) -> tuple[str, dict[str, str | None]]:
        """Path of RECORD, and path in the wheel -> sha256 in hexadecimal, None where there can be none."""
        at = [name for name in self._zip.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
        if len(at) != 1:
            self._fail("one NAME.dist-info/RECORD", f"{len(at)}")
        folder = at[0].rpartition("/")[0]
        if self._zip.getinfo(at[0]).file_size > 64 * 1024**2:
            self._fail("64 MiB of RECORD at most", "more")
        text = self._zip.read(at[0]).decode("utf-8")
        record: dict[str, str | None] = {}
        for row in csv.reader(io.StringIO(text)):
            if len(row) != 3:
                self._fail("path, hash and size in each line of RECORD", ",".join(row)[:200])
            unhashed = row[0] in [f"{folder}/{name}" for name in _UNHASHED]
            record[row[0]] = None if unhashed else self._sha256(row[0], row[1])
        return at[0], record

    def _sha256(self, path: str, value: str) -> str:
        kind, _, digest = value.partition("=")
        try:
            raw = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
        except ValueError:
            raw = b""
        if kind != "sha256" or len(raw) != 32:
            self._fail(f"sha256=... of {path} in RECORD", repr(value[:100]))
        return raw.hex()

    def _fail(self, expected: str, got: object) -> NoReturn:
        raise BadInput(explain(f"{self.name}: the wheel is wrong", expected, str(got)[:300], _AGAIN))


def _console_script(text: str, name: str) -> str | None:
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\s*\[(.+)\]\s*", line):
            section = header[1].strip()
        elif section == "console_scripts" and (found := re.fullmatch(rf"\s*{name}\s*=\s*([\w.]+:[\w.]+)\s*", line)):
            return found[1]
    return None
