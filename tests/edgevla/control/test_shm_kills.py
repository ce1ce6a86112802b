"""A real writer process, killed by SIGKILL inside a write. A kill counts only when the slot is found torn."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.edgevla.control.killed_writers import KILLS, PATIENCE_S, PAYLOAD


def test_writers_killed_inside_a_write_leave_the_entry_before_and_successors_go_on(capsys):
    command = [sys.executable, "-m", "tests.edgevla.control.killed_writers"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    with capsys.disabled():
        share = f"{seen['least']} .. {seen['most']} of {PAYLOAD} bytes were new"
        print(f"\n  {seen['landed']} of {seen['kills']} kills landed inside a write ({share}), {seen['took_s']:.1f} s")
    assert seen["landed"] >= KILLS
