"""The shipped targets, and what a target may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiles
from profiles import ProfileError
from profiles.files import HERE
from profiles.keys import TARGET

MODULES = profiles.load_target("jetson-orin").modules
BOARDS = [name for name in profiles.list_targets() if name != "host"]
TOP = ['extends = "host"\n', 'name = "a"\n', 'description = "a"\n', "measured = false\n"]
TRT = (HERE / "targets" / "jetson-orin-trt.toml").read_text()


def test_the_issues_targets_are_shipped() -> None:
    assert set(profiles.list_targets()) == {
        *("jetson-orin", "jetson-agx-orin-64", "jetson-agx-orin-32", "jetson-orin-nx-16", "jetson-orin-nx-8"),
        *("jetson-orin-nano-8", "jetson-orin-nano-4", "jetson-orin-trt", "raspberry-pi-5", "generic-aarch64", "host"),
    }


@pytest.mark.parametrize("name", BOARDS)
def test_no_boards_budget_is_called_measured_and_each_names_what_a_release_needs(name: str) -> None:
    target = profiles.load_target(name)
    assert not target.measured
    assert target.arch == "aarch64"
    assert target.python in ("3.10", "3.11")
    assert {"glibc", "kernel", "python"} <= set(target.minimum)


@pytest.mark.parametrize("name", BOARDS)
def test_the_declared_budget_holds_the_reference_policy(name: str) -> None:
    target = profiles.load_target(name)
    d = round(target.latency_budget_s / 0.0125)
    assert d <= 8  # d_max of the reference policy
    assert d <= target.replan_ticks
    assert d + (target.survive_misses + 1) * target.replan_ticks <= 32  # H


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_mode_is_one_with_a_cap_that_leaves_every_core_online(name: str) -> None:
    target = profiles.load_target(name)
    mode = next(mode for mode in target.power_modes if mode.name == target.power_mode)
    assert mode.watts is not None
    assert mode.cores == max(other.cores or 0 for other in target.power_modes)
    assert (target.policy_core, target.servo_core) == (mode.cores - 2, mode.cores - 1)
    assert target.clocks_locked


# NVIDIA's data sheets: cores and memory of each module.
@pytest.mark.parametrize(
    ("name", "cores", "ram_mb"),
    [
        ("jetson-agx-orin-64", 12, 65_536),
        ("jetson-agx-orin-32", 8, 32_768),
        ("jetson-orin-nx-16", 8, 16_384),
        ("jetson-orin-nx-8", 6, 8_192),
        ("jetson-orin-nano-8", 6, 8_192),
        ("jetson-orin-nano-4", 6, 4_096),
    ],
)
def test_a_module_has_the_cores_and_the_memory_of_its_data_sheet(name: str, cores: int, ram_mb: int) -> None:
    target = profiles.load_target(name)
    assert max(mode.cores or 0 for mode in target.power_modes) == cores
    assert target.ram_mb == ram_mb
    assert target.memory_mb < ram_mb


def test_no_two_modules_claim_one_part_number() -> None:
    claimed = [text for name in MODULES for text in profiles.load_target(name).compatible]
    assert len(set(claimed)) == len(claimed) == 8


def test_a_profile_of_before_is_still_a_profile() -> None:
    loose = profiles.load_target(Path(__file__).parents[1] / "loose_target.toml")
    assert (loose.python, loose.gpu_wheel, loose.family, loose.policy_spinning) == ("", None, False, True)


def test_tensorrt_is_a_target_of_its_own_that_says_where_its_wheel_belongs() -> None:
    target = profiles.load_target("jetson-orin-trt")
    assert target.artifact == "trt"
    assert target.providers[0] == "TensorrtExecutionProvider"
    assert target.provider_options["TensorrtExecutionProvider"]["trt_int8_enable"] is True
    assert target.gpu_wheel is not None
    assert target.gpu_wheel.replaces == "onnxruntime"
    assert all(profiles.load_target(name).gpu_wheel is None for name in MODULES)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"TensorrtExecutionProvider"', '"TensorRTExecutionProvider"', "did you mean `TensorrtExecutionProvider`?"),
        ('"CUDAExecutionProvider"', '"CPUExecutionProvider"', "each provider once"),
        ("trt_int8_enable", "trt_int8_enabled", "did you mean `trt_int8_enable`?"),
        ("trt_int8_enable = true", "trt_int8_enable = 1", "`trt_int8_enable` is wrong"),
        ("trt_int8_enable = true", 'trt_engine_cache_path = "/tmp"', "edgevla keeps these caches"),
        ("provider_options.Tensorrt", "provider_options.ROCM", "named in `providers`"),
        ('artifact = "trt"', 'artifact = "cpu"', "trt where `providers` has TensorrtExecutionProvider"),
        ('file = "onnxruntime_gpu', 'file = "../onnxruntime_gpu', "without a folder"),
        ("linux_aarch64.whl", "linux_aarch64.zip", "the name of a wheel"),
        ('l4t = "36.4"', 'l4t = "R36"', "a version: numbers with dots"),
        ("l4t =", "jetpack =", "some of l4t, glibc, kernel, python"),
        ("memory_mb = 4096", 'python = "310"', "a version like 3.10"),
        ("memory_mb = 4096", 'arch = "arm64"', "aarch64, as `uname -m` says it"),
        ("memory_mb = 4096", 'power_mode = "15W"\npower_modes = [{ name = "30W" }]', "one of 30W"),
        (
            "memory_mb = 4096",
            'power_mode = "15W"\npower_modes = [{ name = "15W", cores = 4 }]',
            "a core that 15W leaves online: 0 to 3",
        ),
    ],
)
def test_a_target_that_contradicts_itself_is_refused_by_file_line_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in TRT
    path = tmp_path / "mine.toml"
    path.write_text(TRT.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        profiles.load_target(path)
    text = str(caught.value)
    assert said in text
    assert ", line " in text.splitlines()[0]
    assert text.count("to do:") == 1


def test_a_wheel_without_a_provider_that_it_brings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    wheel = TRT[TRT.index("[gpu_wheel]") :]
    path.write_text(f'extends = "jetson-orin"\nname = "a"\ndescription = "a"\nmeasured = false\n{wheel}')
    with pytest.raises(ProfileError, match="line 5: `gpu_wheel` is wrong"):
        profiles.load_target(path)


@pytest.mark.parametrize(
    "junk", ["3", "-1", '""', '"x"', "[]", "[[]]", "[{}]", "{}", "{ a = {} }", "true", "nan", "1979-05-27"]
)
def test_junk_in_any_key_is_one_error_or_a_target(tmp_path: Path, junk: str) -> None:
    path = tmp_path / "mine.toml"
    for key in TARGET.names:
        path.write_text(f"{key} = {junk}\n" + "".join(line for line in TOP if not line.startswith(f"{key} =")))
        said = said_of(path)
        assert said is None or said.count("to do:") == 1


def said_of(path: Path) -> str | None:
    """The error about a target file, None where it is sound. Any other exception is a failure."""
    try:
        profiles.load_target(path)
    except ProfileError as error:
        return str(error)
    return None
