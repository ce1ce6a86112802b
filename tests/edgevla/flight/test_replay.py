"""A record replays bit by bit, and one altered bit in an image, a chunk or a row is found and named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgevla.control.exchange import Status
from edgevla.flight import encoding as form
from edgevla.flight.reader import observations_of, read_record
from edgevla.flight.replay import replay_policy, replay_ticks, terms_of
from edgevla.flight.tape import Seen
from edgevla.policy.engine import PolicyEngine
from tests.edgevla.flight.flown import SCHEDULE, Flight, Happens, host, write

TROUBLES = {
    "nothing": Happens(),
    "one lost": Happens(status={24: Status.OLD_FRAME}),
    "the policy hangs": Happens(silent=range(40, 200)),
    "a late chunk": Happens(slow_ns={32: 60_000_000}),
    "an operator stop": Happens(stop=50),
    "a new instruction": Happens(instruct=45),
    "periods overslept": Happens(oversleep={37: 5, 60: 3}),
    "commands not written": Happens(unsent=range(41, 44)),
}


def flown(tiny, tmp_path, happens=None, change=None):
    flight = Flight(tiny, 120, happens)
    if change is not None:
        change(flight)
    return read_record(write(flight, tmp_path / "flight.mcap"))


def ticks_of(record):
    return replay_ticks(record.meta, record.ticks, [seen for _, seen, _ in observations_of(record)])


def policy_of(record, tiny, tolerance=0.0):
    from edgevla.bundle import open_bundle

    return replay_policy(record, PolicyEngine(open_bundle(tiny)), tolerance)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_run_replays_bit_by_bit_whatever_happened_in_it(tiny, tmp_path, trouble):
    record = flown(tiny, tmp_path, TROUBLES[trouble])
    ticks, policy = ticks_of(record), policy_of(record, tiny)
    assert (ticks.difference, ticks.passed_over) == (None, ())
    assert ticks.compared == len(record.ticks)
    assert (policy.difference, policy.passed_over) == (None, ())
    assert policy.compared == (record.observations["status"] == Status.OK).sum() > 0


def test_one_bit_of_one_pixel_is_found_and_the_camera_named(tiny, tmp_path):
    """The record is written with the altered picture's own checksum: only the policy can tell."""

    def flip(flight):
        seen = flight.observations[3]
        image = seen.frames["corner"].image.copy()
        image[50, 40, 1] ^= 0x01
        flight.observations[3] = replace(seen, frames={"corner": Seen(*seen.frames["corner"][:2], image)})

    record = flown(tiny, tmp_path, change=flip)
    difference = policy_of(record, tiny).difference
    assert difference.tick == 24
    assert difference.stage.startswith("chunk[")
    assert ticks_of(record).difference is None


def test_a_picture_that_is_not_the_recorded_one_is_named_before_the_policy_runs(tiny, tmp_path, monkeypatch):
    """The checksum of a picture stands beside the observation, so that a swapped picture is told from a wrong chunk."""
    real = form.pack_image

    def altered(name, frame):
        image = frame.image.copy()
        image[0, 0, 0] ^= 0x80 if frame.sequence == 17 else 0  # tick 16
        return real(name, frame._replace(image=image))

    monkeypatch.setattr(form, "pack_image", altered)
    difference = policy_of(flown(tiny, tmp_path), tiny).difference
    assert (difference.tick, difference.stage) == (16, "image")
    assert difference.got == "image of camera corner is not the one that was recorded"


@pytest.mark.parametrize(("what", "stage"), [("chunk", "chunk[7, 2]"), ("setpoints", "setpoints[7, 2]")])
def test_one_bit_of_an_answer_is_found_and_its_place_named(tiny, tmp_path, what, stage):
    def flip(flight):
        seen = flight.observations[4]
        values = getattr(seen, what).copy()
        values.view(np.uint32)[7, 2] ^= 1
        flight.observations[4] = replace(seen, **{what: values})

    difference = policy_of(flown(tiny, tmp_path, change=flip), tiny).difference
    assert (difference.tick, difference.stage) == (32, stage)
    assert difference.expected != difference.got


@pytest.mark.parametrize(
    ("field", "stage"),
    [
        ("setpoint", "setpoint[2]"), ("phase", "phase"), ("started", "started"), ("chunk", "chunk in force"),
        ("limited", "limited"),
    ],
)  # fmt: skip
def test_one_bit_of_a_row_is_found_and_its_column_named(tiny, tmp_path, field, stage):
    def flip(flight):
        rows = flight.ticks
        bits = rows[field].copy()
        if field == "setpoint":
            bits.view(np.uint32)[66, 2] ^= 1
        else:
            bits[66] ^= 1
        rows[field] = bits

    difference = ticks_of(flown(tiny, tmp_path, change=flip)).difference
    assert (difference.tick, difference.stage) == (66, stage)


@pytest.mark.parametrize(("field", "stage"), [("answer_done", "chunk in force"), ("answer_valid", "chunk in force")])
def test_an_altered_input_of_a_tick_shows_in_what_it_leads_to(tiny, tmp_path, field, stage):
    def change(flight):
        flight.ticks[field][34:] = 99 if field == "answer_done" else 0

    difference = ticks_of(flown(tiny, tmp_path, change=change)).difference
    assert (difference.tick, difference.stage) == (34, stage)


def test_a_prefix_that_does_not_follow_from_the_ticks_is_named(tiny, tmp_path):
    def flip(flight):
        seen = flight.observations[5]
        prefix = seen.prefix.copy()
        prefix.view(np.uint32)[1, 0] ^= 1
        flight.observations[5] = replace(seen, prefix=prefix)

    difference = ticks_of(flown(tiny, tmp_path, change=flip)).difference
    assert (difference.tick, difference.stage) == (40, "prefix[1, 0]")


def test_one_bit_flipped_in_the_file_is_named_with_its_place(tiny, tmp_path):
    path = write(Flight(tiny, 120), tmp_path / "flight.mcap")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    (damage,) = read_record(path).damage
    assert damage.startswith("flight.mcap: chunk at byte ")
    assert "is altered" in damage


def test_lost_ticks_are_passed_over_and_said(tiny, tmp_path):
    def lose(flight):
        flight.ticks = np.delete(flight.ticks, range(50, 60))

    replayed = ticks_of(flown(tiny, tmp_path, change=lose))
    assert replayed.difference is None
    assert replayed.compared == 50
    assert replayed.passed_over == ("tick 60: servo steps 50 to 59 are lost: not compared up to the next arming",)


def test_a_lost_chunk_ends_the_comparison_of_the_ticks_it_moved(tiny, tmp_path):
    record = flown(tiny, tmp_path, change=lambda flight: flight.observations.pop(3))
    replayed = ticks_of(record)
    assert (replayed.difference, replayed.compared) == (None, 26)
    assert replayed.passed_over == ("tick 26: the chunk released here is lost: not compared up to the next arming",)


def test_a_record_that_begins_in_flight_says_that_its_ticks_cannot_be_compared(tiny, tmp_path):
    def lose(flight):
        flight.ticks = flight.ticks[40:]

    replayed = ticks_of(flown(tiny, tmp_path, change=lose))
    assert (replayed.compared, replayed.difference) == (0, None)
    assert replayed.passed_over == ("tick 40: the record begins after the arming: not compared up to the next arming",)


def test_a_mutant_of_the_schedule_is_found(tiny, tmp_path):
    record = flown(tiny, tmp_path)
    for change in ({"delay": SCHEDULE.delay + 1}, {"replan": 9}, {"delay": 1}):
        meta = {**record.meta, "schedule": {**record.meta["schedule"], **change}}
        assert ticks_of(replace(record, meta=meta)).difference is not None, change


def test_terms_are_exact_on_the_same_machine_and_tolerant_on_another(tiny, tmp_path):
    from edgevla.bundle import open_bundle

    record, bundle = flown(tiny, tmp_path), open_bundle(tiny)
    sha256 = record.meta["bundle_sha256"]
    assert terms_of(record, host(), sha256, bundle).exact
    other = {**host(), "cpu": "Cortex-A78AE"}
    terms = terms_of(record, other, "0" * 64, bundle)
    assert (terms.same_cpu, terms.same_runtime, terms.same_bundle) == (False, True, False)
    assert terms.tolerance == pytest.approx(1e-4)
    newer = json.loads(json.dumps(host())) | {"packages": {"onnxruntime": "0.0"}}
    assert not terms_of(record, newer, sha256, bundle).exact


def test_within_the_tolerance_of_another_machine_a_last_bit_is_no_difference(tiny, tmp_path):
    def nudge(flight, by=1e-6):
        seen = flight.observations[4]
        chunk = seen.chunk.copy()
        chunk[9, 1] += by
        flight.observations[4] = replace(seen, chunk=chunk)

    record = flown(tiny, tmp_path, change=nudge)
    assert policy_of(record, tiny).difference is not None
    assert policy_of(record, tiny, 1e-4).difference is None
    (tmp_path / "more").mkdir()
    worse = flown(tiny, tmp_path / "more", change=lambda flight: nudge(flight, 0.01))
    assert policy_of(worse, tiny, 1e-4).difference.stage == "chunk[9, 1]"


class Remembering:
    """An engine whose answers depend on how many there were since it forgot."""

    remembers = True

    def __init__(self, tiny):
        from edgevla.bundle import open_bundle

        self._engine, self._count = PolicyEngine(open_bundle(tiny)), 0
        self.to_setpoints, self.observe = self._engine.to_setpoints, self._engine.observe

    def set_instruction(self, text):
        self._engine.set_instruction(text)
        self.forget()

    def forget(self):
        self._engine.forget()
        self._count = 0

    def infer(self, images, state, prefix):
        self._count += 1
        return self._engine.infer(images, state, prefix) + np.float32(1e-3 * self._count)


def remembered(tiny, tmp_path, change=None):
    happens = Happens(status={24: Status.OLD_FRAME}, instruct=60)
    flight = Flight(tiny, 120, happens, engine=Remembering(tiny))
    if change is not None:
        change(flight)
    record = read_record(write(flight, tmp_path / "flight.mcap"))
    return record, replay_policy(record, Remembering(tiny))


def test_a_policy_that_remembers_is_followed_through_a_refusal_and_a_new_instruction(tiny, tmp_path):
    record, replayed = remembered(tiny, tmp_path)
    assert (replayed.difference, replayed.passed_over) == (None, ())
    assert replayed.compared == (record.observations["status"] == Status.OK).sum() > 10
    assert 1 < record.observations["cleared"].sum() < len(record.observations)


def test_behind_a_lost_entry_a_policy_that_remembers_is_compared_again_when_it_was_cleared(tiny, tmp_path):
    def lose(flight):
        flight.observations[4] = None

    record, replayed = remembered(tiny, tmp_path, change=lose)
    assert replayed.difference is None
    assert 4 < replayed.compared < (record.observations["status"] == Status.OK).sum()
    (said,) = replayed.passed_over
    assert "behind a lost entry" in said
