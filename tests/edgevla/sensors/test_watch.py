"""A silent camera is told once, with patience at its start; it is tried again ever more slowly, never seldom."""

from edgevla.sensors.watch import Watch, back_off_s, patience_s

MS = 1_000_000


def test_a_stall_and_its_end_are_each_said_once():
    watch = Watch(200 * MS, opened_ns=0)
    assert watch.step(100 * MS, 90 * MS) is None
    assert watch.step(290 * MS, 90 * MS) is None
    assert watch.step(291 * MS, 90 * MS) == "stalled"
    assert watch.step(400 * MS, 90 * MS) is None
    assert watch.step(450 * MS, 440 * MS) == "resumed"
    assert watch.step(460 * MS, 440 * MS) is None


def test_an_old_frame_that_comes_late_resumes_nothing():
    watch = Watch(200 * MS, opened_ns=0, stalled=True)
    assert watch.step(1000 * MS, 700 * MS) is None


def test_a_camera_may_take_five_seconds_to_its_first_frame():
    watch = Watch(200 * MS, opened_ns=0)
    assert watch.step(5000 * MS, None) is None
    assert watch.step(5001 * MS, None) == "stalled"
    assert watch.age_ns(5001 * MS, None) == 5001 * MS


def test_attempts_to_open_again_grow_apart_and_stay_within_two_seconds():
    assert [back_off_s(n) for n in (0, 1, 2, 3, 4, 5, 1000)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_short_silence_is_waited_out_and_a_long_declared_one_too():
    assert (patience_s(0.2, fresh=False), patience_s(0.2, fresh=True)) == (1.0, 5.0)
    assert (patience_s(3.0, fresh=False), patience_s(9.0, fresh=True)) == (3.0, 9.0)
