"""The artifact between the two machines: schema, defensive reader, atomic writer."""

from edgevla.bundle.manifest import Manifest, Stage, Timing
from edgevla.bundle.parts import Golden, KnownWords, Stats
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.bundle.writer import write_bundle

__all__ = [
    "Bundle",
    "Golden",
    "KnownWords",
    "Manifest",
    "Stage",
    "Stats",
    "Timing",
    "open_bundle",
    "write_bundle",
]
