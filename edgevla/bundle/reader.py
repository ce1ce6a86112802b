"""Open a bundle defensively: nothing is used before its size and sha256 are those of the manifest.

A file missing, extra, truncated, grown, altered, linked or outside the folder is one BadInput that names it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NoReturn

from edgevla.bundle.arrays import Array
from edgevla.bundle.manifest import (
    MANIFEST,
    MANIFEST_SUM,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    WORDS_FILE,
    FileEntry,
    Manifest,
    Stage,
    parse_manifest,
)
from edgevla.bundle.parts import (
    TOKENIZER_FILE,
    CameraFile,
    Golden,
    KnownTokens,
    KnownWords,
    Stats,
    check_frame,
    read_cameras,
    read_golden,
    read_noise,
    read_stats,
    read_tokens,
    read_vocabulary,
)
from edgevla.bundle.schema import parse_json
from edgevla.errors import BadInput, explain

_BLOCK = 1024 * 1024  # bytes read at a time while hashing
_AGAIN = "copy the bundle again, or export it again"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every hash was right when it was opened, and each is checked again as it is read."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, which holds the hash of every other file

    def read(self, name: str) -> bytes:
        """Bytes of one file, hashed again before they are handed out. Raises BadInput."""
        entry = self.manifest.files.get(name)
        if entry is None:
            _refuse(self.path, name, "a file listed in the manifest", "not listed")
        raw = _read_limited(self.path, name, entry.bytes)
        _match(self.path, name, entry, len(raw), hashlib.sha256(raw).hexdigest())
        return raw

    def stage(self, name: str, float_model: bool = False) -> Stage:
        """Interface and file of one stage."""
        return self.manifest.stage(name, float_model)

    def model(self, name: str, float_model: bool = False) -> bytes:
        """The ONNX graph of one stage, for `onnxruntime.InferenceSession`."""
        return self.read(self.stage(name, float_model).file)

    @cached_property
    def stats(self) -> Stats:
        return read_stats(self.read("stats.json"), self.manifest)

    @cached_property
    def words(self) -> KnownWords | KnownTokens:
        """What instructions become: see `edgevla.policy.words`."""
        if self.manifest.text.kind == "words":
            return read_vocabulary(self.read(WORDS_FILE["words"]), self.manifest)
        tokenizer = self.read(TOKENIZER_FILE) if TOKENIZER_FILE in self.manifest.files else None
        return read_tokens(self.read(WORDS_FILE["tokens"]), tokenizer, self.manifest)

    @cached_property
    def cameras(self) -> tuple[CameraFile, ...]:
        return read_cameras(self.read("cameras.toml"), self.manifest)

    @cached_property
    def noise(self) -> Array | None:
        """The fixed noise z, float32 (H, Z); None for a policy without."""
        return read_noise(self.read("noise.npy"), self.manifest) if self.manifest.noise_shape else None

    @cached_property
    def golden(self) -> Mapping[str, Golden]:
        """Golden vectors by file name, sorted."""
        names = sorted(name for name in self.manifest.files if name.startswith("golden/"))
        return {name: read_golden(self.read(name), self.manifest, name) for name in names}

    def evidence(self) -> list[str]:
        """Names of the evidence files, sorted; each is JSON for `read`."""
        return sorted(name for name in self.manifest.files if name.startswith("evidence/"))

    def total_bytes(self, prefix: str = "") -> int:
        """Bytes of all files whose path starts with `prefix` ('model/', 'float/', '')."""
        return sum(entry.bytes for name, entry in self.manifest.files.items() if name.startswith(prefix))


def open_bundle(path: str | Path) -> Bundle:
    """The bundle in that folder, every file verified and every part parsed. Raises BadInput."""
    root = Path(path)
    if not str(path) or not os.path.lexists(root / MANIFEST):
        expected, todo = f"a folder NAME.bundle with {MANIFEST}", "make one with `edgevla compress`, or check the path"
        raise BadInput(explain(f"{str(path) or repr('')} is no bundle", expected, _there(str(path)), todo))
    bundle = _opened(root.resolve())
    _check_listing(bundle)
    for name, entry in bundle.manifest.files.items():
        _match(bundle.path, name, entry, *_digest(bundle.path, name, entry))
    _parse_parts(bundle)
    return bundle


def _there(path: str) -> str:
    """What lies at a path that is no bundle."""
    if not path:
        return "an empty path"
    try:
        names = sorted(os.listdir(path))
    except NotADirectoryError:
        return "a file"
    except FileNotFoundError:
        return "nothing there"
    except OSError as error:
        return f"a folder that cannot be read: {error.strerror}"
    return f"a folder with {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "an empty folder"


def _opened(root: Path) -> Bundle:
    raw = _read_limited(root, MANIFEST, MAX_MANIFEST_BYTES, exact=False)
    line = _read_limited(root, MANIFEST_SUM, 256, exact=False)
    expected = sum_line(raw)
    if line != expected:
        _refuse(root, MANIFEST, f"the sha256 in {MANIFEST_SUM}, {_shown(line)}", _shown(expected))
    return Bundle(root, parse_manifest(raw), hashlib.sha256(raw).hexdigest())


def sum_line(manifest_raw: bytes) -> bytes:
    """Content of manifest.sha256, as `sha256sum -c` reads it."""
    return f"{hashlib.sha256(manifest_raw).hexdigest()}  {MANIFEST}\n".encode()


def _shown(line: bytes) -> str:
    return line[:16].decode("ascii", "replace") + "..."


def _check_listing(bundle: Bundle) -> None:
    listed = {*bundle.manifest.files, MANIFEST, MANIFEST_SUM}
    found = _walk(bundle.path, {str(folder) for name in listed for folder in PurePosixPath(name).parents})
    for name in sorted(listed - found):
        _refuse(bundle.path, name, "a file listed in the manifest", "it is missing")
    for name in sorted(found - listed):
        _refuse(bundle.path, name, "only files listed in the manifest", "an extra file", "remove it, or " + _AGAIN)


def _walk(root: Path, needed: set[str]) -> set[str]:
    """Relative paths of all files; anything that is neither a plain file nor a needed folder is refused."""
    found: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(root).as_posix()
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "a special file"
                _refuse(root, relative, "a plain file", kind)
            elif relative not in needed:
                todo = "remove it, or " + _AGAIN
                _refuse(root, relative, "only folders of files listed in the manifest", "an extra folder", todo)
        if len(found) > MAX_FILES + 2:
            _refuse(root, ".", f"{MAX_FILES} files at most", "more")
    return found


def _raise(error: OSError) -> NoReturn:
    raise BadInput(explain("a folder of the bundle cannot be read", "a readable folder", error, _AGAIN))


def _open(root: Path, name: str) -> int:
    """File descriptor of a plain file of the bundle, symbolic links refused."""
    try:
        handle = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        _refuse(root, name, "a file of the bundle", "it is missing")
    except OSError as error:
        _refuse(root, name, "a plain, readable file", error.strerror)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        _refuse(root, name, "a plain file", "a special file")
    return handle


def _read_limited(root: Path, name: str, limit: int, exact: bool = True) -> bytes:
    with os.fdopen(_open(root, name), "rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        _refuse(root, name, f"{limit} bytes{'' if exact else ' at most'}", "more")
    return raw


def _digest(root: Path, name: str, entry: FileEntry) -> tuple[int, str]:
    """Size and sha256, reading no further than one byte past the declared size."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(_open(root, name), "rb", buffering=0) as file:
        while size <= entry.bytes and (block := file.read(min(_BLOCK, entry.bytes + 1 - size))):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _match(root: Path, name: str, entry: FileEntry, size: int, sha256: str) -> None:
    if size != entry.bytes:
        _refuse(root, name, f"{entry.bytes} bytes", f"{size} bytes" if size < entry.bytes else "more")
    if sha256 != entry.sha256:
        _refuse(root, name, f"sha256 {entry.sha256[:16]}...", f"{sha256[:16]}...")


def _parse_parts(bundle: Bundle) -> None:
    """Read every part once, so that a wrong one is refused here and not in the loop."""
    files = bundle.manifest.files
    for name in ("stats.json", WORDS_FILE[bundle.manifest.text.kind], *bundle.evidence()):
        if files[name].bytes > MAX_MANIFEST_BYTES:
            _refuse(bundle.path, name, f"{MAX_MANIFEST_BYTES} bytes at most", f"{files[name].bytes} bytes")
    for part in (bundle.stats, bundle.words, bundle.cameras, bundle.noise, bundle.golden):
        del part
    if not bundle.golden:
        _refuse(bundle.path, "golden", "one golden vector at least", "none")
    for name in bundle.evidence():
        parse_json(bundle.read(name), name)
    frames = {one.frame: one.camera for one in bundle.cameras if one.frame}
    for name in sorted({n for n in files if n.startswith("cameras/")} | set(frames)):
        if name not in frames:
            _refuse(bundle.path, name, "a frame that cameras.toml names", "not named there")
        check_frame(bundle.read(name), frames[name], name)


def _refuse(root: Path, name: str, expected: str, got: object, todo: str = _AGAIN) -> NoReturn:
    raise BadInput(explain(f"{root.name}/{name}: the bundle is damaged or altered", expected, got, todo))
