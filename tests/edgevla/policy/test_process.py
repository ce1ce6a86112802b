"""The policy side of a request, on real shared memory: each request gets an answer, or the reason why not."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgevla.control.config import PolicyConfig, policy_config, to_line
from edgevla.control.exchange import Reply, Request, Status, pack_reply, pack_request, unpack_reply
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, DeviceFault
from edgevla.policy.process import Policy, load_factory
from edgevla.sensors.camera import CameraSlot
from edgevla.telemetry.rows import Rows, inference_dtype

sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from tiny_engine import GOAL, ToGoal

STATE = np.array([0.0, 0.6, 0.2, 1.0], np.float32)
ANCHOR = np.array([0.0, 0.6, 0.2, -1.0], np.float32)


class Bench:
    """A Policy in this process, and the servo's side of its slots."""

    def __init__(self, engine, **changes):
        self.requests, self.replies = Slots.create(1024), Slots.create(4096)
        self.camera = CameraSlot.create(96, 96)
        self.rows = Rows.create(inference_dtype(), 16)
        values = {
            "parent_pid": os.getpid(),
            "engine": "",
            "bundle": "",
            "instruction": "go to the dot",
            "threads": 1,
            "core": None,
            "memory_mb": 1000,
            "horizon": 32,
            "delay": 2,
            "channels": 4,
            "states": 4,
            "height": 96,
            "width": 96,
            "first_frame_s": 0.05,
            "max_frame_age_s": 5.0,
            "max_state_age_s": 5.0,
            **changes,
        }
        fds = [self.requests.fd, self.replies.fd, os.eventfd(0), self.camera.fd, self.rows.fd]
        names = ("request_fd", "reply_fd", "kick_fd", "camera_fd", "rows_fd")
        self.config = PolicyConfig(**values, **dict(zip(names, map(os.dup, fds), strict=True)))
        self.policy = Policy(self.config, engine)

    def frame(self, age_s=0.0, size=96):
        stamp = time.monotonic_ns() - int(age_s * 1e9)
        self.camera.publish(np.zeros((size, size, 3), np.uint8), stamp)

    def ask(self, tick=8, state_age_s=0.0, state=STATE):
        now = time.monotonic_ns()
        prefix = np.full((2, 4), 0.25, np.float32)
        request = Request(tick, now, now - int(state_age_s * 1e9), prefix, ANCHOR, state)
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
    [(None, 0.0, Status.NO_FRAME), (9.0, 0.0, Status.OLD_FRAME), (0.0, 9.0, Status.OLD_STATE)],
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
    request = Request(40, now, now, np.zeros((2, 4), np.float32), ANCHOR, STATE)
    bench.requests.write(pack_request(request))
    bench.policy.answer_orphan()
    assert (bench.answer().tick, bench.answer().status) == (40, Status.RESTARTED)


def test_after_a_restart_an_answered_request_keeps_its_answer():
    bench = Bench(ToGoal())
    now = time.monotonic_ns()
    request = Request(40, now, now, np.zeros((2, 4), np.float32), ANCHOR, STATE)
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


def test_the_configuration_survives_its_line():
    config = Bench(ToGoal()).config
    assert policy_config(to_line(config)) == config


def test_an_engine_is_found_by_its_dotted_name():
    assert load_factory("tiny_engine:to_goal")("", 1).count == 0
