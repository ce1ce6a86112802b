"""A teacher as it is, all its flow steps, in a bundle: what it plays in the loop before there is a student."""

from __future__ import annotations

from pathlib import Path

from export.compress import compress
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk


def packed(teacher: Path, data: Path, folder: Path) -> Path:
    """`folder`/policy.bundle in int8, made unless it is there; `folder`/work is its scratch."""
    bundle = folder / "policy.bundle"
    if not bundle.is_dir():
        artifact = ArtifactAsk("dynamic-s8", smooth=False)
        asked = TeacherAsk(str(teacher))
        compress(Request(asked, str(data), bundle, folder / "work", "1s", 0, 1, mode=DIRECT, artifact=artifact))
    return bundle
