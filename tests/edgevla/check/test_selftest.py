"""The verdict of the self-test on rows that are known: what breaks each claim, and what does not."""

import numpy as np
import pytest

from edgevla.bundle import open_bundle
from edgevla.check.exercise import Window
from edgevla.check.selftest import claims_of, few, only_timing_broken
from edgevla.check.torque import torque_words
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.plan import plan_of
from edgevla.errors import Unsound
from edgevla.telemetry.rows import inference_dtype, tick_dtype
from profiles import load_arm, load_target

STEP_NS = 12_500_000  # Ts of the tiny bundle on host; Ts / 2 = 6.25 ms, L = 25 ms, state age 50 ms, frame age 100 ms
STEPS, ASKED = 1600, 200
GOOD = {"recorder": {"messages": 2000, "lost": 0}, "policy_restarts": 0, "camera_stalls": 0, "events_not_recorded": 0}


@pytest.fixture(scope="module")
def plan(tiny_bundle_path):
    return plan_of(open_bundle(tiny_bundle_path), load_target("host"), load_arm("metaworld-sawyer"))


def ticks():
    rows = np.zeros(STEPS, tick_dtype(4, 4))
    rows["step"] = rows["tick"] = np.arange(STEPS)
    rows["deadline_ns"] = (rows["step"] + 1) * STEP_NS
    rows["wake_ns"] = rows["deadline_ns"] + 50_000
    rows["state_stamp_ns"] = rows["wake_ns"] - STEP_NS
    rows["phase"] = Phase.DISARMED
    return rows


def inferences():
    rows = np.zeros(ASKED, inference_dtype())
    rows["asked_ns"] = np.arange(1, ASKED + 1) * 8 * STEP_NS
    rows["done_ns"] = rows["asked_ns"] + 5_000_000
    rows["frame_age_ns"] = 20_000_000
    rows["status"] = Status.OK
    return rows


def window(**changes):
    end_ns = STEPS * STEP_NS
    frames = {"corner": [(10, 0), (10 + 40 * end_ns // 10**9, end_ns)]}
    return Window(**{"begin_ns": 1, "end_ns": end_ns, "asked": ASKED, "frames": frames, **changes})


def claims(plan, change=lambda t, i: None, seen=None, **figures):
    t, i = ticks(), inferences()
    change(t, i)
    return {claim.name: claim for claim in claims_of(plan, seen or window(), t, i, GOOD | figures, ["corner"])}


def broken(plan, *arguments, **figures):
    return [name for name, claim in claims(plan, *arguments, **figures).items() if not claim.kept]


def setting(column, value, where, of="ticks"):
    def change(t, i):
        (t if of == "ticks" else i)[column][where] = value

    return change


def test_a_robot_that_is_well_keeps_every_claim(plan):
    found = claims(plan)
    assert [name for name, claim in found.items() if not claim.kept] == []
    assert [found[name].samples for name in ("servo", "bus", "policy")] == [STEPS, STEPS, ASKED]
    assert found["servo"].confidence == 0.99


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (setting("phase", Phase.TRACK, 7), ["disarmed"]),
        (setting("write_ns", 1, 7), ["disarmed"]),
        (setting("wake_ns", 10**15, slice(0, 100)), ["servo", "bus"]),  # 6 % woke late; their states are old, too
        (setting("wake_ns", 7_000_000 + 41 * STEP_NS, 40), []),  # one is not many
        (setting("state_stamp_ns", 0, slice(0, 30)), ["bus"]),  # 2 % without a state
        (setting("state_stamp_ns", 0, slice(0, 5)), []),
        (setting("status", Status.OLD_FRAME, slice(0, 10), "inferences"), ["cameras", "policy"]),
        (setting("frame_age_ns", 150_000_000, slice(0, 10), "inferences"), ["cameras"]),
        (setting("status", Status.FAILED, slice(0, 4), "inferences"), ["policy"]),
        (setting("status", Status.FAILED, slice(0, 3), "inferences"), []),
        (setting("done_ns", 10**15, slice(0, 4), "inferences"), ["policy"]),
    ],
)
def test_each_part_breaks_its_own_claim(plan, change, expected):
    assert broken(plan, change) == expected


def test_steps_that_were_overslept_and_inferences_that_never_came_count(plan):
    t, i = ticks(), inferences()
    t = np.delete(t, slice(100, 200))
    found = claims_of(plan, window(asked=ASKED - 4, passed_over=4), t, i[4:], GOOD, ["corner"])
    assert [claim.name for claim in found if not claim.kept] == ["servo", "policy"]


def test_a_slow_camera_a_lossy_recorder_and_restarts(plan):
    slow = window(frames={"corner": [(10, 0), (10 + 35 * STEPS * STEP_NS // 10**9, STEPS * STEP_NS)]})
    assert broken(plan, lambda t, i: None, slow) == ["camera corner"]
    assert broken(plan, lambda t, i: None, window(frames={})) == ["camera corner"]
    assert broken(plan, recorder={"messages": 1900, "lost": 100}) == ["recorder"]
    assert broken(plan, recorder={"messages": 1990, "lost": 10}) == []
    assert broken(plan, recorder={}) == ["recorder"]
    assert claims(plan, recorder={"message": "disk full", "messages": 9})["recorder"].text == "disk full"
    assert broken(plan, policy_restarts=1) == ["processes"]
    assert broken(plan, camera_stalls=1) == ["processes"]


def test_only_what_a_busy_machine_breaks_may_be_blamed_on_it(plan):
    late = setting("done_ns", 10**15, slice(0, 9), "inferences")
    assert only_timing_broken(list(claims(plan, late).values()))
    assert not only_timing_broken(list(claims(plan, late, policy_restarts=1).values()))
    assert not only_timing_broken(list(claims(plan).values()))


def test_rows_of_the_warm_up_do_not_count_and_too_few_are_unsound(plan):
    late = setting("wake_ns", 10**15, slice(0, 400))
    assert broken(plan, late, window(begin_ns=401 * STEP_NS, asked=ASKED - 50)) == []
    with pytest.raises(Unsound, match="at least 459"):
        claims(plan, seen=window(begin_ns=1200 * STEP_NS))


@pytest.mark.parametrize(("lost", "kept"), [(0, True), (3, True), (4, False), (200, False)])
def test_a_share_is_small_when_so_many_trials_show_it(lost, kept):
    assert few(lost, 200) is kept


@pytest.mark.parametrize(
    ("seen", "word", "why"),
    [
        ((False, False), "off", "all 2 joints report torque off"),
        ((False, True), "on", "torque is on at b"),
        ((None, True), "on", "torque is on at b"),
        ((None, False), "unknown", "a did not tell"),
    ],
)
def test_one_word_for_the_torque_of_all_joints(seen, word, why):
    assert torque_words(["a", "b"], seen) == (word, why)
