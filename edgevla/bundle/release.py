"""A policy bundle becomes a release: profiles, wheels and units beside it, and the table that an installer reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.bundle.writer import write_bundle
from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import ENVELOPE, MANIFEST
from edgevla.trust.strict_json import parse_json


def add_release(
    source: Path,
    dest: Path,
    release: Mapping[str, Any],
    files: Mapping[str, bytes | Path],
    arm: str | None = None,
) -> Bundle:
    """Write the policy bundle `source` with `files` and the table `release` added to `dest`, unsigned.

    release: counter, target, arch, python, wheels, agent_wheels, needs_gpu_wheel (`edgevla.trust.envelope.Release`).
    files: relative path -> content, or the path of a file to copy; profiles/target.toml, profiles/arm.toml and
    sbom.cdx.json at least. arm: name of the arm profile, where it is not the one that the policy was made for.
    An older bundle at `dest` is replaced. Raises BadInput, and then nothing at `dest` has changed.
    """
    policy = open_bundle(source)
    if policy.manifest.release is not None:
        todo = "build from the bundle that `edgevla compress` wrote"
        raise BadInput(explain(f"{source} is a release already", "a policy bundle, schema 2", "schema 3", todo))
    if both := sorted(set(files) & set(policy.manifest.files)):
        raise BadInput(explain(f"{both[0]} is in the policy bundle", "another path", "the same", "rename it"))
    manifest = parse_json(policy.head.manifest, MANIFEST)
    for key in ("schema", "files"):
        del manifest[key]
    manifest |= {
        "release": {"envelope": ENVELOPE, **release},
        "target": release.get("target"),
        "arm": arm or manifest["arm"],
    }
    copied = {name: policy.path / name for name in policy.manifest.files}
    return write_bundle(dest, manifest, {**copied, **files})
