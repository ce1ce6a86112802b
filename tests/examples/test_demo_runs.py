"""A run of the demo in which a command was late is played once more, and the first is kept."""

from __future__ import annotations

import json
import sys

import pytest

from examples.metaworld import demo

# Stands in for `edgevla run`, which is late only when a machine stands still: as many late commands as it is told.
LATE = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--record") + 1])
plan = Path(sys.argv[1])
late, *rest = json.loads(plan.read_text())
plan.write_text(json.dumps(rest))
folder.mkdir(parents=True)
loop = {"ticks": 90, "late_commands": late, "misses": 0, "wake_p99_us": 50.0}
(folder / "run.json").write_text(json.dumps({"stop_reason": "task succeeded", "loop": loop}))
"""


@pytest.mark.parametrize(("told", "late", "first"), [([0], 0, False), ([2, 0], 0, True), ([1, 3], 3, True)])
def test_a_run_with_a_late_command_is_played_once_more(tmp_path, monkeypatch, told, late, first):
    plan, script = tmp_path / "plan.json", tmp_path / "run.py"
    plan.write_text(json.dumps(told))
    script.write_text(LATE)
    monkeypatch.setattr(demo, "OUT", tmp_path)
    monkeypatch.setattr(demo, "_edgevla", lambda *words: [sys.executable, str(script), str(plan), *words])
    folder = demo._run(demo.BUNDLE, "drawer-open-v3", "open the drawer", 0)
    assert json.loads((folder / "run.json").read_text())["loop"]["late_commands"] == late
    assert folder.with_name(folder.name + demo.FIRST).exists() == first
    assert (
        demo._run(demo.BUNDLE, "drawer-open-v3", "open the drawer", 0) == folder
    )  # a demo that goes on plays none again
    assert json.loads(plan.read_text()) == []
