"""Open a bundle defensively: every file as its manifest says (`edgevla.trust.folder`), then every part parsed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgevla.bundle.arrays import Array
from edgevla.bundle.manifest import WORDS_FILE, Manifest, Stage, parse_manifest
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
from edgevla.trust.envelope import MANIFEST, MAX_MANIFEST_BYTES, TRUST_FILE
from edgevla.trust.folder import Head, check_folder, read_file, read_head, refuse
from edgevla.trust.store import Check, parse_store


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every hash was right when it was opened, and each is checked again as it is read."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, which holds the hash of every other file
    head: Head  # manifest.json as it stands, and its signature, which nobody judged yet

    def read(self, name: str) -> bytes:
        """Bytes of one file, hashed again before they are handed out. Raises BadInput."""
        entry = self.manifest.files.get(name)
        if entry is None:
            refuse(self.path, name, "a file listed in the manifest", "not listed")
        return read_file(self.path, name, entry)

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


def open_bundle(path: str | Path, check: Check | None = None) -> Bundle:
    """The bundle in that folder, every file verified and every part parsed. Raises BadInput.

    check: judges manifest.json and manifest.sig before anything of them is used (`TrustStore.check`).
    """
    root = Path(path)
    if not str(path) or not os.path.lexists(root / MANIFEST):
        expected, todo = f"a folder NAME.bundle with {MANIFEST}", "make one with `edgevla compress`, or check the path"
        raise BadInput(explain(f"{str(path) or repr('')} is no bundle", expected, _there(str(path)), todo))
    root = root.resolve()
    head = read_head(root)
    if check is not None:
        check(head.manifest, head.signature)
    bundle = Bundle(root, parse_manifest(head.manifest), hashlib.sha256(head.manifest).hexdigest(), head)
    check_folder(root, bundle.manifest.files)
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


def _parse_parts(bundle: Bundle) -> None:
    """Read every part once, so that a wrong one is refused here and not in the loop."""
    files = bundle.manifest.files
    for name in ("stats.json", WORDS_FILE[bundle.manifest.text.kind], *bundle.evidence()):
        if files[name].bytes > MAX_MANIFEST_BYTES:
            refuse(bundle.path, name, f"{MAX_MANIFEST_BYTES} bytes at most", f"{files[name].bytes} bytes")
    for part in (bundle.stats, bundle.words, bundle.cameras, bundle.noise, bundle.golden):
        del part
    if not bundle.golden:
        refuse(bundle.path, "golden", "one golden vector at least", "none")
    for name in bundle.evidence():
        parse_json(bundle.read(name), name)
    frames = {one.frame: one.camera for one in bundle.cameras if one.frame}
    for name in sorted({n for n in files if n.startswith("cameras/")} | set(frames)):
        if name not in frames:
            refuse(bundle.path, name, "a frame that cameras.toml names", "not named there")
        check_frame(bundle.read(name), frames[name], name)
    if TRUST_FILE in files:
        parse_store(bundle.read(TRUST_FILE), TRUST_FILE)
