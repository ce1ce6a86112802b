"""Signed releases of a few kilobytes, a robot's prefix, and a service that records what is asked of it."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevla.deploy.chunks import chunk_hash, chunks_of
from edgevla.deploy.index import ChunkIndex, encode_index
from edgevla.errors import DeviceFault, Refused
from edgevla.install.admission import this_machine
from edgevla.install.durable import make_folders
from edgevla.install.layout import Layout, linked_id
from edgevla.install.select import count
from edgevla.install.staging import Staging
from edgevla.install.state import read_state
from edgevla.install.tools import Tools
from edgevla.install.trial import Trial
from edgevla.install.watch import Health
from edgevla.trust.envelope import MANIFEST, MANIFEST_SIG, MANIFEST_SUM, Envelope, parse_envelope, release_id, sum_line
from edgevla.trust.keys import PrivateKey, PublicKey
from edgevla.trust.store import TrustStore, pinned

WHEEL = "runtime/wheels/edgevla-0.0.1-py3-none-any.whl"
ENTRY = "import json, sys\n\ndef main():\n    print(json.dumps({'args': sys.argv[1:], 'kept': True}))\n    return 0\n"


def new_key(seed: int = 1) -> PrivateKey:
    """Always the same for a seed: releases have the same signature in each run."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return PrivateKey(key, PublicKey(key.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)))


def wheel_bytes(
    name: str = "edgevla", files: Mapping[str, bytes] | None = None, scripts: str = "edgevla = edgevla.cli.entry:main"
) -> bytes:
    """A wheel, always the same bytes. `files` None: a package `edgevla` whose command prints its arguments."""
    default = {"edgevla/__init__.py": b"", "edgevla/cli/__init__.py": b"", "edgevla/cli/entry.py": ENTRY.encode()}
    info = f"{name}-0.0.1.dist-info"
    content = dict(default if files is None else files)
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n".encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if scripts:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n".encode()
    return zip_bytes({**content, f"{info}/RECORD": record_bytes(content, f"{info}/RECORD")})


def record_bytes(content: Mapping[str, bytes], itself: str) -> bytes:
    rows = []
    for path, raw in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(raw)}")
    return "\n".join([*rows, f"{itself},,", ""]).encode()


def zip_bytes(content: Mapping[str, bytes]) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, raw in content.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, raw)
    return buffer.getvalue()


@dataclass(frozen=True)
class Made:
    """A release as the workstation has it."""

    manifest: bytes
    signature: bytes
    files: dict[str, bytes]

    @property
    def envelope(self) -> Envelope:
        return parse_envelope(self.manifest)

    @property
    def id(self) -> str:
        return release_id(self.manifest)

    @property
    def index(self) -> bytes:
        return encode_index(ChunkIndex({path: chunks_of(raw) for path, raw in self.files.items()}))

    def chunks(self) -> dict[str, bytes]:
        found = {}
        for raw in self.files.values():
            offset = 0
            for chunk in chunks_of(raw):
                content = raw[offset : offset + chunk.length]
                found[chunk_hash(content)] = content
                offset += chunk.length
        return found

    def write(self, folder: Path) -> Path:
        """As a folder NAME.bundle."""
        for path, raw in {**self.files, MANIFEST: self.manifest, MANIFEST_SIG: self.signature}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(raw)
        (folder / MANIFEST_SUM).write_bytes(sum_line(self.manifest))
        return folder


def read_release(folder: Path) -> Made:
    """The release in a folder NAME.bundle."""
    manifest = (folder / MANIFEST).read_bytes()
    files = {path: (folder / path).read_bytes() for path in parse_envelope(manifest).files}
    return Made(manifest, (folder / MANIFEST_SIG).read_bytes(), files)


def make_release(
    counter: int,
    key: PrivateKey | None = None,
    extra: Mapping[str, bytes] | None = None,
    wheels: Mapping[str, bytes] | None = None,
    **release: Any,
) -> Made:
    """A signed release. Its manifest has the envelope only: that is all an installer reads."""
    wheel_files = {WHEEL: wheel_bytes()} if wheels is None else dict(wheels)
    policy = hashlib.sha256(b"policy").digest() * 2048 + counter.to_bytes(4, "big")
    files = {"model/head.onnx": policy, "profiles/target.toml": b'artifact = "cpu"\n', **wheel_files, **(extra or {})}
    machine = this_machine()
    table = {
        "envelope": 1,
        "counter": counter,
        "target": "host",
        "arch": machine.arch,
        "python": machine.python,
        "wheels": list(wheel_files),
        "agent_wheels": [],
        "needs_gpu_wheel": False,
        **release,
    }
    entries = {path: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for path, raw in files.items()}
    manifest = json.dumps({"schema": "edgevla.bundle/3", "name": "tiny", "files": entries, "release": table}).encode()
    return Made(manifest, (key or new_key()).sign(manifest), files)


def new_robot(prefix: Path, store: TrustStore | None = None) -> Layout:
    """A provisioned prefix with nothing installed."""
    layout = Layout(prefix)
    for folder in layout.folders():
        make_folders(folder)
    layout.trust.write_bytes((store or pinned([new_key().public])).to_bytes())
    return layout


def stage(layout: Layout, made: Made) -> None:
    """All of it in staging, verified, as offer, chunks and assemble do."""
    staging = Staging(layout, made.envelope, made.index)
    staging.begin(made.manifest, made.signature)
    content = made.chunks()
    for name in staging.missing():
        staging.store(content[name], [len(content[name])])
    staging.assemble()


@dataclass
class Recorder:
    """A ServiceManager in memory: what was asked of it, and what shall fail. A start counts a try, as the unit does."""

    layout: Layout
    calls: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)  # 'start NEW-ID', 'stop', 'health', ...
    active: bool = False

    def _asked(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise DeviceFault(f"{call} fails\n  expected: -\n  got:      -\n  to do:    -")

    def install_units(self, folder: Path) -> None:
        self._asked(f"units {folder.parents[2].name}")

    def place_rules(self, folder: Path, port: str) -> None:
        self._asked(f"rules {folder.parents[2].name} for {port}")

    def remove_units(self) -> None:
        self._asked("no units")

    def stop(self) -> None:
        self._asked("stop")
        self.active = False

    def start(self) -> None:
        count(self.layout)
        self._asked(f"start {linked_id(self.layout.current)}")
        self.active = True

    def is_active(self) -> bool:
        return self.active

    def health(self, ticks: int, timeout_s: float) -> Health:
        del timeout_s
        self.calls.append("health")
        held = "health" not in self.failing
        return Health(ticks, 0, held, "" if held else "the policy stays silent")

    def logs(self, lines: int) -> list[str]:
        return ["a line"][:lines]


def tools_with(manager: Recorder, torque: str = "off", **failing: str) -> Tools:
    """Trials that are kept, but for those named with a reason: golden="stage text differs".

    torque: what the robot says; its last word is what the new release says when it looks.
    """

    def trial(name: str) -> Callable[[Path], Trial]:
        def run(release: Path) -> Trial:
            manager.calls.append(f"{name} {release.name}")
            return Trial(name, name not in failing, failing.get(name, ""), {}, 1 if name in failing else 0)

        return run

    def look(release: Path | None) -> tuple[str, str]:
        return torque.split(" ")[0 if release is None else -1], "said by the test"

    def cameras(release: Path) -> Mapping[str, Any]:
        if "cameras" in failing:
            raise Refused(failing["cameras"])
        return {}

    return Tools(manager, "/dev/edgevla-arm", look, cameras, trial("engines"), trial("golden"), trial("selftest"))


def runs(layout: Layout) -> str | None:
    """The release that `current` leads to, if it is marked good."""
    current = linked_id(layout.current)
    return current if current in read_state(layout).good else None
