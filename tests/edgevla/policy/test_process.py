"""The policy side of a request, on real shared memory: each request gets an answer, or the reason why not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgevla.control.config import CameraInput, PolicyConfig, policy_config, to_line
from edgevla.control.exchange import (
    WORDS_BYTES,
    Reply,
    Request,
    Status,
    pack_reply,
    pack_request,
    pack_words,
    unpack_reply,
)
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, DeviceFault
from edgevla.flight.tape import unpack_observation
from edgevla.policy.process import Policy, graph_times, load_factory
from edgevla.sensors.camera import CameraSlot
from edgevla.telemetry.rows import GRAPHS, Rows, inference_dtype

sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from tiny_engine import GOAL, ToGoal

STATE = np.array([0.0, 0.6, 0.2, 1.0], np.float32)
HELD = np.tile(np.array([0.0, 0.6, 0.2, -1.0], np.float32), (3, 1))  # commanded in ticks k - 1 .. k + 1


class Bench:
    """A Policy in this process, and the servo's side of its slots."""

    def __init__(self, engine, **changes):
        self.requests, self.replies = Slots.create(1024), Slots.create(4096)
        self.words = Slots.create(WORDS_BYTES)
        self.camera = CameraSlot.create(96, 96, slots=8)
        self.tape = Slots.create(200_000, 4)
        self.rows = Rows.create(inference_dtype(), 16)
        values = {
            "parent_pid": os.getpid(),
            "engine": "",
            "bundle": "",
            "instruction": "go to the dot",
            "threads": 1,
            "core": None,
            "memory_mb": 1000,
            "instruction_epoch": 0,
            "providers": ("CPUExecutionProvider",),
            "period_s": 0.0125,
            "observations": 1,
            "horizon": 32,
            "delay": 2,
            "blend_ticks": None,
            "channels": 4,
            "states": 4,
            "first_frame_s": 0.05,
            "cameras": (CameraInput("corner", os.dup(self.camera.fd), 96, 96, 5.0, "refuse"),),
            "max_state_age_s": 5.0,
            "max_skew_s": 3.0,
            **changes,
        }
        fds = [self.requests.fd, self.replies.fd, self.words.fd, os.eventfd(0), self.rows.fd, self.tape.fd]
        names = ("request_fd", "reply_fd", "words_fd", "kick_fd", "rows_fd", "tape_fd")
        self.config = PolicyConfig(**values, **dict(zip(names, map(os.dup, fds), strict=True)))
        self.policy = Policy(self.config, engine)

    def frame(self, age_s=0.0, size=96):
        stamp = time.monotonic_ns() - int(age_s * 1e9)
        self.camera.publish(np.zeros((size, size, 3), np.uint8), stamp)

    def ask(self, tick=8, state_age_s=0.0, state=STATE, **more):
        now = time.monotonic_ns()
        prefix = np.full((2, 4), 0.25, np.float32)
        request = Request(tick, now, now - int(state_age_s * 1e9), prefix, HELD, np.atleast_2d(state), **more)
        self.requests.write(pack_request(request))
        self.policy.serve()
        return self.answer()

    def answer(self):
        found = self.replies.read()
        return None if found is None else unpack_reply(found[1])


def test_a_request_is_answered_with_the_set_points_of_its_chunk():
    bench = Bench(ToGoal())
    bench.frame()
    reply = bench.ask(tick=24)
    assert (reply.tick, reply.status) == (24, Status.OK)
    assert reply.setpoints.shape == (32, 4)
    towards = np.diff(reply.setpoints[2:, :3], axis=0) @ (GOAL - STATE[:3])
    assert (towards > 0).all()


def test_the_same_request_is_answered_once():
    bench = Bench(ToGoal())
    bench.frame()
    bench.ask()
    bench.policy.serve()
    assert bench.rows.count == 1


@pytest.mark.parametrize(
    ("frame_age_s", "state_age_s", "status"),
    [
        (None, 0.0, Status.NO_FRAME),
        (9.0, 0.0, Status.OLD_FRAME),
        (0.0, 9.0, Status.OLD_STATE),
        (4.0, 0.5, Status.SKEWED),
    ],
)
def test_old_inputs_are_never_acted_on(frame_age_s, state_age_s, status):
    bench = Bench(ToGoal())
    if frame_age_s is not None:
        bench.frame(frame_age_s)
    reply = bench.ask(state_age_s=state_age_s)
    assert reply.status is status
    assert not reply.setpoints.any()


def test_an_engine_that_raises_costs_one_chunk_and_not_the_process(capfd):
    def fail():
        raise RuntimeError("boom")

    bench = Bench(ToGoal(after=0, then=fail))
    bench.frame()
    assert bench.ask().status is Status.FAILED
    assert bench.ask(tick=16).status is Status.FAILED
    assert capfd.readouterr().out.count("boom") == 1


def test_a_chunk_that_is_not_finite_is_withheld():
    bench = Bench(ToGoal())
    bench.frame()
    assert bench.ask(state=np.full(4, np.nan, np.float32)).status is Status.NOT_FINITE


def test_after_a_restart_the_unanswered_request_is_ended():
    bench = Bench(ToGoal())
    now = time.monotonic_ns()
    request = Request(40, now, now, np.zeros((2, 4), np.float32), HELD, STATE[None])
    bench.requests.write(pack_request(request))
    bench.policy.answer_orphan()
    assert (bench.answer().tick, bench.answer().status) == (40, Status.RESTARTED)


def test_after_a_restart_an_answered_request_keeps_its_answer():
    bench = Bench(ToGoal())
    now = time.monotonic_ns()
    request = Request(40, now, now, np.zeros((2, 4), np.float32), HELD, STATE[None])
    bench.requests.write(pack_request(request))
    bench.replies.write(pack_reply(Reply(40, now, Status.OK, np.ones((32, 4), np.float32))))
    bench.policy.answer_orphan()
    assert bench.answer().status is Status.OK


def test_a_silent_camera_is_a_device_fault_and_a_wrong_size_bad_input():
    bench = Bench(ToGoal())
    with pytest.raises(DeviceFault, match="silent"):
        bench.policy.warm_up()
    bench.frame(size=48)
    with pytest.raises(BadInput, match="wrong size"):
        bench.policy.warm_up()


def test_each_inference_leaves_a_row_with_its_ages():
    bench = Bench(ToGoal())
    bench.frame(age_s=0.5)
    bench.ask(tick=8, state_age_s=0.25)
    row = bench.rows.newest()[0]
    assert row["tick"] == 8
    assert row["frame_age_ns"] >= 0.5e9
    assert row["state_age_ns"] >= 0.25e9
    assert row["done_ns"] >= row["asked_ns"]


def test_the_parts_of_an_inference_add_up_to_all_of_it():
    bench = Bench(ToGoal())
    bench.frame()
    bench.ask(tick=8)
    row = bench.rows.newest()[0]
    assert row["preprocess_ns"] + row["graph_ns"].sum() + row["postprocess_ns"] == row["infer_ns"]
    assert min(row["preprocess_ns"], row["graph_ns"][0], row["postprocess_ns"]) > 0
    assert not row["graph_ns"][1:].any()  # an engine that names no graphs is one


def test_graphs_behind_the_last_place_share_it():
    names = tuple(f"g{place}" for place in range(GRAPHS + 2))
    before_ns, times = graph_times({"preprocess": 7, **dict.fromkeys(names, 10)}, names, 1000)
    assert (before_ns, times.tolist()) == (7, [10] * (GRAPHS - 1) + [30])


def test_the_configuration_survives_its_line():
    config = Bench(ToGoal()).config
    assert policy_config(to_line(config)) == config


def test_an_engine_is_found_by_its_dotted_name():
    assert load_factory("tiny_engine:to_goal")(None).count == 0


class Watcher(ToGoal):
    """Remembers what it was shown: (mean of the picture, first state) of each observation, in order."""

    def __init__(self):
        super().__init__()
        self.seen, self.words = [], []

    def set_instruction(self, text):
        if text == "dance":
            super().set_instruction(text)
        self.words.append(text)

    def forget(self):
        self.seen = []

    def observe(self, images, state):
        self.seen.append((int(images["corner"].mean()), float(state[0])))

    def infer(self, images, state, prefix):
        self.observe(images, state)
        return super().infer(images, state, prefix)


def test_a_policy_of_three_observations_sees_the_frames_and_states_of_three_ticks():
    engine = Watcher()
    bench = Bench(engine, observations=3)
    now = time.monotonic_ns()
    for back, value in ((50, 10), (26, 20), (13, 30), (1, 40)):  # ms before now; T = 12.5 ms
        bench.camera.publish(np.full((96, 96, 3), value, np.uint8), now - back * 1_000_000)
    states = np.float32([[0.1, 0, 0, 0], [0.2, 0, 0, 0], [0.3, 0, 0, 0]])
    bench.ask(state=states, first=True)
    assert engine.seen == [(40, pytest.approx(0.3))]
    request = Request(16, now, now, np.zeros((2, 4), np.float32), HELD, states)
    bench.requests.write(pack_request(request))
    bench.policy.serve()
    assert engine.seen == [(20, pytest.approx(0.1)), (30, pytest.approx(0.2)), (40, pytest.approx(0.3))]
    newest = unpack_observation(bench.tape.read()[1])
    assert sorted(newest.frames) == ["corner", "corner@-1", "corner@-2"]
    assert newest.state.shape == (12,)


def test_a_policy_of_one_observation_forgets_only_where_the_record_says_so():
    class Forgetful(ToGoal):
        forgot = 0

        def forget(self):
            self.forgot += 1

    engine = Forgetful()
    bench = Bench(engine)
    bench.frame()
    forgot, cleared = [], []
    for tick, first in ((8, True), (16, False), (24, False), (32, True)):
        bench.frame()
        bench.ask(tick=tick, first=first)
        forgot.append(engine.forgot)
        cleared.append(unpack_observation(bench.tape.read()[1]).cleared)
    assert cleared == [True, False, False, True]
    assert np.diff(forgot).tolist() == [0, 0, 1]


def test_an_instruction_is_prepared_between_requests_and_named_by_its_epoch_in_the_answer(capfd):
    engine = Watcher()
    bench = Bench(engine)
    bench.frame()
    assert bench.ask().instruction == 0
    bench.words.write(pack_words(1, "close the drawer"))
    bench.policy.serve()
    assert engine.words == ["close the drawer"]
    assert bench.ask(tick=16, instruction=1).instruction == 1
    assert unpack_observation(bench.tape.read()[1]).cleared
    assert '"took_ns"' in capfd.readouterr().out


def test_words_the_policy_cannot_hear_leave_the_old_ones_in_force(capfd):
    bench = Bench(Watcher())
    bench.frame()
    bench.words.write(pack_words(1, "dance"))
    assert bench.ask(instruction=1).instruction == 0
    assert "instruction-failed" in capfd.readouterr().out


def test_each_inference_lies_on_the_tape_with_what_it_used():
    bench = Bench(ToGoal())
    bench.frame()
    reply = bench.ask(tick=8)
    entry = unpack_observation(bench.tape.read()[1])
    assert (entry.tick, entry.status) == (8, Status.OK)
    assert (entry.setpoints == reply.setpoints).all()
    assert entry.chunk.shape == (32, 4)


OF_A_LARGE_PARENT = """
import subprocess, sys
held = bytearray(b"1" * 1_000_000_000)
program = "from edgevla.policy.process import resident_mb; print(resident_mb())"
subprocess.run([sys.executable, "-c", program], check=True)
"""


def test_the_memory_of_the_policy_is_its_own_and_not_of_who_started_it():
    """The kernel hands ru_maxrss down through fork and exec: a policy started from a large program was refused."""
    done = subprocess.run([sys.executable, "-c", OF_A_LARGE_PARENT], capture_output=True, text=True, timeout=60)
    assert 10.0 < float(done.stdout) < 500.0
