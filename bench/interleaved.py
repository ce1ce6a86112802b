"""Latency in one interleaved run: `edgevla.telemetry.interleaved`, where `export` may import it too."""

from edgevla.telemetry.interleaved import Interleaved as Interleaved
from edgevla.telemetry.interleaved import Probe as Probe
from edgevla.telemetry.interleaved import Ratio as Ratio
from edgevla.telemetry.interleaved import measure as measure
from edgevla.telemetry.interleaved import paired_ratio as paired_ratio
from edgevla.telemetry.interleaved import percentile_ns as percentile_ns
from edgevla.telemetry.interleaved import summarise as summarise
