"""An inference acts on observations that are young and of one moment, or not at all."""

import pytest

from edgevla.control.exchange import Status
from edgevla.sensors.assemble import CameraLimit, Fitness, Limits, judge

MS = 1_000_000
NOW = 10_000 * MS
LIMITS = Limits({"front": CameraLimit(0.1, "refuse"), "wrist": CameraLimit(0.1, "blank")}, 0.05, 0.04)


def verdict(front_ms=10, wrist_ms=10, state_ms=5, limits=LIMITS):
    ages = {"front": front_ms, "wrist": wrist_ms}
    frames = {name: None if age is None else NOW - int(age * MS) for name, age in ages.items()}
    return judge(frames, NOW - int(state_ms * MS), NOW, limits)


def test_young_readings_of_one_moment_are_fit():
    assert verdict() == verdict(wrist_ms=20) == judge({"front": NOW, "wrist": NOW}, NOW, NOW, LIMITS)
    assert (verdict().status, verdict().text, verdict().blanks) == (Fitness.OK, "", ())


@pytest.mark.parametrize(
    ("ages", "status", "text"),
    [
        ({"front_ms": None}, Fitness.NO_FRAME, "camera front: no frame yet"),
        ({"front_ms": 100.5}, Fitness.OLD_FRAME, "camera front: newest frame is 100.5 ms old, at most 100.0 ms"),
        ({"front_ms": -1}, Fitness.IMPOSSIBLE, "camera front: frame stamped 1.0 ms in the future"),
        ({"state_ms": 50.5}, Fitness.OLD_STATE, "the state is 50.5 ms old, at most 50.0 ms"),
        ({"state_ms": -2}, Fitness.IMPOSSIBLE, "state stamped 2.0 ms in the future"),
        ({"front_ms": 50}, Fitness.SKEWED, "camera front is 45.0 ms older than the state, at most 40.0 ms"),
        (
            {"front_ms": 4, "wrist_ms": 45},
            Fitness.SKEWED,
            "camera wrist is 41.0 ms older than camera front, at most 40.0 ms",
        ),
        (
            {"front_ms": 0, "state_ms": 41},
            Fitness.SKEWED,
            "the state is 41.0 ms older than camera front, at most 40.0 ms",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(ages, status, text):
    assert (verdict(**ages).status, verdict(**ages).text) == (status, text)


@pytest.mark.parametrize("age_ms", [None, 101, -1])
def test_a_camera_that_may_be_absent_is_blanked_and_makes_nothing_skewed(age_ms):
    found = verdict(wrist_ms=age_ms)
    assert (found.status, found.blanks) == (Fitness.OK, ("wrist",))


def test_a_blanked_camera_excuses_neither_the_state_nor_the_other_camera():
    assert verdict(wrist_ms=None, state_ms=60).status is Fitness.OLD_STATE
    assert verdict(wrist_ms=None, state_ms=60).blanks == ("wrist",)
    assert verdict(wrist_ms=None, front_ms=60).status is Fitness.SKEWED


def test_a_camera_without_a_key_has_no_frame():
    assert judge({"wrist": NOW}, NOW, NOW, LIMITS).status is Fitness.NO_FRAME


def test_every_limit_is_still_kept_when_it_is_met_exactly():
    assert (
        verdict(front_ms=100, wrist_ms=100, state_ms=50, limits=Limits(LIMITS.cameras, 0.05, 0.05)).status is Fitness.OK
    )


def test_no_state_since_arming_is_said_so_even_where_the_machine_is_younger_than_the_limit():
    found = judge({}, 0, 20 * MS, Limits({}, 0.05, 0.0))
    assert (found.status, found.text) == (Fitness.OLD_STATE, "no state of the arm yet")


def test_a_policy_without_cameras_is_judged_by_its_state_alone():
    blind = Limits({}, 0.05, 0.0)
    assert judge({}, NOW, NOW, blind).status is Fitness.OK
    assert judge({}, NOW - 51 * MS, NOW, blind).status is Fitness.OLD_STATE


def test_the_fitness_of_an_observation_has_the_names_that_a_reply_has():
    known = {status.name for status in Status}
    assert {"OK", "NO_FRAME", "OLD_FRAME", "OLD_STATE"} <= {one.name for one in Fitness} & known
