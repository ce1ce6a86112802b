"""The board that this is, read from files, and the target that it makes of a family."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiles
from edgevla.doctor import jetson
from edgevla.doctor.board import board_facts, target_here
from edgevla.doctor.host import Wanted
from edgevla.doctor.probe import Tree
from edgevla.errors import Refused
from profiles import BoardFacts, ProfileError
from tests.edgevla.doctor.machine import build

ORIN = profiles.load_target("jetson-orin")
NANO = {"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"}


def test_facts_are_read_from_the_device_tree_and_the_kernel(tmp_path: Path) -> None:
    facts = board_facts(build("orin", tmp_path, files=NANO).tree)
    assert facts == BoardFacts(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
        7_619,
    )


def test_a_machine_without_a_device_tree_says_nothing(tmp_path: Path) -> None:
    assert board_facts(Tree(tmp_path)) == BoardFacts()


def test_the_family_is_the_module_that_is_found(tmp_path: Path) -> None:
    by_part = build("orin", tmp_path / "part", files=NANO)
    by_model = build("orin", tmp_path / "model")
    for host in (by_part, by_model):
        assert target_here(ORIN, host.tree, "aarch64").name == "jetson-orin-nano-8"


def test_a_raspberry_pi_is_no_module_of_orin(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no module of jetson-orin fits this board"):
        target_here(ORIN, build("pi5", tmp_path).tree, "aarch64")


def test_a_target_of_another_architecture_is_refused_before_the_board_is_read(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="target jetson-orin does not run on this machine\n  expected: aarch64\n"):
        target_here(ORIN, Tree(tmp_path), "x86_64")


def test_the_expected_power_mode_is_that_of_the_target(tmp_path: Path) -> None:
    host = build("orin", tmp_path, files=NANO)
    found = {f.name: f for f in jetson.examine(host, Wanted(target_here(ORIN, host.tree, "aarch64")))}
    assert found["power mode"].level == "pass"
    assert found["power mode"].found == "15W (mode 0)"


def test_another_power_mode_is_warned_of_with_the_line_that_sets_the_expected_one(tmp_path: Path) -> None:
    host = build("orin", tmp_path, files={**NANO, "var/lib/nvpmodel/status": "pmode:0002"})
    found = {f.name: f for f in jetson.examine(host, Wanted(target_here(ORIN, host.tree, "aarch64")))}
    assert (found["power mode"].level, found["power mode"].todo) == ("warn", ("sudo nvpmodel -m 0",))
