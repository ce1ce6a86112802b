"""The tiny policy as a release: what `edgevla bundle build` adds, as small as it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevla.bundle import Bundle
from edgevla.bundle.release import add_release

WHEELS = ["runtime/wheels/numpy-2.2.6-py3-none-any.whl", "runtime/wheels/edgevla-0.1.0-py3-none-any.whl"]
FILES: dict[str, bytes | Path] = {
    "profiles/target.toml": b"[target]\n",
    "profiles/arm.toml": b"[arm]\n",
    "sbom.cdx.json": b"{}\n",
    **{path: path.encode() for path in WHEELS},
}
RELEASE: dict[str, Any] = {
    "counter": 1,
    "target": "generic-aarch64",
    "arch": "aarch64",
    "python": "3.10",
    "wheels": WHEELS,
    "agent_wheels": WHEELS[1:],
    "needs_gpu_wheel": False,
}


def write_tiny_release(
    policy: Path, dest: Path, files: dict[str, bytes | Path] | None = None, **changes: Any
) -> Bundle:
    """`files` are added to those above, `changes` replace keys of the release."""
    return add_release(policy, dest, {**RELEASE, **changes}, {**FILES, **(files or {})})
