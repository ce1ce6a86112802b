"""Orders over the real loop: explicit arming, stop and re-arm, words and rest, protective stop; a scripted operator."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevla.control.ladder import MOVABLE, Phase
from edgevla.control.plan import PlannedCamera
from edgevla.control.run import run
from edgevla.operate.wish import Kind, Wish

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

from loop import options, patient_arm, plan  # noqa: E402


@pytest.fixture(autouse=True)
def engines_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


class Script:
    """Does each step once its phase is reached: (phase awaited or None, seconds to wait then, wish)."""

    def __init__(self, *steps):
        self._steps, self._since, self.lines, self._rows = list(steps), None, [], None
        self.fds = []

    def open(self, course, halt):
        self._course = course

    def close(self):
        pass

    def say(self, line):
        self.lines.append(line)

    def look(self):
        ticks = self._course.memory.ticks
        rows = ticks.since(max(0, ticks.count - 1))[0]
        if not self._steps or not len(rows) or not self._course.ready:
            return []
        phase, wait_s, wish = self._steps[0]
        if phase is not None and rows[-1]["phase"] != phase:
            self._since = None
            return []
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since < wait_s:
            return []
        self._since = None
        self._steps.pop(0)
        return [wish]


ARM, STOP, QUIT, REST = Wish(Kind.ARM), Wish(Kind.STOP), Wish(Kind.QUIT), Wish(Kind.REST)


def played(script, engine="away", arm=None, **changes):
    values = {"arm_at_start": False, "stay": True, "duration_s": 0.0, "sim": None, **changes}
    if values["sim"] is None:
        values |= {"sim": "drawer-open-v3", "duration_s": 60.0}
    return run(plan(engine, arm=arm), options(**values), operator=script)


def phases(result):
    """Phases in the order they were entered."""
    seen = result.ticks["phase"]
    return [Phase(int(seen[i])) for i in range(len(seen)) if i == 0 or seen[i] != seen[i - 1]]


@pytest.fixture(scope="module")
def twice():
    """Armed, stopped in motion, armed again, stopped, quit."""
    os.environ["PYTHONPATH"] = HERE
    script = Script(
        (Phase.DISARMED, 0.3, ARM),
        (Phase.TRACK, 0.3, STOP),
        (Phase.LATCHED, 0.2, ARM),
        (Phase.TRACK, 0.3, STOP),
        (Phase.LATCHED, 0.1, QUIT),
    )
    return played(script)


def test_nothing_moves_before_the_order_to_arm(twice):
    before = twice.ticks[twice.ticks["phase"] == Phase.DISARMED]
    assert len(before) > 20
    assert not before["write_ns"].any()


def test_a_stop_slows_down_holds_and_latches_and_only_arming_moves_again(twice):
    once = [Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD, Phase.LATCHED]
    assert phases(twice) == [Phase.DISARMED, *once, *once]
    assert (twice.stop_reason, twice.exit_code) == ("operator stop", 0)
    assert twice.figures["stop_confirmed"]


def test_the_second_arming_begins_where_the_arm_is_held(twice):
    rows = twice.ticks
    starts = [i for i in range(1, len(rows)) if rows["phase"][i] == Phase.START != rows["phase"][i - 1]]
    held = rows["setpoint"][starts[1] - 1]
    assert np.allclose(rows["setpoint"][starts[1]], held, atol=1e-6)


def test_no_chunk_from_before_the_arming_acts_after_it(twice):
    rows = twice.ticks
    for start in (i for i in range(1, len(rows)) if rows["phase"][i] == Phase.START != rows["phase"][i - 1]):
        later = rows[start:]
        assert (later["chunk"][later["chunk"] >= 0] >= rows["tick"][start]).all() or start < len(rows) // 2


def test_every_command_written_while_armed_was_accepted_by_the_device(twice):
    assert sum(twice.figures["device"]["refused"].values()) == 0
    moving = np.isin(twice.ticks["phase"], sorted(MOVABLE))
    assert twice.figures["link"]["sent"] == int((twice.ticks["write_ns"][moving] > 0).sum())


def test_words_said_during_the_run_act_within_r_plus_d_ticks_and_reach_the_policy():
    script = Script(
        (Phase.DISARMED, 0.1, ARM),
        (Phase.TRACK, 0.5, Wish(Kind.INSTRUCT, "go to the dot again")),
        (Phase.TRACK, 0.5, QUIT),
    )
    result = played(script, engine="listening")
    rows, inferences = result.ticks, result.inferences
    changed = rows["tick"][np.argmax(rows["instruction"] == 1)]
    asked = inferences["tick"][inferences["instruction"] == 1]
    assert changed <= asked[0] <= changed + 8
    assert result.figures["instructions_said"] == ["go to the dot again"]
    assert "acting on 'go to the dot again'" in script.lines


def test_a_rest_holds_longer_than_hold_s_and_new_words_go_on():
    script = Script(
        (Phase.DISARMED, 0.1, ARM),
        (Phase.TRACK, 0.3, REST),
        (Phase.HOLD, 0.8, Wish(Kind.INSTRUCT, "go to the dot again")),
        (Phase.TRACK, 0.3, QUIT),
    )
    result = played(script, engine="listening", arm=patient_arm(hold_s=0.3))
    ladder = [Phase.DISARMED, Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD, Phase.TRACK, Phase.SLOW, Phase.HOLD]
    assert phases(result) == [*ladder, Phase.LATCHED]


def test_an_arm_that_cannot_follow_is_stopped_and_the_reason_names_channel_and_limit():
    arm = patient_arm()
    tight = {"max_following_error": 1e-4, "effort_s": 0.1}
    channels = tuple(replace(c, **tight) if c.name == "x" else c for c in arm.channels)
    result = run(plan("away", arm=replace(arm, channels=channels)), options())
    assert result.exit_code == 1
    assert result.stop_reason.startswith("protective stop: following error of x beyond 0.0001 m")
    assert Phase(int(result.ticks["phase"][-1])) is Phase.LATCHED


def test_a_disarmed_run_waits_longer_than_hang_s():
    script = Script((Phase.DISARMED, 1.5, QUIT))
    result = run(plan("away", hang_s=0.3), options(arm_at_start=False, stay=True, duration_s=60.0), operator=script)
    assert (result.stop_reason, result.figures["policy_restarts"]) == ("operator stop", 0)


class Flood(Script):
    """Says something else forty times with every look."""

    def look(self):
        wishes = super().look()
        floods = [Wish(Kind.INSTRUCT, f"go to the dot {i % 2}") for i in range(40)] if self._course.ready else []
        return [*wishes, *floods]


def test_a_stop_is_heard_through_a_flood_of_instructions():
    script = Flood((Phase.DISARMED, 0.1, ARM), (Phase.TRACK, 0.3, STOP), (Phase.LATCHED, 0.1, QUIT))
    result = played(script, engine="listening")
    assert phases(result)[-1] is Phase.LATCHED
    assert result.ticks["order"].max() >= 2


class Hasty(Script):
    """Wants to arm at the first look, before anything is there."""

    def look(self):
        hasty, self._hasty = getattr(self, "_hasty", [ARM]), []
        return hasty + super().look()


def test_an_order_to_arm_before_the_policy_is_ready_is_refused_and_not_remembered():
    script = Hasty((Phase.DISARMED, 0.5, QUIT))
    result = played(script)
    assert "not armed: arm and policy are not ready yet" in script.lines
    assert set(result.ticks["phase"]) == {Phase.DISARMED}


def test_an_order_to_quit_before_arming_ends_the_run_without_a_move():
    result = played(Script((Phase.DISARMED, 0.2, QUIT)))
    assert result.stop_reason == "operator stop"
    assert result.exit_code == 0
    assert set(result.ticks["phase"]) == {Phase.DISARMED}


@pytest.fixture
def pictures(tmp_path):
    """A folder of 160 pictures, 48 x 32: four seconds at 40 Hz."""
    cv2 = pytest.importorskip("cv2", reason="the extra `camera` is not installed")
    for number in range(160):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), np.full((32, 48, 3), number, np.uint8))
    return tmp_path


def with_wrist(**changes):
    made = plan("away", **changes)
    wrist = PlannedCamera("wrist", 48, 32, 40.0, 10.0, "refuse")
    return replace(made, cameras=(*made.cameras, wrist))


def test_a_second_camera_in_a_process_of_its_own_feeds_the_policy(pictures):
    result = run(with_wrist(), options(duration_s=1.0, cameras={"wrist": f"file:{pictures},loop"}))
    assert (result.stop_reason, result.exit_code) == ("duration reached", 0)
    assert result.figures["inference"]["statuses"]["ok"] >= 5
    assert result.figures["cameras"]["wrist"]["device"].startswith("file")


def test_a_camera_that_ends_is_started_three_times_and_then_the_ladder_stops_the_arm(pictures):
    made = with_wrist(arm=patient_arm(hold_s=0.3))
    limited = tuple(replace(c, max_age_s=0.3) if c.name == "wrist" else c for c in made.cameras)
    script = Script((Phase.DISARMED, 0.0, ARM))
    result = run(
        replace(made, cameras=limited),
        options(cameras={"wrist": f"file:{pictures}"}, duration_s=60.0),
        operator=script,
    )
    assert result.exit_code == 1
    assert result.stop_reason.startswith("latched: ")
    assert result.figures["inference"]["statuses"].get("old_frame", 0) > 0
    assert any("camera wrist" in line for line in script.lines)


def test_a_disarmed_run_goes_on_outside_the_start_range_and_every_order_to_arm_is_refused_there():
    script = Script((Phase.DISARMED, 1.0, ARM), (Phase.DISARMED, 1.0, ARM), (Phase.DISARMED, 0.5, QUIT))
    asked = options(arm_at_start=False, stay=True, duration_s=60.0)
    result = run(replace(plan("away"), start_low=(0.1, 0.4, 0.05, -1.0)), asked, operator=script)
    assert phases(result) == [Phase.DISARMED]
    refused = "not armed: the arm is outside the start range in x"
    assert [line for line in script.lines if line.startswith("not armed")] == [refused] * 2
    assert (result.stop_reason, result.exit_code) == ("operator stop", 0)
