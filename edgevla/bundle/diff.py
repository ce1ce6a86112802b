"""What changed between two bundles, in words: every fact of the manifests, wheels by version, files by size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from edgevla.bundle.manifest import Manifest, Stage
from edgevla.trust.envelope import Release

NOTHING = "nothing"
WHEELS = "runtime/wheels/"

_Facts = dict[tuple[str, str], str]  # subject and what of it -> value, as text


@dataclass(frozen=True)
class Change:
    """One difference; `before` or `after` is "nothing" where the thing is not there."""

    subject: str
    what: str
    before: str
    after: str


def differences(before: Manifest, after: Manifest) -> list[Change]:
    """Every fact that is not the same, in the order of the manifest; files come last. Empty: the same bundle."""
    old, new = _facts(before), _facts(after)
    keys = [*new, *(key for key in old if key not in new)]
    changed = [(key, old.get(key, NOTHING), new.get(key, NOTHING)) for key in keys if old.get(key) != new.get(key)]
    told = [Change(*key, was, now) for key, was, now in changed]
    return sorted(told, key=lambda change: change.subject.startswith("file "))  # stable: files last, the rest as it was


def wheel_version(path: str) -> tuple[str, str]:
    """Name and version of a wheel, from its file name: ("numpy", "2.2.6")."""
    name, _, rest = PurePosixPath(path).name.partition("-")
    return name, rest.partition("-")[0]


def _facts(manifest: Manifest) -> _Facts:
    plain = ("name", "created_with", "artifact", "arm", "target", "observations", "opset", "ir_version")
    facts = {("bundle", key): _text(getattr(manifest, key)) for key in plain}
    facts |= _release(manifest.release) if manifest.release else {}
    facts |= _versions(manifest)
    facts |= _table("timing", manifest.timing)
    for channel, low, high in zip(manifest.channels, manifest.start_low, manifest.start_high, strict=True):
        facts |= _table(f"channel {channel.name}", channel)
        facts[f"channel {channel.name}", "start range"] = f"{low:g} to {high:g}"
    facts["channels", "order"] = ", ".join(channel.name for channel in manifest.channels)
    facts["state", "order"] = ", ".join(f"{state.name} [{state.unit}]" for state in manifest.state)
    for camera in manifest.cameras:
        facts |= _table(f"camera {camera.name}", camera)
    facts |= _table("text", manifest.text)
    facts |= _stages("stage", manifest.stages) | _stages("float stage", manifest.float_stages)
    facts |= _table("teacher", manifest.teacher) | _table("student", manifest.student)
    facts |= {("recipe", key): _text(value) for key, value in manifest.recipe.items()}
    for path, entry in manifest.files.items():
        facts[f"file {path}", "content"] = f"{entry.bytes:,} bytes, sha256 {entry.sha256[:16]}"
    return facts


def _release(release: Release) -> _Facts:
    keys = ("counter", "target", "arch", "python", "needs_gpu_wheel")
    return {("release", key): _text(getattr(release, key)) for key in keys}


def _versions(manifest: Manifest) -> _Facts:
    pairs = [wheel_version(path) for path in manifest.files if path.startswith(WHEELS)]
    return {(f"wheel {name}", "version"): version for name, version in pairs}


def _stages(kind: str, stages: tuple[Stage, ...]) -> _Facts:
    facts: _Facts = {}
    for stage in stages:
        values = {"file": stage.file, "times": list(stage.times)}
        for side in ("inputs", "outputs"):
            values[side] = ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in getattr(stage, side))
        facts |= {(f"{kind} {stage.name}", key): _text(value) for key, value in values.items()}
    return facts


def _table(subject: str, value: Any) -> _Facts:
    fields: Mapping[str, Any] = asdict(value)
    return {(subject, key): _text(field) for key, field in fields.items() if key != "name" or " " not in subject}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
