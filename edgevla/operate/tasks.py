"""A sequence of tasks for standalone operation: what to do, for how long, with rests between. Pure after reading.

    repeat = "forever"

    [[task]]
    say = "open the drawer"
    duration_s = 12.0
    pause_s = 3.0

In a pause the arm slows down, rests with torque on and follows no chunk; the next task begins from there. A stop
or a latch in between ends the sequence: nothing arms by itself. So does its end: stop, latched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgevla.control.ladder import Phase
from edgevla.errors import BadInput, explain
from edgevla.operate.say import NoMessage, clean
from edgevla.operate.wish import Kind, Wish
from profiles.strict import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_BYTES = 256 * 1024
_MAX_TASKS = 256
_LONGEST_S = 86_400.0
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*task[ \t]*\]\]", re.MULTILINE)
_EXAMPLE = "see examples/standalone/tasks.toml"


class _TaskTable(Table):
    error = BadInput
    todo = f"correct the file; {_EXAMPLE}"


@dataclass(frozen=True)
class Task:
    """Say it, let the policy act for `duration_s`, then rest for `pause_s`. `where` names it in an error."""

    say: str
    duration_s: float
    pause_s: float
    where: str


@dataclass(frozen=True)
class Moment:
    """What is due: a task, or (`resting`) the pause after it. `left_s` until the next moment."""

    task: Task
    index: int  # of the task, from 0
    turn: int  # of the sequence, from 0
    resting: bool
    left_s: float


@dataclass(frozen=True)
class Sequence:
    """Tasks in order, `repeat` times; None = until somebody stops it."""

    tasks: tuple[Task, ...]
    repeat: int | None

    @property
    def turn_s(self) -> float:
        """Seconds of one time through."""
        return sum(task.duration_s + task.pause_s for task in self.tasks)

    @property
    def total_s(self) -> float | None:
        """Seconds until its end; None: it has none. The pause after the very last task is left out."""
        return None if self.repeat is None else self.repeat * self.turn_s - self.tasks[-1].pause_s

    def at(self, elapsed_s: float) -> Moment | None:
        """What is due `elapsed_s` after arming; None: it is over, stop and latch."""
        if self.total_s is not None and elapsed_s >= self.total_s:
            return None
        turn = int(elapsed_s // self.turn_s)
        rest_s = elapsed_s - turn * self.turn_s
        for index, task in enumerate(self.tasks):
            if rest_s < task.duration_s:
                return Moment(task, index, turn, False, task.duration_s - rest_s)
            rest_s -= task.duration_s
            if rest_s < task.pause_s:
                return Moment(task, index, turn, True, task.pause_s - rest_s)
            rest_s -= task.pause_s
        return Moment(self.tasks[0], 0, turn + 1, False, self.tasks[0].duration_s)  # rounding at the end of a turn


def read_sequence(path: Path) -> Sequence:
    """The sequence in a TOML file. Raises BadInput naming the file, the task, its line and the key."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise BadInput(explain(f"no task file at {path}", "a TOML file", got, f"check the path; {_EXAMPLE}")) from None
    if len(raw) > _MAX_BYTES:
        raise BadInput(
            explain(f"{path} is no task file", f"{_MAX_BYTES} bytes at most", "more", f"make it shorter; {_EXAMPLE}")
        )
    try:
        text = raw.decode("utf-8")
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        got = str(error) or type(error).__name__
        raise BadInput(explain(f"{path} is no TOML", "TOML of UTF-8", got, f"correct the file; {_EXAMPLE}")) from None
    return _sequence(str(path), text, data)


def check_words(sequence: Sequence, encode: Callable[[str], object]) -> None:
    """Every instruction in the policy's words, before anything moves.

    `encode` is `edgevla.policy.words.encoder_of(bundle)`. Raises BadInput naming the task.
    """
    for task in sequence.tasks:
        try:
            encode(task.say)
        except BadInput as error:
            raise BadInput(f"{task.where}: `say` is wrong: {error}") from None


def _sequence(name: str, text: str, data: dict[str, object]) -> Sequence:
    table = _TaskTable(name, data)
    items = table.raw("task", "a list of [[task]] tables")
    if not isinstance(items, list) or not 1 <= len(items) <= _MAX_TASKS:
        table.fail("task", f"1 to {_MAX_TASKS} [[task]] tables", items)
    repeat: int | None = 1
    if "repeat" in data:
        forever = data["repeat"] == "forever"
        table.raw("repeat", 'a whole number or "forever"')
        repeat = None if forever else _times(table)
    table.nothing_left()
    lines = [text.count("\n", 0, header.start(0)) + 1 for header in _HEADER.finditer(text)]
    known = lines if len(lines) == len(items) else []
    return Sequence(tuple(_task(name, i, known, item) for i, item in enumerate(items)), repeat)


def _times(table: Table) -> int:
    value = table.raw("repeat", "a whole number")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        table.fail("repeat", 'a whole number from 1 to 1000000, or "forever"', repr(value))
    return value


def _task(name: str, index: int, lines: list[int], item: object) -> Task:
    where = f"{name}, task {index + 1}" + (f" (line {lines[index]})" if lines else "")
    table = _TaskTable(where, item)
    try:
        say = clean(table.text("say"))
    except NoMessage as error:
        table.fail("say", "an instruction", str(error))
    duration_s = table.number("duration_s", 0.1, _LONGEST_S)
    has_pause = isinstance(item, dict) and "pause_s" in item
    pause_s = table.number("pause_s", 0.0, _LONGEST_S) if has_pause else 0.0
    table.nothing_left()
    return Task(say, duration_s, pause_s, where)


@dataclass(frozen=True)
class TaskClock:
    """Follows a sequence while the arm is armed; from the beginning each time somebody arms."""

    sequence: Sequence
    armed_ns: int | None = None
    place: tuple[int, int, bool] | None = None  # turn, task, resting: what was said last
    over: bool = False

    def look(self, phase: Phase | None, now_ns: int) -> tuple[TaskClock, Wish | None]:
        """The clock after this look (CLOCK_MONOTONIC ns), and what is due now if it is something else."""
        armed = phase is not None and Phase.START <= phase <= Phase.HOLD
        if not armed or self.over:
            return TaskClock(self.sequence, over=self.over), None
        begun_ns = now_ns if self.armed_ns is None else self.armed_ns
        moment = self.sequence.at((now_ns - begun_ns) / 1e9)
        if moment is None:
            return TaskClock(self.sequence, over=True), Wish(Kind.QUIT, by="tasks: the end of the sequence")
        place = (moment.turn, moment.index, moment.resting)
        clock = replace(self, armed_ns=begun_ns, place=place)
        if place == self.place:
            return clock, None
        by = f"{moment.task.where}, turn {moment.turn + 1}"
        return clock, Wish(Kind.REST, by=by) if moment.resting else Wish(Kind.INSTRUCT, moment.task.say, by)
