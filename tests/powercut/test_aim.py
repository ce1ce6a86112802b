"""A kill meets the call that is meant, also where another process makes the same ones first."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.powercut import trace
from tests.powercut.aim import Sights, _is_stable, met, plain_paths
from tests.powercut.kills import evenly
from tests.powercut.replay import Replay

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
PROGRAM = """
import os, sys
os.chdir(sys.argv[1])
def synced(name):
    handle = os.open(name, os.O_RDONLY); os.fsync(handle); os.close(handle)
for n in range(2): os.mkdir(f"parent{n}"); synced(".")
if os.fork() == 0:
    for n in range(2):
        for m in range(2): os.mkdir(f"{os.getcwd()}/child{n}{m}"); synced(f"child{n}{m}")
        synced(".")
    os.rename(f"{os.getcwd()}/child00", f"{os.getcwd()}/a child")
    os._exit(0)
os.wait()
"""


def test_each_call_of_a_child_is_met_though_its_parent_made_as_many_before(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(prefix)]
    trace.record(command, tmp_path / "trace")
    replay, sights = Replay(prefix, Path.cwd()), Sights(tmp_path / "trace")
    replay.feed(trace.read(tmp_path / "trace"))
    child = [call for call in replay.mutating if call.pid != replay.mutating[0].pid]
    half = ["mkdir", "fsync"] * 2 + ["fsync"]
    assert [call.name for call in child] == [*half, *half, "rename"]
    for number in (2, 3, 4, 9, 10):
        call = child[number]
        aim = sights.aim(call, prefix)
        assert aim.exact
        shutil.rmtree(prefix)
        prefix.mkdir()
        lines = trace.kill_at(command, aim.name, aim.nth, None, aim.paths)
        assert [met(line, call.name, plain_paths(call)) for line in lines] == [True]
        made = sum(1 for one in child[:number] if one.name == "mkdir")
        assert sum(1 for name in os.listdir(prefix) if name.startswith("child")) == made


def test_names_that_are_others_in_each_run_are_no_aim() -> None:
    prefix = Path("/robot")
    assert [
        _is_stable(path, prefix)
        for path in ("/robot", "/robot/a.pyc", "/robot/a.pyc.139777907887440", "/robot/w/0a1b.0123abcd/x", "/robots/a")
    ] == [True, True, False, False, False]


def test_others_are_spread_evenly() -> None:
    assert evenly(range(10), 4) == [0, 2, 5, 7]
    assert evenly(range(3), 4) == [0, 1, 2]
