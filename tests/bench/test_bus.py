"""bench/bus: cycles against the line's log, what lies is refused, targets, the short list; one real run."""

import json

import numpy as np
import pytest

from bench.bus.case import Case, peer_module
from bench.bus.measure import Unpaced, goals
from bench.bus.result import COLUMNS, KEYS, row, short, table
from bench.bus.wire import cycles
from edgevla.errors import Unsound, Usage
from edgevla.telemetry.interleaved import Ratio
from firmware_bridge.protocols import KINDS
from firmware_bridge.virtual.line import TO_DEVICE, TO_HOST

CASE = Case("feetech", peer_module("feetech").case(6).joints, 1_000_000)


def test_the_host_share_is_what_bytes_and_declared_delays_leave_of_a_cycle():
    """Command 100 us, 20 us of declared delay, two answers of 50 us without a gap; cycles of 300 us."""
    starts = [0, 300_000, 600_000]
    busy = [
        interval
        for start in starts[:2]
        for interval in (
            (start + 10_000, start + 110_000, TO_DEVICE),
            (start + 130_000, start + 180_000, TO_HOST),
            (start + 180_000, start + 230_000, TO_HOST),
        )
    ]
    found = cycles(starts, [240_000, 540_000], busy, declared_ns=20_000)
    assert found.wire.tolist() == [200_000, 200_000]
    assert found.turnaround.tolist() == [20_000, 20_000]
    assert found.host.tolist() == [80_000, 80_000]
    assert found.summary()["wire_efficiency"] == pytest.approx(2 / 3)


def test_a_gap_longer_than_declared_is_the_hosts():
    found = cycles([0, 300_000], [250_000], [(0, 100_000, TO_DEVICE), (200_000, 240_000, TO_HOST)], declared_ns=20_000)
    assert found.turnaround.tolist() == [20_000]
    assert found.host.tolist() == [300_000 - 140_000 - 20_000]


def test_two_lanes_that_are_busy_together_count_once():
    found = cycles([0, 300_000], [200_000], [(0, 100_000, TO_DEVICE), (60_000, 160_000, TO_HOST)], declared_ns=0)
    assert found.wire.tolist() == [160_000]


@pytest.mark.parametrize(
    "busy",
    [
        [(0, 200_000, TO_DEVICE), (200_000, 400_000, TO_HOST)],  # 400 us of bytes in a cycle of 300
        [(0, 100_000, TO_DEVICE), (100_000, 260_000, TO_HOST)],  # the state came at 250: before its last bit
        [],  # nothing went over the wire
    ],
)
def test_a_cycle_faster_than_its_wire_is_refused(busy):
    with pytest.raises(Unsound, match="faster than its wire"):
        cycles([0, 300_000], [250_000], busy, declared_ns=0)


def test_a_heartbeat_that_is_still_on_its_way_is_no_lie():
    one = [(0, 100_000, TO_DEVICE), (100_000, 200_000, TO_HOST)]
    two = [(start + 300_000, end + 300_000, lane) for start, end, lane in one]
    three = [(start + 600_000, end + 600_000, lane) for start, end, lane in one]
    heartbeat = (805_000, 860_000, TO_HOST)
    found = cycles([0, 300_000, 600_000, 900_000], [210_000, 510_000, 810_000], [*one, *two, *three, heartbeat], 0)
    assert found.wire.tolist() == [200_000, 200_000, 255_000]


def test_a_heartbeat_that_lasts_into_the_next_cycle_counts_until_there():
    cycle = [(10_000, 110_000, TO_DEVICE), (110_000, 210_000, TO_HOST)]
    busy = [(begin + at, end + at, way) for at in (0, 300_000, 600_000) for begin, end, way in cycle]
    heartbeat = (810_000, 920_000, TO_HOST)  # 90 us of its 110 before the next cycle begins at 900
    found = cycles([0, 300_000, 600_000, 900_000], [210_000, 510_000, 810_000], [*busy, heartbeat], 0)
    assert found.wire.tolist() == [200_000, 200_000, 290_000]
    assert found.host.tolist() == [100_000, 100_000, 10_000]


def figures(host_us=80.0, efficiency=0.95, wire_ms=1.0):
    ours = {
        "wire_ms": wire_ms,
        "hz": 900.0,
        "wire_efficiency": efficiency,
        "host_us_p50": host_us,
        "host_us_p99": 200.0,
    }
    return {"ours": ours}


def free(cpu=4.0, wall=1.5):
    def ratio(low):
        return Ratio("peer", "ours", low + 0.2, low, low + 0.4, 50, 0.95)

    us = {"ours": 60.0, "ours/cpu": 20.0, "peer": 90.0, "peer/cpu": 80.0}
    return Unpaced(us, {}, {"cpu": ratio(cpu), "wall": ratio(wall)}, 50, 0.0)


@pytest.mark.parametrize(
    ("paced", "unpaced", "named"),
    [
        (figures(), free(), []),
        (figures(host_us=100.0, efficiency=0.90), free(cpu=3.0, wall=1.3), []),
        (figures(host_us=101.0), free(), ["host share"]),
        (figures(efficiency=0.899), free(), ["efficiency"]),
        (figures(efficiency=0.5, wire_ms=0.89), free(), []),
        (figures(), free(cpu=2.99), ["cpu of the peer"]),
        (figures(), free(wall=1.29), ["wall of the peer"]),
    ],
)
def test_a_target_is_kept_at_its_limit_and_missed_beyond(paced, unpaced, named):
    assert [text.split(":")[0] for text in row(CASE, "lib", "", paced, unpaced)["missed"]] == named


def test_a_protocol_without_a_peer_is_held_to_the_wire_only():
    alone = Unpaced({"ours": 60.0, "ours/cpu": 20.0})
    found = row(CASE, None, "our own link", figures(), alone)
    assert found["missed"] == []
    assert found["peer"] is found["peer_cpu_us"] is found["peer_wall_us"] is None
    assert table([found])[0][COLUMNS.index("peer")] == "none: our own link"


def test_the_short_list_has_exactly_the_agreed_keys():
    listed = short([row(CASE, "lib", "", figures(), free())])
    assert [tuple(entry) for entry in listed] == [KEYS]
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize("count", [6, 7])
def test_every_protocol_has_a_case_whose_goals_are_in_range(protocol, count):
    pytest.importorskip("damiao_motor" if protocol == "damiao" else "numpy", reason="its library is not installed")
    case = peer_module(protocol).case(count)
    assert len(case.joints) == count
    wanted = np.array(goals(case))
    assert (wanted >= [j.minimum for j in case.joints]).all()
    assert (wanted <= [j.maximum for j in case.joints]).all()
    assert (np.diff(wanted, axis=0) != 0).all()


def test_a_protocol_that_nobody_knows_is_refused():
    with pytest.raises(Usage, match="not known"):
        peer_module("morse")
