"""Arming without a terminal: SIGUSR1 is the `a` key of a service. The kernel lets its user and root send it."""

from __future__ import annotations

import signal
import threading
from typing import Any


class ArmSignal:
    """Counts SIGUSR1 while the `with` block lasts."""

    def __init__(self) -> None:
        self._asked = False
        self._previous: Any = None

    def take(self) -> bool:
        """True once for what came since the last call."""
        asked, self._asked = self._asked, False
        return asked

    def _note(self, _number: int, _frame: object) -> None:
        self._asked = True

    def __enter__(self) -> ArmSignal:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGUSR1, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGUSR1, self._previous)
