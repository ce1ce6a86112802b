"""Following a job that works in a process of its own: nothing is done where nothing happens."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgevla.install import job
from edgevla.install.layout import Layout


def test_the_log_is_read_only_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last 256 KiB twenty times a second would be taken from the release that runs meanwhile."""
    layout = Layout(tmp_path)
    layout.log.parent.mkdir(parents=True)
    reads = []

    def read(path: Path, deploy: str | None = None) -> list[dict[str, Any]]:
        reads.append(path)
        return lines_of(path, deploy)

    lines_of = job.lines_of
    monkeypatch.setattr(job, "lines_of", read)
    told: list[int] = []
    lines = [{"deploy": "d", "step": 1}, {"deploy": "d", "step": 2}, {"deploy": "d", "outcome": {"good": True}}]
    script = "; ".join(f"sleep 0.4; echo '{json.dumps(line)}' >> {layout.log}" for line in lines)
    process = subprocess.Popen(["sh", "-c", script])
    with tempfile.TemporaryFile() as words:
        outcome = job.follow(layout, job.Running(process, "d", words), lambda line: told.append(line["step"]))
    assert (outcome, told) == ({"good": True}, [1, 2])
    assert len(reads) <= 5  # once without a log, once for each line, once at the end
