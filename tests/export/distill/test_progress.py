"""How far a long job is, and how long it still takes."""

from __future__ import annotations

import pytest

from export.distill import progress
from export.distill.progress import Reporter, time_left


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_what_an_earlier_run_did_is_done_and_says_nothing_of_the_pace(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter("steps", 1000)
    clock.now_s += 1
    reporter.show(900)
    clock.now_s += 20
    reporter.show(910, "loss 1")
    assert capsys.readouterr().err == "  steps:  91 %, about 180 s left, loss 1\n"


def test_a_line_comes_every_few_seconds_and_none_where_nobody_asked(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, silent = Reporter("steps", 100), Reporter("steps", 100, active=False)
    for step in range(100):
        clock.now_s += 1
        for reporter in (loud, silent):
            reporter.show(step)
    loud.close()
    assert len(capsys.readouterr().err.splitlines()) == 6


@pytest.mark.parametrize(
    ("first", "now", "said"),
    [
        ((0, 0), (10, 5), "about 45 s left"),
        ((50, 0), (50, 9), "time left not known yet"),
        ((100, 0), (100, 0), "0 s left"),
        ((50, 0), (120, 7), "about 0 s left"),
    ],
)
def test_time_left_in_words(first: tuple[float, float], now: tuple[float, float], said: str) -> None:
    assert time_left(first, now, 100) == said
