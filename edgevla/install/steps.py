"""What install and rollback have in common: named steps, one after another, and how it ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from edgevla.errors import BadInput, Refused, explain
from edgevla.install.frames import error_of

Say = Callable[[Mapping[str, Any]], None]  # one event; what it raises (a full disk) is an error of the step

SAID = "said"  # among a step's figures: what was found, in place of its text
_MAX_TEXT = 400  # characters of one figure in the log


@dataclass(frozen=True)
class Options:
    """What a client may choose."""

    health_ticks: int = 800  # disarmed ticks that the started service must keep
    health_timeout_s: float = 120.0
    keep: int = 3  # good releases that stay
    accept_unknown_torque: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Options:
        """From a request; other keys are a newer client's and are ignored. Raises BadInput."""
        default = cls()
        return cls(
            health_ticks=_whole(data, "health_ticks", default.health_ticks, 1, 10_000_000),
            health_timeout_s=float(_whole(data, "health_timeout_s", int(default.health_timeout_s), 1, 86_400)),
            keep=_whole(data, "keep", default.keep, 1, 1_000),
            accept_unknown_torque=data.get("accept_unknown_torque") is True,
        )


@dataclass(frozen=True)
class Outcome:
    """How it ended. `good`: the release runs and is marked good. `why`: the error otherwise."""

    id: str
    good: bool
    why: str
    exit_code: int = 0
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Step:
    """One of them. `act` returns figures, and raises what is wrong."""

    name: str
    text: str
    act: Callable[[], Mapping[str, Any] | None]


def walk(steps: Sequence[Step], say: Say) -> dict[str, Any] | None:
    """All of them, each said when it begins and when it is done; None, or the error of the first that failed."""
    for number, step in enumerate(steps, 1):
        said = {"step": number, "of": len(steps), "name": step.name}
        try:
            say({**said, "text": step.text})
            figures = dict(step.act() or {})
            text = str(figures.pop(SAID, step.text))
            say({**said, "text": text, "done": True, "figures": brief(figures)})
        except Exception as error:
            told = error_of(error)
            with contextlib.suppress(OSError):  # a full disk may be the very reason
                say({**said, "text": told["text"], "failed": True})
            return told
    return None


def brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values among them: what a line of the log can hold. The rest stands in installed.json."""
    plain = {key: value for key, value in figures.items() if isinstance(value, (bool, int, float, str))}
    return {key: value[:_MAX_TEXT] if isinstance(value, str) else value for key, value in plain.items()}


def each_tried(acts: Sequence[Callable[[], object]]) -> tuple[str, ...]:
    """Call all of them, whatever the ones before did; the texts of those that failed."""
    texts = []
    for act in acts:
        try:
            act()
        except Exception as error:
            texts.append(str(error_of(error)["text"]))
    return tuple(texts)


def stop_on_signals() -> None:
    """A polite end is an error like any other: the way back is taken. A lost terminal is none."""

    def end(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Refused(explain("the installer was told to end", "time to finish", name, "deploy again"))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, lambda *_: None)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """On the way back nothing polite interrupts. By handlers that do nothing: what is started there would inherit
    that signals are ignored, and could not be ended politely itself."""
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: nothing was caught there either
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _whole(data: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        todo = "correct the option"
        raise BadInput(explain(f"`{key}` is wrong", f"a number in [{low}, {high}]", repr(value)[:100], todo))
    return int(value)
