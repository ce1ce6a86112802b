"""A teacher as it is, all its flow steps, in a bundle: what it plays in the loop before there is a student."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevla.bundle.reader import open_bundle
from export.compress import compress
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk
from export.shards import hash_of
from export.structures.teacher import WEIGHTS


def packed(teacher: Path, data: Path, folder: Path) -> Path:
    """`folder`/policy.bundle in int8, made unless it is there of the same weights; `folder`/work is its scratch."""
    bundle = folder / "policy.bundle"
    if bundle.is_dir() and open_bundle(bundle).manifest.teacher.sha256 != hash_of(teacher / WEIGHTS):
        shutil.rmtree(bundle)
    if not bundle.is_dir():
        artifact = ArtifactAsk("dynamic-s8", smooth=False)
        asked = TeacherAsk(str(teacher))
        compress(Request(asked, str(data), bundle, folder / "work", "1s", 0, 1, mode=DIRECT, artifact=artifact))
    return bundle
