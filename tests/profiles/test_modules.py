"""A family of modules, and the one that a board turns out to be."""

from __future__ import annotations

import pytest

import profiles
from profiles import BoardFacts, ProfileError, resolve_module
from profiles.modules import choose_module

ORIN = profiles.load_target("jetson-orin")


# Root `compatible` strings of Linux's and L4T's device trees, tegra234-p3737-*.dts and tegra234-p3768-*.dts.
@pytest.mark.parametrize(
    ("compatible", "name"),
    [
        (("nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234"), "jetson-agx-orin-64"),
        (("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"), "jetson-agx-orin-64"),
        (("nvidia,p3737-0000+p3701-0004", "nvidia,p3701-0004", "nvidia,tegra234"), "jetson-agx-orin-32"),
        (("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"), "jetson-orin-nx-16"),
        (("nvidia,p3768-0000+p3767-0001-super", "nvidia,p3767-0001", "nvidia,tegra234"), "jetson-orin-nx-8"),
        (("nvidia,p3768-0000+p3767-0003", "nvidia,p3767-0003", "nvidia,tegra234"), "jetson-orin-nano-8"),
        (("nvidia,p3768-0000+p3767-0004", "nvidia,p3767-0004", "nvidia,tegra234"), "jetson-orin-nano-4"),
        (("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"), "jetson-orin-nano-8"),
        (("vendor,board-with-its-own-name", "nvidia,p3767-0000"), "jetson-orin-nx-16"),
        (("nvidia,p3509-0000+p3767-0004",), "jetson-orin-nano-4"),  # an older carrier
    ],
)
def test_the_part_number_tells_the_module(compatible: tuple[str, ...], name: str) -> None:
    assert resolve_module(ORIN, BoardFacts("any model", compatible, 1_000)).name == name


@pytest.mark.parametrize(
    ("model", "memory_mb", "name"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", 7_619, "jetson-orin-nano-8"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 3_500, "jetson-orin-nano-4"),
        ("NVIDIA Orin NX Developer Kit", 15_656, "jetson-orin-nx-16"),
        ("NVIDIA Jetson Orin NX on a board of our own", 7_600, "jetson-orin-nx-8"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 62_800, "jetson-agx-orin-64"),
        ("NVIDIA Jetson AGX Orin", 30_500, "jetson-agx-orin-32"),
    ],
)
def test_without_part_numbers_model_and_memory_tell_it(model: str, memory_mb: int, name: str) -> None:
    assert resolve_module(ORIN, BoardFacts(model, (), memory_mb)).name == name


@pytest.mark.parametrize(
    "facts",
    [
        BoardFacts(),
        BoardFacts("Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), 8_060),
        BoardFacts("NVIDIA Jetson AGX Xavier", ("nvidia,p2972-0000", "nvidia,tegra194"), 31_000),
        BoardFacts("NVIDIA Jetson Orin Nano", (), None),  # 4 or 8 GB?
        BoardFacts("NVIDIA Jetson Orin Nano", (), 16_000),  # more than any
        # the industrial AGX Orin has power modes of its own: not taken for the other one
        BoardFacts("NVIDIA Jetson AGX Orin Industrial", ("nvidia,p3737-0000+p3701-0008", "nvidia,p3701-0008"), 62_000),
    ],
    ids=["nothing", "pi", "xavier", "no memory", "too much memory", "industrial"],
)
def test_a_board_that_is_none_of_them_is_refused_with_what_it_says_of_itself(facts: BoardFacts) -> None:
    with pytest.raises(ProfileError) as caught:
        resolve_module(ORIN, facts)
    text = str(caught.value)
    assert text.startswith("no module of jetson-orin fits this board\n  expected: one of jetson-agx-orin-64, ")
    assert (facts.model or "no model") in text
    assert "`extends`" in text


def test_a_kit_that_plays_another_module_is_not_guessed() -> None:
    facts = BoardFacts("NVIDIA Jetson", ("nvidia,p3701-0000-as-p3767-0003",), 62_000)
    with pytest.raises(ProfileError, match="more than one module of jetson-orin fits"):
        resolve_module(ORIN, facts)


def test_a_target_that_is_no_family_is_its_own_module() -> None:
    host = profiles.load_target("host")
    assert resolve_module(host, BoardFacts()) is host


def test_a_whole_compatible_string_counts_where_it_has_no_part_number() -> None:
    pi = profiles.load_target("raspberry-pi-5")
    assert choose_module(ORIN, [pi], BoardFacts("", ("raspberrypi,5-model-b",), None)) is pi
    with pytest.raises(ProfileError):
        choose_module(ORIN, [pi], BoardFacts("", ("raspberrypi,4-model-b",), None))
