"""Joins do what their authors' code does, and jumps are measured where chunks take over."""

from dataclasses import dataclass

import numpy as np
import pytest

from bench.delay.ways import runner_of
from bench.seams.joins import Ensemble, LeRobot, Plain, Said, blended, prefix
from bench.seams.live import Joined
from bench.seams.measure import between_seams, distance, follow, joins, jumps, spread
from bench.seams.record import record, require_one_observation
from edgevla.bundle.reader import open_bundle
from edgevla.control.commands import Units
from edgevla.control.limiter import limits_of
from edgevla.errors import Refused
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.setpoints import integrate
from edgevla.sim.lockstep import Episode
from tests.bench.loop_fakes import LOOP, START, Arm, Coded, H, R

N = 40
PERIOD_S = LOOP.period_s
UNITS = Units(LOOP.kinds, np.array(LOOP.scale), np.array(LOOP.offset), PERIOD_S)
MOVING = [0, 1, 2]


class Sums:
    """Integrates as the engine does, with limits far away; says `step` per tick in x when it is asked."""

    def __init__(self, step=0.1):
        self.step, self.prefixes = step, []

    def infer(self, image, state, prefix):
        self.prefixes.append(np.array(prefix))
        chunk = np.zeros((H, 4), np.float32)
        chunk[:, 0] = self.step
        chunk[: len(prefix)] = prefix
        return chunk

    def to_setpoints(self, chunk, anchor, d):
        delta = np.array([True, True, True, False])
        steps = chunk * UNITS.scale.astype(np.float32)
        return integrate(steps, np.asarray(anchor, np.float32), d, delta, np.full(4, -9.0), np.full(4, 9.0))


@dataclass
class Record:
    """A recording in which the chunk asked at tick k says `said[k]` (units of 1 cm a tick) in x, for all its rows."""

    said: np.ndarray

    def __post_init__(self):
        n = len(self.said)
        self.chunks = np.zeros((n, H, 4), np.float32)
        self.chunks[:, :, 0] = self.said[:, None]
        self.images, self.states = np.zeros((n, 8, 8, 3), np.uint8), np.zeros((n, 4), np.float32)
        self.start = START
        self.commanded = np.repeat(START[None], n, 0)
        self.commanded[:, 0] += np.cumsum(0.01 * self.said[np.arange(n) // R * R])


def said_of(record, engine=None, absolute=False):
    return Said(record, engine or Sums(), UNITS, H, absolute)


def steps(trajectory):
    """Centimetres moved in x in each tick."""
    return 100 * np.diff(trajectory.commanded[:, 0])


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("delay", [0, 1, 4])
@pytest.mark.parametrize("name", ["prefix", "both", "blend", "plain", "ensemble", "lerobot"])
def test_chunks_that_agree_have_no_seam_in_any_way(name, delay, absolute):
    record = Record(np.full(N, 0.1))
    run = follow(joins(4, R, True)[name](said_of(record, absolute=absolute), delay), record, None, PERIOD_S)
    moved = steps(run)[delay + 6 :]  # a start from rest is no seam
    np.testing.assert_allclose(moved, 0.1, atol=2e-4 if name in ("blend", "both") else 1e-4)
    assert run.seams.sum() >= 1


def test_a_blend_that_outlasts_the_next_observation_rocks_for_ever():
    """Why d + b <= r: a chunk takes what the blend before it has still to make up for a mistake, and undoes it."""
    record = Record(np.full(64, 0.1))
    inside = follow(blended(said_of(record), 4, R, 4), record, None, PERIOD_S)
    outside = follow(blended(said_of(record), 8, R, 4), record, None, PERIOD_S)
    np.testing.assert_allclose(steps(inside)[40:], 0.1, atol=2e-4)
    assert abs(steps(outside)[40:] - 0.1).max() > 0.3


def test_plain_switching_jumps_by_what_the_chunks_differ_d_ticks_after_they_were_asked():
    record = Record(np.where(np.arange(N) // R % 2, 0.3, 0.1))
    run = follow(Plain(said_of(record), 3, R), record, None, PERIOD_S)
    np.testing.assert_allclose(steps(run)[: 3 + 2 * R], [0] * 3 + [0.1] * R + [0.3] * R, atol=1e-4)
    assert np.flatnonzero(run.seams).tolist() == [3 + R, 3 + 2 * R, 3 + 3 * R, 3 + 4 * R]
    assert run.asked == 5
    found = jumps(run.commanded, run.seams, MOVING, PERIOD_S)
    np.testing.assert_allclose(found.velocity, 0.002 / PERIOD_S, rtol=1e-3)  # m/s
    np.testing.assert_allclose(found.acceleration, 0.002 / PERIOD_S**2, rtol=1e-3)  # m/s^2


def test_the_policy_is_asked_with_what_was_really_commanded():
    record, engine = Record(np.full(N, 0.1)), Sums(step=0.2)
    run = follow(prefix(said_of(record, engine), 4, R), record, None, PERIOD_S)
    for number, told in enumerate(engine.prefixes):
        k = number * R
        np.testing.assert_allclose(told[:, 0], steps(run)[k : k + 4], atol=1e-4)
    np.testing.assert_allclose(steps(run)[4:], 0.2, atol=1e-4)


def test_ensembling_weighs_the_oldest_chunk_most():
    record = Record(np.arange(N, dtype=float))
    run = follow(Ensemble(said_of(record), 2), record, None, PERIOD_S)
    weights = np.exp(-0.01 * np.arange(5))
    asked = np.array([0, 2, 4, 6, 8])  # every 2 ticks; at tick 11 those asked up to tick 9 are there
    assert steps(run)[11] == pytest.approx(weights @ asked / weights.sum(), abs=1e-3)
    assert run.asked == N // 2
    assert steps(run)[N - 1] < record.said[N - 2]  # chunks older than H ticks have nothing left to say
    late = np.arange(8, N - 2, 2)
    weights = np.exp(-0.01 * np.arange(len(late)))
    assert steps(run)[N - 1] == pytest.approx(weights @ late / weights.sum(), abs=1e-3)


def test_lerobots_queue_is_asked_at_half_a_chunk_and_averages_three_to_seven():
    record = Record(np.arange(N, dtype=float))
    join = LeRobot(said_of(record), 0)
    run = follow(join, record, None, PERIOD_S)
    assert np.flatnonzero(run.seams).tolist() == [16, 32]  # 16 of 32 rows left: 16 were acted on
    first, second = 0.3 * 0 + 0.7 * 16, 0.3 * 16 + 0.7 * 32
    np.testing.assert_allclose(steps(run)[16:32], first, atol=1e-3)
    np.testing.assert_allclose(steps(run)[:16], 0, atol=1e-3)
    np.testing.assert_allclose(steps(run)[32:], second, atol=1e-3)  # rows 32.. met rows that nothing had met before


def test_lerobots_mailbox_keeps_the_newest_observation_while_the_server_works():
    record = Record(np.arange(N, dtype=float))
    run = follow(LeRobot(said_of(record), 4), record, None, PERIOD_S)
    # Asked at 0, there at 4; tick 3 lay in the mailbox and is there at 8, rows to tick 34: 16 of them at tick 19. Asked
    # there and once more for tick 22, rows to tick 53: 16 of them at tick 38.
    assert run.asked == 5
    assert np.flatnonzero(run.seams).tolist() == [8, 23, 27]
    assert steps(run)[8] == pytest.approx(0.3 * 0 + 0.7 * 3, abs=1e-3)


def test_a_blended_seam_is_smaller_than_a_plain_one_and_the_limiter_bounds_both():
    record = Record(np.where(np.arange(N) // R % 2, 0.5, -0.5))
    limits = limits_of(LOOP.arm, PERIOD_S)
    ways = {"plain": lambda s: Plain(s, 3, R), "blend": lambda s: blended(s, 3, R, 4)}
    seen = {}
    for name, way in ways.items():
        for kind, bound in (("wanted", None), ("limited", limits)):
            run = follow(way(said_of(record, absolute=True)), record, bound, PERIOD_S)
            seen[name, kind] = jumps(run.commanded, run.seams, MOVING, PERIOD_S).velocity.max()
    assert seen["blend", "wanted"] < 0.5 * seen["plain", "wanted"]
    most = np.linalg.norm(limits.max_acceleration[MOVING]) * PERIOD_S
    assert max(seen["plain", "limited"], seen["blend", "limited"]) <= most


def test_distance_is_none_for_the_recorded_commands_and_that_of_a_constant_offset_otherwise():
    record = Record(np.full(N, 0.1))
    zero = np.vstack([START[None], record.commanded])
    assert distance(zero, record, MOVING, True, PERIOD_S) == 0
    assert distance(zero + np.float32(0.01), record, MOVING, True, PERIOD_S) == pytest.approx(0.01 * 3**0.5, rel=1e-4)
    assert distance(zero + np.float32(0.01), record, MOVING, False, PERIOD_S) == pytest.approx(0, abs=1e-4)


def test_spread_is_over_all_seams_and_its_quartiles_over_episodes():
    found = spread([np.array([1.0, 2.0, 9.0]), np.array([4.0]), np.zeros(0)])
    assert (found["p50"], found["max"], found["episodes_q25"], found["episodes_q75"]) == (3.0, 9.0, 2.5, 3.5)
    assert spread([np.zeros(0)]) is None


@pytest.mark.parametrize(
    ("join", "way"), [("prefix", "ours"), ("blend", "blend"), ("both", "both"), ("plain", "newest")]
)
@pytest.mark.parametrize("delay", [1, 4])
def test_in_closed_loop_a_join_commands_what_the_real_schedule_does(join, way, delay):
    arms = Arm(), Arm()
    joined = Joined(Coded(), arms[0], LOOP, joins(4, R, True)[join], delay)
    runner = runner_of(way, delay, Coded(), arms[1], LOOP)
    for tick in range(4 * R):
        joined.tick(tick)
        runner.tick(tick)
    np.testing.assert_allclose(arms[0].commanded, arms[1].commanded, atol=1e-6)
    run = joined.trajectory()
    assert np.flatnonzero(run.seams).tolist() == [delay + R, delay + 2 * R, delay + 3 * R]
    assert not (between_seams(run) & run.seams).any()
    assert between_seams(run)[delay + R + 2 : delay + 2 * R].all()


def test_a_recording_holds_what_the_policy_said_and_what_was_commanded(tiny_bundle_path, monkeypatch):
    monkeypatch.setattr("bench.seams.record.MAX_TICKS", 10)
    bundle = open_bundle(tiny_bundle_path)
    engine = PolicyEngine(bundle)
    engine.set_instruction("open the drawer")
    found, plant = record(engine, Episode("drawer-open-v3", 1, "open the drawer"), LOOP)
    assert found.images.shape == (10, 96, 96, 3)
    assert found.chunks.shape == (10, H, 4)
    np.testing.assert_allclose(found.start, plant.setpoint0)
    own = engine.to_setpoints(found.chunks[0], found.start, 0)
    np.testing.assert_allclose(found.commanded[:R], own[:R], atol=1e-6)  # rows 0 .. r - 1, without any delay
    again = engine.infer(found.images[3], found.states[3], np.zeros((0, 4), np.float32))
    np.testing.assert_array_equal(found.chunks[3], again)


def test_a_policy_with_a_memory_is_not_recorded(tiny_bundle_path):
    from dataclasses import replace

    manifest = open_bundle(tiny_bundle_path).manifest
    require_one_observation(manifest)
    with pytest.raises(Refused, match="asking at every tick"):
        require_one_observation(replace(manifest, observations=4))
