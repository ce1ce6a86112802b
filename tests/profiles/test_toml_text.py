"""A profile written back loads to the same value, whatever it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import profiles
from firmware_bridge.calibration import read_calibration
from profiles import arm_toml, target_toml
from profiles.calibrated import with_calibration
from profiles.files import tomllib


def loaded(tmp_path: Path, text: bytes) -> Path:
    path = tmp_path / "written.toml"
    path.write_bytes(text)
    return path


@pytest.mark.parametrize("name", profiles.list_targets())
def test_every_target_loads_back_equal_and_extends_nothing(tmp_path: Path, name: str) -> None:
    target = profiles.load_target(name)
    text = target_toml(target)
    assert b"extends" not in text
    assert profiles.load_target(loaded(tmp_path, text)) == target
    assert target_toml(profiles.load_target(loaded(tmp_path, text))) == text


@pytest.mark.parametrize("name", profiles.list_arms())
def test_every_arm_loads_back_equal(tmp_path: Path, name: str) -> None:
    arm = profiles.load_arm(name)
    text = arm_toml(arm)
    assert profiles.load_arm(loaded(tmp_path, text)) == arm
    assert arm_toml(profiles.load_arm(loaded(tmp_path, text))) == text


def test_an_arm_carries_its_calibration(tmp_path: Path) -> None:
    arm = profiles.load_arm("so101")
    file = tmp_path / "calibration.json"
    rows = [
        f'"{c.name}": {{"id": {c.motor.id}, "drive_mode": 0, "homing_offset": {7 * n}, '
        '"range_min": 600, "range_max": 3500}'
        for n, c in enumerate(arm.channels)
        if c.motor is not None
    ]
    file.write_text("{" + ",".join(rows) + "}")
    mine = with_calibration(arm, read_calibration(file))
    assert mine != arm
    assert profiles.load_arm(loaded(tmp_path, arm_toml(mine))) == mine


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    number=st.floats(1e-4, 10.0),
    whole=st.integers(16, 1_048_576),
    core=st.one_of(st.none(), st.integers(0, 1023)),
)
def test_any_text_and_number_survives(text: str, number: float, whole: int, core: int | None) -> None:
    host = profiles.load_target("host")
    target = replace(host, description=text, latency_budget_s=number, memory_mb=whole, servo_core=core)
    data = tomllib.loads(target_toml(target).decode())
    assert data["description"] == text
    assert data["latency_budget_s"] == number
    assert data["memory_mb"] == whole
    assert data["servo_core"] == (-1 if core is None else core)
