"""Says plainly where it runs, and prints a table of every comparison; raw in out/lerobot-parity.json."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests_lerobot.build import prepare_library
from tests_lerobot.compare import RESULTS

if importlib.util.find_spec("lerobot") is None:
    pytest.exit("tests_lerobot needs the real LeRobot: make test-lerobot", returncode=2)
prepare_library()
OUT = Path("out/lerobot-parity.json")


def pytest_terminal_summary(terminalreporter) -> None:
    if not RESULTS:
        return
    terminalreporter.section("largest difference to the library, in raw action units")
    for row in RESULTS:
        terminalreporter.write_line(f"{row['difference']:.1e}  spread {row['spread']:5.2f}  {row['test']}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(RESULTS, indent=1) + "\n")
