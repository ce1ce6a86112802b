"""The example of the bridge's own page is typed in as it stands."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "firmware_bridge" / "README.md"


def test_the_example_runs_and_prints_joints_and_a_state():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "joint6 sts3215" in done.stdout
    assert done.stdout.count("[") == 1
