"""What a person sees while a deploy goes on: steps, and a bar of bytes with rate and time left. All on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.status import Status
from rich.text import Text

from edgevla.cli.output import megabytes


class Screen:
    """Lines and bars on stderr; `quiet` (with --json) shows neither. Leaving its block ends a spinner."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        if not self._console.is_terminal:
            self._console = Console(stderr=True, highlight=False, quiet=quiet, width=160)
        self._going: Status | None = None  # the step that goes on, with a spinner

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._nothing_goes_on()

    def step(self, text: str, figures: str = "") -> None:
        """One thing that is done, or goes on."""
        line = Text("· ", style="bold cyan")
        line.append(text, style="default")
        if figures:
            line.append(f"  {figures}", style="dim")
        self._console.print(line, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something to read."""
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the robot's installer: a step begins, is done, or failed."""
        place = f"{event.get('step', '?')}/{event.get('of', '?')}"
        self._nothing_goes_on()
        if not event.get("failed") and not event.get("done") and self._console.is_terminal:
            self._going = self._console.status(escape(f"{place} {event.get('text', '')}"))
            self._going.start()
        elif event.get("failed"):
            self.warn(f"{place} {event.get('name', '')} failed; the robot returns to what it ran before")
        elif event.get("done"):
            self.step(f"{place} {event.get('text', '')}", figures_text(event.get("figures")))

    def _nothing_goes_on(self) -> None:
        if self._going is not None:
            self._going.stop()
            self._going = None

    @contextmanager
    def transfer(self, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A bar while bytes travel; call what is handed out with the number of bytes more."""
        if not self._console.is_terminal:
            yield lambda _: None
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as bars:
            bar = bars.add_task(escape(what), total=max(1, total_bytes))
            yield lambda count: bars.advance(bar, count)


def figures_text(figures: object) -> str:
    """Figures of an event: '1.2 s, 4 files'."""
    if not isinstance(figures, dict):
        return ""
    shown = []
    for key, value in figures.items():
        if key.endswith("bytes") and isinstance(value, int):
            shown.append(f"{key} {megabytes(value)}")
        elif isinstance(value, float):
            shown.append(f"{key} {value:.3g}")
        elif isinstance(value, (int, str)):
            shown.append(f"{key} {value}")
    return ", ".join(shown)
