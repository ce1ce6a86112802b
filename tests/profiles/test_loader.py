"""Profiles: the shipped ones are sound, a wrong one is refused by key."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import profiles
from profiles import ProfileError
from profiles.loader import _HERE


def altered(tmp_path: Path, kind: str, name: str, old: str, new: str) -> Path:
    text = (_HERE / kind / f"{name}.toml").read_text()
    assert old in text
    path = tmp_path / "altered.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("name", profiles.list_targets())
def test_every_shipped_target_loads_under_its_own_name(name: str) -> None:
    assert profiles.load_target(name).name == name


@pytest.mark.parametrize("name", profiles.list_arms())
def test_every_shipped_arm_loads_under_its_own_name(name: str) -> None:
    assert profiles.load_arm(name).name == name


def test_the_host_holds_the_reference_policy_of_32_ticks() -> None:
    host = profiles.load_target("host")
    d = math.ceil(host.latency_budget_s / 0.0125)
    assert (d, host.replan_ticks, host.survive_misses) == (2, 8, 2)
    assert d + (host.survive_misses + 1) * host.replan_ticks == 26  # <= H = 32


def test_the_jetson_budget_is_declared_and_not_called_measured() -> None:
    assert not profiles.load_target("jetson-orin").measured


def test_the_sawyer_has_meta_worlds_workspace() -> None:
    arm = profiles.load_arm("metaworld-sawyer")
    assert [c.name for c in arm.channels] == ["x", "y", "z", "gripper"]
    assert [c.minimum for c in arm.channels] == [-0.5, 0.4, 0.05, -1.0]
    assert [c.maximum for c in arm.channels] == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("load", [profiles.load_target, profiles.load_arm])
def test_an_unknown_name_lists_the_known_ones(load: object) -> None:
    with pytest.raises(ProfileError, match=r"host|metaworld-sawyer"):
        load("toaster")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("latency_budget_s", "0.025 ", "-1 "),
        ("replan_ticks", "replan_ticks = 8", "replan_ticks = 8.5"),
        ("survive_misses", "survive_misses = 2", "survive_misses = true"),
        ("artifact", 'artifact = "cpu"', 'artifact = "fp4"'),
        ("servo_priority", "servo_priority = 80", "servo_priority = 100"),
        ("providers", '["CPUExecutionProvider"]', "[]"),
        ("hang_s", "hang_s = 1.0", "hang_s = nan"),
        ("measured", "measured = true", 'measured = "yes"'),
        ("latency_budget", "latency_budget_s =", "latency_budget ="),
        ("policy_threads", "policy_threads = 1\n", ""),
    ],
)
def test_a_wrong_target_is_refused_by_key(tmp_path: Path, key: str, old: str, new: str) -> None:
    with pytest.raises(ProfileError, match=key):
        profiles.load_target(altered(tmp_path, "targets", "host", old, new))


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("maximum", "maximum = 0.5", "maximum = -0.5"),
        ("channels", 'name = "y"', 'name = "x"'),
        ("max_velocity", "max_velocity = 0.8", "max_velocity = 0"),
        ("max_velocity", "max_velocity = 0.8", "max_velocity = 1e300"),
        ("max_acceleration", "max_acceleration = 128.0", "max_acceleration = 1e300"),
        ("max_jerk", "max_jerk = 20480.0", "max_jerk = 1e300"),
        ("max_velocity", "max_velocity = 160.0", "max_velocity = 1e4"),  # of the gripper, in shares of its stroke
        ("max_jerk", "max_jerk = 20480.0\n", ""),
        ("stop_deceleration", "stop_deceleration = 8.0", "stop_deceleration = 200.0"),  # more than max_acceleration
        ("effort_s", 'unit = "m"', 'unit = "m"\nmax_effort = 5.0'),
        ("effort_s", 'unit = "m"', 'unit = "m"\nmax_following_error = 5.0'),
        ("max_effort", 'unit = "m"', 'unit = "m"\nmax_effort = 0\neffort_s = 0.1'),
        ("start_low", "[-0.5, 0.40, 0.05, -1.0]", "[-0.6, 0.40, 0.05, -1.0]"),
        ("start_high", "[0.5, 1.0, 0.5, 1.0]", "[0.5, 1.0]"),
        ("on_expiry", '"hold"', '"float"'),
        ("protocol", '"edgelink"', '"morse"'),
        ("watchdog_s", "0.100", "0"),
        ("colour", "width = 96", 'colour = "rgb"\nwidth = 96'),
    ],
)
def test_a_wrong_arm_is_refused_by_key(tmp_path: Path, key: str, old: str, new: str) -> None:
    with pytest.raises(ProfileError, match=key):
        profiles.load_arm(altered(tmp_path, "arms", "metaworld-sawyer", old, new))


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("max_velocity", "max_velocity = 3.0", "max_velocity = 101.0"),
        ("max_acceleration", "max_acceleration = 20.0", "max_acceleration = 10001.0"),
        ("max_jerk", "max_jerk = 400.0", "max_jerk = 1000001.0"),
        ("stop_deceleration", "stop_deceleration = 20.0", "stop_deceleration = 1e300"),
    ],
)
def test_a_joint_faster_than_any_arm_is_refused_by_key(tmp_path: Path, key: str, old: str, new: str) -> None:
    with pytest.raises(ProfileError, match=key):
        profiles.load_arm(altered(tmp_path, "arms", "so101", old, new))


def test_an_arm_may_say_that_it_has_no_watchdog(tmp_path: Path) -> None:
    path = altered(tmp_path, "arms", "metaworld-sawyer", "watchdog_s = 0.100", 'watchdog_s = "none"')
    assert profiles.load_arm(path).watchdog_s is None


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b"x" * 300_000])
def test_a_file_that_is_no_profile_is_refused_by_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    whole(path)


def whole(path: Path) -> str:
    """The error about that file: where, expected, got, to do."""
    with pytest.raises(ProfileError) as caught:
        profiles.load_target(path)
    text = str(caught.value)
    assert str(path) in text.splitlines()[0]
    assert all(text.count(part) == 1 for part in ("expected:", "got:", "to do:"))
    return text


def test_a_fault_of_syntax_keeps_its_line(tmp_path: Path) -> None:
    path = altered(tmp_path, "targets", "host", "replan_ticks = 8", "replan_ticks = ")
    line = path.read_text().splitlines().index(next(x for x in path.read_text().splitlines() if "replan_ticks" in x))
    assert f"line {line + 1}, column" in whole(path)


def test_a_number_out_of_range_is_shown_with_its_real_bounds_and_text_in_quotes(tmp_path: Path) -> None:
    high = altered(tmp_path, "arms", "metaworld-sawyer", "maximum = 0.5", "maximum = 1e308")
    with pytest.raises(ProfileError, match=r"1e\+300\]\n  got:      1e\+308\n"):
        profiles.load_arm(high)
    text = altered(tmp_path, "targets", "host", "latency_budget_s = 0.025", 'latency_budget_s = "0.025"')
    assert "got:      '0.025'\n" in whole(text)


def test_a_missing_file_is_refused_by_path(tmp_path: Path) -> None:
    assert "No such file" in whole(tmp_path / "none.toml")
