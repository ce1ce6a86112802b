"""Every hot path. The modules behind it import the product where a path is made ready, not before.

So `bench.pairs` can load these definitions over another version of the product, and a path that it lacks is the only
one that fails; and instruction counting pays for no library that the path does not use.
"""

from __future__ import annotations

from .bundle import PATHS as BUNDLE
from .codecs import PATHS as CODECS
from .compress import PATHS as COMPRESS
from .deploy import PATHS as DEPLOY
from .exchange import PATHS as EXCHANGE
from .inference import PATHS as INFERENCE
from .loop import PATHS as LOOP
from .path import HotPath, Made, Paths, Place

__all__ = ["SUITES", "HotPath", "Made", "Paths", "Place", "all_paths", "of_suite"]
SUITES = ("inference", "loop", "bus", "bundle", "deploy", "compress")


def all_paths() -> list[HotPath]:
    """In the order of SUITES."""
    return [path for paths in (INFERENCE, LOOP, CODECS, EXCHANGE, BUNDLE, DEPLOY, COMPRESS) for path in paths.found]


def of_suite(suite: str) -> list[HotPath]:
    """Those of one of SUITES."""
    return [path for path in all_paths() if path.suite == suite]
