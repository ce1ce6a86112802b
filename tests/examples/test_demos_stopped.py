"""Ctrl-C at a terminal, as the commands that record demonstrations and pictures hear it: all processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 10.0  # 1 s on a quiet machine; the queue takes longer
COMMANDS = {
    "mt.play": ("--scenes", "1", "--pictures", "2"),
    "mt.demos": ("--episodes", "1", "--half-way", "0"),
    "demos": ("--episodes", "1", "--half-way", "0"),
}


def begin(name: str, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"examples.metaworld.{name}", "-o", str(out), *COMMANDS[name], "--workers", "2"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def shards(out: Path) -> list[Path]:
    return [path for path in out.glob("*.npz") if not path.name.startswith(".")]


def stop(asked: subprocess.Popen[str], when: Callable[[], object]) -> str:
    """What it said on stderr, stopped at that moment and ended in time with 130."""
    end = time.monotonic() + 120
    while not when():
        assert asked.poll() is None, asked.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(asked.pid, signal.SIGINT)
    _, said = asked.communicate(timeout=LIMIT_S)  # until none of its processes is left that holds the pipe
    assert asked.returncode == 130, said
    return said


@pytest.mark.parametrize("name", COMMANDS)
def test_stopped_while_its_processes_start_it_says_only_that(name: str, tmp_path: Path) -> None:
    for wait_s in (0.0, 0.3):
        out = tmp_path / f"{wait_s}"
        asked = begin(name, out)
        try:
            said = stop(asked, lambda out=out, wait_s=wait_s: (out / "plan.json").exists() and not time.sleep(wait_s))
        finally:
            asked.kill()
        assert said == "\nstopped; the same command goes on from here\n"
        assert not shards(out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mt.play", "mt.demos"])
def test_stopped_at_work_it_keeps_whole_shards_and_goes_on(name: str, tmp_path: Path) -> None:
    asked = begin(name, tmp_path)
    try:
        said = stop(asked, lambda: shards(tmp_path))
    finally:
        asked.kill()
    assert said == "\nstopped; the same command goes on from here\n"
    kept = {path: path.stat().st_mtime_ns for path in shards(tmp_path)}
    assert 0 < len(kept) < 10
    assert not (tmp_path / "dataset.json").exists()
    for path in kept:
        with np.load(path) as archive:
            assert len(archive["state"])
    again = begin(name, tmp_path)
    try:
        told, said = again.communicate(timeout=240)
    finally:
        again.kill()
    assert again.returncode == 0, said
    assert len(told.splitlines()) == 10 - len(kept)
    assert len(shards(tmp_path)) == 10
    assert all(path.stat().st_mtime_ns == made for path, made in kept.items())
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in shards(tmp_path)} == {
        "plan.json", "dataset.json"
    }  # fmt: skip
