"""The artifact between the two machines: schema, defensive reader, atomic writer."""

from edgevla.bundle.manifest import Manifest, Stage, Timing
from edgevla.bundle.parts import Golden, Stats, Vocabulary
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.bundle.writer import write_bundle

__all__ = [
    "Bundle",
    "Golden",
    "Manifest",
    "Stage",
    "Stats",
    "Timing",
    "Vocabulary",
    "open_bundle",
    "write_bundle",
]
