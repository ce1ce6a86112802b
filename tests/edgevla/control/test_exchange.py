"""Requests and replies keep their meaning through the slots; rows keep the newest."""

import os
from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.control.config import ServoConfig, servo_config, to_line
from edgevla.control.exchange import (
    MAX_WORDS,
    Reply,
    Request,
    Status,
    Wishes,
    pack_reply,
    pack_request,
    pack_wishes,
    pack_words,
    reply_bytes,
    request_bytes,
    unpack_reply,
    unpack_request,
    unpack_wishes,
    unpack_words,
)
from edgevla.control.schedule import Schedule
from edgevla.errors import DeviceFault
from edgevla.telemetry.rows import GRAPHS, Rows, inference_dtype, tick_dtype


def test_a_request_keeps_its_numbers():
    rng = np.random.default_rng(0)
    prefix, commanded, state = (rng.normal(size=s).astype(np.float32) for s in ((2, 4), (3, 4), (3, 5)))
    payload = pack_request(Request(16, 123, 45, prefix, commanded, state, True, 7))
    assert len(payload) == request_bytes(2, 4, 5, 3)
    read = unpack_request(payload)
    assert (read.tick, read.asked_ns, read.state_stamp_ns) == (16, 123, 45)
    assert (read.prefix == prefix).all()
    assert (read.commanded == commanded).all()
    assert (read.state == state).all()
    assert (read.first, read.instruction) == (True, 7)


def test_a_reply_keeps_its_numbers():
    chunk = np.arange(128, dtype=np.float32).reshape(32, 4)
    payload = pack_reply(Reply(8, 99, Status.OLD_FRAME, chunk))
    assert len(payload) == reply_bytes(32, 4)
    read = unpack_reply(payload)
    assert (read.tick, read.done_ns, read.status) == (8, 99, Status.OLD_FRAME)
    assert (read.setpoints == chunk).all()


def test_a_payload_of_another_size_is_refused():
    request = pack_request(Request(0, 0, 0, np.zeros((2, 4)), np.zeros((3, 4)), np.zeros((1, 4))))
    with pytest.raises(ValueError, match="expected"):
        unpack_request(request[:-1])
    with pytest.raises(ValueError, match="expected"):
        unpack_reply(pack_reply(Reply(0, 0, Status.OK, np.zeros((32, 4)))) + b"x")


def test_rows_keep_the_newest_and_count_all():
    rows = Rows.create(inference_dtype(), 3)
    reader = Rows(os.dup(rows.fd), inference_dtype())
    for tick in range(5):
        rows.append((tick, 0, 0, 0, 0, 0, 0, 0, 0, 0, (0,) * GRAPHS))
    assert reader.count == 5
    assert list(reader.newest()["tick"]) == [2, 3, 4]
    rows.close()
    reader.close()
    reader.close()


def test_memory_with_other_rows_is_refused():
    rows = Rows.create(inference_dtype(), 2)
    with pytest.raises(DeviceFault, match="other columns"):
        Rows(rows.fd, tick_dtype(64, 64))
    rows.close()


@pytest.mark.parametrize("watchdog_s", [0.1, None])
def test_the_servo_configuration_survives_its_line(watchdog_s):
    config = ServoConfig(
        parent_pid=1,
        port="/dev/pts/3",
        arm=replace(profiles.load_arm("metaworld-sawyer"), watchdog_s=watchdog_s),
        schedule=Schedule(32, 2, 8, 2),
        period_s=0.0125,
        servo_ratio=1,
        kinds=("delta", "absolute"),
        scale=(0.01, 1.0),
        offset=(0.0, 0.0),
        start_low=(0.0, -1.0),
        start_high=(0.5, 1.0),
        observations=1,
        duration_ticks=80,
        stay=False,
        audit="",
        core=None,
        priority=80,
        best_effort=True,
        request_fd=3,
        reply_fd=4,
        order_fd=5,
        kick_fd=6,
        rows_fd=7,
    )
    assert servo_config(to_line(config)) == config


def test_wishes_and_words_keep_their_meaning():
    wishes = Wishes(stops=2, arms=1, armed_ns=1 << 60, instruction=3, rest=True)
    assert unpack_wishes(pack_wishes(wishes)) == wishes
    assert unpack_words(pack_words(3, "öffne die Schublade")) == (3, "öffne die Schublade")


def test_what_is_no_order_or_no_words_is_refused():
    with pytest.raises(ValueError, match="expected"):
        unpack_wishes(b"\x01")
    with pytest.raises(ValueError, match="expected"):
        unpack_words(b"\x01")
    with pytest.raises(ValueError, match="at most"):
        pack_words(1, "x" * (MAX_WORDS + 1))
