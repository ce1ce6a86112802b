"""Processes that compute do not outlive the one that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from export.spawned import spawned

ASKS = """
from pathlib import Path
from tests.export.test_spawned import sleeping
from export.spawned import spawned

if __name__ == "__main__":
    with spawned(1) as pool:
        at_work, queued = (pool.submit(sleeping, Path({there!r} + next)) for next in ("", "-next"))
        at_work.result()
"""
WORDS: list[str] = []


def sleeping(there: Path) -> None:
    part = there.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(there)
    time.sleep(300)


def begin(*words: str) -> None:
    WORDS.extend(words)


def heard() -> list[str]:
    return WORDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_with_it_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    there, script = tmp_path / "pid", tmp_path / "asks.py"
    script.write_text(ASKS.format(there=str(there)))
    asking = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        _until(there.exists)
        works = int(there.read_text())
        asking.send_signal(number)
        asking.wait(10)
        _until(lambda: _is_over(works))
    finally:
        asking.kill()


def test_each_begins_with_what_it_was_given() -> None:
    with spawned(1, begin, "a", "b") as pool:
        assert pool.submit(heard).result() == ["a", "b"]


def test_ctrl_c_is_heard_by_the_one_that_asked_alone_and_ends_them(tmp_path: Path) -> None:
    there, script = tmp_path / "pid", tmp_path / "asks.py"
    script.write_text(ASKS.format(there=str(there)))
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    asking = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _until(there.exists)
        works = int(there.read_text())
        os.killpg(asking.pid, signal.SIGINT)
        _, said = asking.communicate(timeout=10)
        _until(lambda: _is_over(works))
    finally:
        asking.kill()
    assert said.count("Traceback") == said.count("KeyboardInterrupt") == 1


def test_an_error_drops_the_queue_and_ends_what_is_at_work(tmp_path: Path) -> None:
    there, futures = tmp_path / "pid", []

    def fail() -> None:
        with spawned(1) as pool:
            futures.extend(pool.submit(sleeping, tmp_path / name) for name in ("pid", "a", "b", "c"))
            _until(there.exists)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(future.done() for future in futures)
    assert _is_over(int(there.read_text()))
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def _is_over(pid: int) -> bool:
    """Gone, or a zombie where nobody waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _until(true: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "still waiting"
        time.sleep(0.05)
