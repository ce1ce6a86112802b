"""HDR histograms of durations (the `hdrh` library): three digits from 1 ns to an hour, in a few hundred bytes.

Everything that a result says of a distribution is computed from the histogram that the result carries, so that anybody
can compute it again: quantiles by nearest rank, each the highest value that its bucket stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgevla.errors import BadInput, Refused, explain
from edgevla.telemetry.stats import nearest_rank

LOWEST_NS, HIGHEST_NS, DIGITS = 1, 3_600_000_000_000, 3


@dataclass(frozen=True)
class Histogram:
    """`values` (k,) ns, rising: the highest of each bucket that holds something; `counts` (k,)."""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    encoded: str  # base64 of hdrh's compressed V2 encoding

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def maximum_ns(self) -> int:
        return int(self.values[-1])

    def at_rank(self, rank: int) -> int:
        """The value of that rank from below, 0 the smallest, ns."""
        return int(self.values[np.searchsorted(np.cumsum(self.counts), rank, side="right")])

    def quantile_ns(self, quantile: float) -> int:
        """By nearest rank, ns."""
        return self.at_rank(nearest_rank(self.count, quantile))


def histogram_of(samples_ns: ArrayLike) -> Histogram:
    """Of durations in ns, at least one; those below 0 count as 0, those above an hour as an hour."""
    hdr = _library()(LOWEST_NS, HIGHEST_NS, DIGITS)
    rounded = np.clip(np.rint(np.asarray(samples_ns, np.float64)), 0, HIGHEST_NS).astype(np.int64)
    for value, count in zip(*map(np.ndarray.tolist, np.unique(rounded, return_counts=True)), strict=True):
        hdr.record_value(value, count)
    return _read(hdr, hdr.encode().decode("ascii"))


def decoded(text: str) -> Histogram:
    """The histogram that `encoded` holds. Raises BadInput."""
    library = _library()
    try:
        return _read(library.decode(text.encode("ascii")), text)
    except Exception as error:  # whatever base64, zlib or the library raise on foreign bytes
        todo = "take it from a result of `edgevla bench guard`"
        raise BadInput(explain("no HDR histogram", "base64 of its V2 encoding", error, todo)) from None


def _library() -> Any:
    """Loaded when it is needed: a robot has it only where the extra `bench` was installed. Raises Refused."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError as error:
        todo = "pip install 'edgevla[bench]'"
        raise Refused(explain("HDR histograms need a library", "the package hdrhistogram", error, todo)) from None
    return HdrHistogram


def _read(hdr: Any, text: str) -> Histogram:
    # The library's own iterator walks all 33,792 buckets in Python, half a second; those that hold something are few.
    counts = np.ctypeslib.as_array(hdr.counts).astype(np.int64)
    held = np.flatnonzero(counts)
    values = [hdr.get_highest_equivalent_value(hdr.get_value_from_index(at)) for at in held.tolist()]
    return Histogram(np.array(values, np.int64), counts[held], text)
