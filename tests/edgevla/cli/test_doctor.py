"""`edgevla doctor` as a user meets it, on this machine and on others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgevla.cli import doctor as command
from edgevla.doctor.host import Host
from tests.edgevla.doctor.machine import REFUSED, build


def call(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command.doctor)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


def on(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr(command, "Host", lambda: host)


def test_this_machine_is_examined_and_its_json_counts_add_up() -> None:
    code, text = call("--target", "host", "--json")
    report = json.loads(text)
    assert sum(report["counts"].values()) == len(report["findings"])
    assert report["can_hold"] is (report["counts"]["fail"] == 0) is (code == 0)
    assert {"kernel", "cpu", "system"} <= {finding["subject"] for finding in report["findings"]}


def test_a_fail_is_exit_code_1_and_its_line_to_type_is_printed_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, build("orin", tmp_path, grant=REFUSED))
    code, text = call("--target", "jetson-orin", "--port", "/dev/ttyUSB0")
    assert code == 1
    assert "  echo 1 | sudo tee /sys/class/tty/ttyUSB0/device/latency_timer\n" in text
    assert text.index("fail: latency timer") < text.index("warn: preemption")


def test_a_machine_that_can_hold_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, build("x86-rt", tmp_path))
    code, text = call("--target", "host", "--port", "/dev/ttyACM0")
    assert code == 0
    assert "0 fail, 0 warn" in text


def test_the_worst_may_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, build("orin", tmp_path, grant=REFUSED))
    _, text = call("--target", "jetson-orin", "--worst-first")
    levels = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    named = [level for level in levels if level]
    assert named == sorted(named, key=["fail", "warn", "info", "pass"].index)
    assert set(named) == {"fail", "warn", "info", "pass"}


def test_help_shows_an_example() -> None:
    code, text = call("--help")
    assert code == 0
    assert "Example: edgevla doctor" in " ".join(text.split())
