"""A target on top of another one: what is inherited, what is not, and whose line an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiles
from profiles import ProfileError, Target

MINE = 'extends = "generic-aarch64"\nname = "mine"\ndescription = "mine"\nmeasured = false\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        profiles.load_target(path)
    text = str(caught.value)
    assert all(text.count(part) == 1 for part in ("expected:", "got:", "to do:"))
    return text


def target_of(path: Path) -> Target:
    return profiles.load_target(path)


def test_what_the_file_does_not_say_comes_from_below(tmp_path: Path) -> None:
    mine, below = target_of(write(tmp_path, MINE + "policy_threads = 3\n")), profiles.load_target("generic-aarch64")
    assert (mine.name, mine.policy_threads) == ("mine", 3)
    assert (mine.arch, mine.hang_s, mine.minimum) == (below.arch, below.hang_s, below.minimum)


def test_a_table_is_merged_key_by_key_and_a_list_is_replaced(tmp_path: Path) -> None:
    below = write(tmp_path, MINE + 'compatible = ["a", "b"]\n[minimum]\nl4t = "36.3"\n', "below.toml")
    text = MINE.replace('"generic-aarch64"', '"below.toml"') + 'compatible = ["c"]\n[minimum]\nkernel = "6.1"\n'
    mine = target_of(write(tmp_path, text))
    assert below.exists()
    assert mine.minimum == {"glibc": "2.28", "kernel": "6.1", "python": "3.10", "l4t": "36.3"}
    assert mine.compatible == ("c",)


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    write(tmp_path, MINE + "replan_ticks = 9\n", "below.toml")
    mine = write(tmp_path / "inside", MINE.replace("generic-aarch64", "../below.toml"))
    assert target_of(mine).replan_ticks == 9


@pytest.mark.parametrize(("key", "line"), [("measured", "measured = false\n"), ("name", 'name = "mine"\n')])
def test_what_only_a_file_itself_can_say_is_not_inherited(tmp_path: Path, key: str, line: str) -> None:
    text = refused(write(tmp_path, MINE.replace("generic-aarch64", "host").replace(line, "")))
    assert f"`{key}` is wrong" in text
    assert "the key is missing" in text


def test_the_modules_of_a_family_are_not_those_of_what_extends_it(tmp_path: Path) -> None:
    assert target_of(write(tmp_path, MINE.replace("generic-aarch64", "jetson-orin"))).modules == ()
    assert len(profiles.load_target("jetson-orin").modules) == 6


def test_an_error_names_the_line_of_the_file_itself(tmp_path: Path) -> None:
    path = write(tmp_path, MINE + "\nhang_s = -1\n")
    assert refused(path).startswith(f"{path}, line 6: `hang_s` is wrong\n")


def test_an_error_names_the_file_below_that_said_it(tmp_path: Path) -> None:
    below = write(tmp_path, MINE + "hang_s = 1.0\npolicy_threads = 0\n", "below.toml")
    mine = write(tmp_path, MINE.replace("generic-aarch64", "below.toml"))
    assert refused(mine).startswith(f"{below}, line 6: `policy_threads` is wrong\n")


def test_an_error_inside_a_list_of_tables_names_its_line(tmp_path: Path) -> None:
    modes = '[[power_modes]]\nname = "a"\n[[power_modes]]\nname = "b"\nwatts = -1.0\n'
    path = write(tmp_path, MINE + modes)
    assert refused(path).startswith(f"{path}, line 9: power_modes[1]: `watts` is wrong\n")


def test_a_key_that_is_missing_in_a_list_is_not_looked_for_below(tmp_path: Path) -> None:
    below = '[[power_modes]]\nname = "a"\nwatts = 1.0\n'
    write(tmp_path, MINE + below, "below.toml")
    path = write(tmp_path, MINE.replace("generic-aarch64", "below.toml") + "[[power_modes]]\nwatts = 2.0\n")
    assert refused(path).startswith(f"{path}: power_modes[0]: `name` is wrong\n")


def test_a_shipped_file_below_is_named_as_one(tmp_path: Path) -> None:
    """Mode 15W of an Orin NX leaves four cores, its profile pins the servo to core 7."""
    text = refused(write(tmp_path, MINE.replace("generic-aarch64", "jetson-orin-nx-16") + 'power_mode = "15W"\n'))
    assert text.startswith("profiles/targets/jetson-orin-nx-16.toml, line 14: `servo_core` is wrong\n")
    assert "set `servo_core` in your file" in text


def test_an_unknown_key_of_the_file_below_is_said_of_it(tmp_path: Path) -> None:
    below = write(tmp_path, MINE + "hang = 1.0\n", "below.toml")
    text = refused(write(tmp_path, MINE.replace("generic-aarch64", "below.toml")))
    assert text.startswith(f"{below}, line 5: unknown key `hang`\n")
    assert "did you mean `hang_s`?" in text


def test_a_circle_is_refused_with_the_way_round_it(tmp_path: Path) -> None:
    a = write(tmp_path, MINE.replace("generic-aarch64", "b.toml"), "a.toml")
    b = write(tmp_path, MINE.replace("generic-aarch64", "a.toml"), "b.toml")
    text = refused(a)
    assert text.startswith(f"{b}, line 1: `extends` is wrong\n")
    assert f"{a} -> {b} -> {a}" in text.replace(f"{tmp_path}/a.toml", str(a))


def test_a_file_that_extends_itself_is_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path, MINE.replace("generic-aarch64", "mine.toml"))
    assert "lead back" in refused(path)


def test_a_tower_of_files_is_refused(tmp_path: Path) -> None:
    for floor in range(5, 0, -1):
        below = "generic-aarch64" if floor == 5 else f"{floor + 1}.toml"
        write(tmp_path, MINE.replace("generic-aarch64", below), f"{floor}.toml")
    assert target_of(tmp_path / "2.toml").name == "mine"  # five files with generic-aarch64
    assert "5 files on top of each other at most" in refused(tmp_path / "1.toml")


@pytest.mark.parametrize("value", ['"toaster"', "3", "[]", '"no/such.toml"', '""'])
def test_extends_names_a_target_or_a_file(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, MINE.replace('"generic-aarch64"', value))
    assert refused(path).startswith(f"{path}, line 1: `extends` is wrong\n")


def test_a_target_does_not_extend_an_arm(tmp_path: Path) -> None:
    arm = profiles.files.HERE / "arms" / "so101.toml"
    text = refused(write(tmp_path, MINE.replace("generic-aarch64", str(arm))))
    assert f"{arm} is the profile of another kind" in text


def test_an_arm_extends_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "so101"\nprotocol = "feetech"\nchannels = []\n')
    with pytest.raises(ProfileError, match="`extends`"):
        profiles.load_arm(path)


def test_each_value_knows_its_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, MINE.replace("generic-aarch64", "jetson-orin-nx-16") + '[minimum]\nkernel = "6.1"\n')
    loaded = profiles.load_with_origins(path)
    found = {origin.key: (origin.file, origin.line) for origin in loaded.origins}
    assert loaded.files == (str(path), "jetson-orin-nx-16", "jetson-orin", "generic-aarch64")
    assert found["name"] == (str(path), 2)
    assert found["minimum.kernel"] == (str(path), 6)
    assert found["minimum.l4t"][0] == "jetson-orin"
    assert found["servo_core"][0] == found["power_modes"][0] == "jetson-orin-nx-16"
    assert found["arch"][0] == "generic-aarch64"
    assert found["gpu_wheel"] == ("", None)
    shipped = (profiles.files.HERE / "targets" / "jetson-orin-nx-16.toml").read_text().splitlines()
    assert shipped[(found["servo_core"][1] or 0) - 1].startswith("servo_core = 7")
    assert shipped[(found["power_modes"][1] or 0) - 1].startswith("[[power_modes]]")
