"""bench/guard/drive: what is drawn of a run."""

from bench.guard.drive import ladder, raster
from bench.guard.stages import Rows
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from tests.bench.test_guard_stages import COUNT, EPOCH, T_NS, inferences, plan, ticks


def test_the_ladder_is_every_change_of_phase_since_arming():
    rows = ticks()
    rows["phase"][:10], rows["phase"][70:] = Phase.DISARMED, Phase.SLOW
    assert ladder(rows) == [
        {"at_s": 0.0, "tick": 10, "phase": "track"},
        {"at_s": 0.6, "tick": 70, "phase": "slow"},
    ]
    assert ladder(rows[:5]) == []


def test_the_raster_shows_each_step_and_where_something_was_missed():
    rows, asked = ticks(), inferences()
    rows["write_ns"][3] = 0
    rows["write_ns"][5] += 6_000_000  # more than Ts / 2
    rows["skipped"][7] = 1
    asked["done_ns"][4] += 30_000_000  # after its release at tick 18
    asked["status"][6] = Status.FAILED
    drawn = raster(Rows(rows, asked, {}, plan(), EPOCH, EPOCH + COUNT * T_NS))
    assert (drawn["wake_us"][:2], drawn["write_us"][2:6]) == ([50, 50], [300, -1, 300, 6300])
    assert drawn["servo_misses"] == [3, 5, 7]
    assert drawn["release_misses"] == [18, 26]
    assert (drawn["first_step"], drawn["period_us"]) == (0, 10_000)
