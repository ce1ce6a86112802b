"""A misspelt key is named itself, with its line, before whatever it makes missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiles
from firmware_bridge.errors import suggest
from profiles import ProfileError
from profiles.keys import line_of
from profiles.loader import _HERE

SO101 = (_HERE / "arms" / "so101.toml").read_text()


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        profiles.load_file(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_following_eror", "max_following_error"),
        ("max_velocty", "max_velocity"),
        ("fals_on_loss", "falls_on_loss"),
        ("zero_rd", "zero_rad"),
        ("widht", "width"),
    ],
)
def test_a_misspelt_key_is_named_with_its_line_and_the_key_it_resembles(tmp_path: Path, wrong: str, right: str) -> None:
    text = SO101.replace(right, wrong, 1)
    (number,) = [i for i, line in enumerate(text.splitlines(), 1) if line.startswith(wrong)]
    lines = refused(tmp_path, text).splitlines()
    assert lines[0].endswith(f"mine.toml, line {number}: unknown key `{wrong}`")
    assert lines[2:] == [
        f"  got:      `{wrong}`",
        f"  to do:    did you mean `{right}`? correct the file; `edgevla profiles show` prints one that is right",
    ]


def test_a_key_is_found_in_the_second_of_its_tables_and_inside_a_line() -> None:
    text = '[[channels]]\nname = "a"\nmotor = { id = 1, modle = "x" }\n[[channels]]\nmotor = { id = 2, modle = "x" }\n'
    assert line_of(text, ("channels", 0, "motor"), "modle") == 3
    assert line_of(text, ("channels", 1, "motor"), "modle") == 5
    assert line_of(text, ("channels", 1, "motor"), "reply") is None
    nested = "[[channels]]\n[channels.motor]\nid = 1\n[[channels]]\n[channels.motor]\nid = 2\n"
    assert line_of(nested, ("channels", 1, "motor"), "id") == 6


def test_an_unknown_key_of_an_arm_comes_before_what_is_wrong_in_its_channels(tmp_path: Path) -> None:
    text = SO101.replace("falls_on_loss", "colour", 1).replace("maximum = 1.91", "maximum = -9.0", 1)
    assert "unknown key `colour`" in refused(tmp_path, text)


def test_effort_s_alone_says_what_it_belongs_to(tmp_path: Path) -> None:
    text = refused(tmp_path, SO101.replace("max_following_error = 0.4\n", "", 1))
    assert "`effort_s` is wrong" in text
    assert "max_effort or max_following_error beside it" in text


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n"])
def test_an_empty_file_is_called_empty(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).splitlines()[0].endswith("mine.toml is empty")


def test_a_file_cut_off_behind_its_name_is_neither_kind_and_later_it_is_an_arm(tmp_path: Path) -> None:
    assert "is neither a target nor an arm" in refused(tmp_path, 'name = "so101"\n')
    assert "`channels` is wrong" in refused(tmp_path, 'name = "so101"\nprotocol = "feetech"\n')


def test_a_target_where_an_arm_is_asked_for_is_said_to_be_one() -> None:
    with pytest.raises(ProfileError, match=r"another kind\n  expected: of kind arm\n  got:      of kind target\n"):
        profiles.load_arm(_HERE / "targets" / "host.toml")


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert suggest("p_gian", ["p_gain", "d_gain"]) == "did you mean `p_gain`? "
    assert suggest("colour", ["p_gain", "d_gain"]) == ""
