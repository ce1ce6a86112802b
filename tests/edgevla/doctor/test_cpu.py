"""Cores, governors, idle states, interrupts; and heat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.doctor import cpu, thermal
from edgevla.doctor.cpu import interrupt_names
from edgevla.doctor.finding import Finding
from edgevla.doctor.host import Wanted
from edgevla.doctor.probe import boot_option, core_list, cores_said
from profiles import load_target
from tests.edgevla.doctor.machine import build, wanted

CPU = "sys/devices/system/cpu"
ZONE = "sys/class/thermal/thermal_zone0"


def found(tmp_path: Path, name: str = "x86-rt", what: Wanted | None = None, **changes: object) -> dict[str, Finding]:
    host = build(name, tmp_path, **changes)  # type: ignore[arg-type]
    what = what or wanted("host")
    return {finding.name: finding for finding in [*cpu.examine(host, what), *thermal.examine(host, what)]}


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-2,5", {0, 1, 2, 5}), ("", set()), ("(null)", set()), ("managed_irq,domain,3", {3}), ("0\n4-5\n", {0, 4, 5})],
)
def test_a_kernel_list_of_cores_is_read_with_its_words_and_gaps(text: str, cores: set[int]) -> None:
    assert core_list(text) == cores


def test_cores_are_said_as_the_kernel_says_them() -> None:
    assert cores_said({5, 0, 1, 2}) == "0-2,5"
    assert cores_said(set()) == "none"


def test_the_last_boot_option_of_a_name_counts() -> None:
    assert boot_option("quiet isolcpus=1 isolcpus=2", "isolcpus") == "2"
    assert boot_option("quiet", "quiet") == ""
    assert boot_option("nohz_full=1", "nohz") is None


def test_a_core_that_is_not_usable_here_is_a_fail(tmp_path: Path) -> None:
    status = {"proc/self/status": "Cpus_allowed_list:\t0,2-3\n"}  # a cpuset without the servo's core
    finding = found(tmp_path, files=status)["cores"]
    assert (finding.level, finding.found) == ("fail", "online 0-3, usable here 0,2-3")


def test_servo_and_policy_on_one_core_are_a_warning(tmp_path: Path) -> None:
    both = Wanted(replace(load_target("host"), servo_core=1, policy_core=1))
    assert found(tmp_path, what=both)["cores"].level == "warn"


def test_without_a_target_no_core_is_judged(tmp_path: Path) -> None:
    rows = found(tmp_path, what=Wanted())
    assert rows["cores"].level == rows["isolated cores"].level == rows["interrupts on the servo's core"].level == "info"


def test_a_hyper_thread_of_the_servos_core_is_a_warning(tmp_path: Path) -> None:
    rows = found(tmp_path, files={f"{CPU}/cpu1/topology/thread_siblings_list": "1,3"})
    finding = rows["hyper-threads of the servo's core"]
    assert (finding.level, finding.found) == ("warn", "core 1 shares its units with 3")


def test_a_core_that_is_not_isolated_gets_the_boot_options_of_its_kind_of_machine(tmp_path: Path) -> None:
    pc = found(tmp_path / "pc", files={f"{CPU}/isolated": ""})["isolated cores"]
    orin = found(tmp_path / "orin", "orin", wanted())["isolated cores"]
    assert "GRUB_CMDLINE_LINUX" in pc.todo[0]
    assert pc.todo[0].endswith("isolcpus=managed_irq,domain,1 nohz_full=1 rcu_nocbs=1 irqaffinity=0,2-3")
    assert "/boot/extlinux/extlinux.conf" in orin.todo[0]


def test_a_governor_that_saves_power_is_a_warning_with_a_line_for_each_core(tmp_path: Path) -> None:
    finding = found(tmp_path, files={f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave"})["governor"]
    assert finding.level == "warn"
    assert finding.todo == (f"echo performance | sudo tee /{CPU}/cpu1/cpufreq/scaling_governor",)


def test_a_lowered_maximum_is_a_warning(tmp_path: Path) -> None:
    finding = found(tmp_path, files={f"{CPU}/cpu0/cpufreq/scaling_max_freq": "1200000"})["frequency"]
    assert finding.level == "warn"
    assert "core 0 3600-1200 of 3600 MHz" in finding.found


def test_a_slow_idle_state_in_use_is_a_warning_and_a_disabled_one_is_not(tmp_path: Path) -> None:
    assert found(tmp_path / "off")["idle states"].level == "pass"
    finding = found(tmp_path / "on", files={f"{CPU}/cpu1/cpuidle/state2/disable": "0"})["idle states"]
    assert (finding.level, finding.found) == ("warn", "core 1 C6 133 us")
    assert finding.todo == (f"echo 1 | sudo tee /{CPU}/cpu1/cpuidle/state2/disable",)


def test_an_interrupt_on_the_servos_core_is_named(tmp_path: Path) -> None:
    rows = found(tmp_path, files={"proc/irq/124/effective_affinity_list": "1"})
    finding = rows["interrupts on the servo's core"]
    assert (finding.level, finding.found) == ("warn", "1 of 2: 124 xhci_hcd")
    assert finding.todo == ("echo 0,2-3 | sudo tee /proc/irq/124/smp_affinity_list",)


def test_an_older_kernel_says_only_where_an_interrupt_may_go(tmp_path: Path) -> None:
    files = {"proc/irq/124/effective_affinity_list": "", "proc/irq/124/smp_affinity_list": "0-3"}
    assert found(tmp_path, files=files)["interrupts on the servo's core"].level == "warn"


def test_interrupts_of_the_cores_themselves_are_no_devices() -> None:
    table = "      CPU0  CPU1\n  4:   10   0  GICv3 30 Level  mmc0\nIPI0:  3   4  Rescheduling interrupts\n 99: 1 2\n"
    assert interrupt_names(table) == {"4": "mmc0"}


@pytest.mark.parametrize(("millidegree", "level"), [("84000", "pass"), ("85000", "warn"), ("95000", "fail")])
def test_heat_is_judged_by_its_distance_to_the_first_throttling_trip(
    tmp_path: Path, millidegree: str, level: str
) -> None:
    assert found(tmp_path, files={f"{ZONE}/temp": millidegree})["temperature"].level == level


def test_a_trip_that_starts_a_fan_is_none(tmp_path: Path) -> None:
    finding = found(tmp_path, "orin", wanted())["temperature"]  # 53.4 degC, fan from 51, throttled from 99
    assert (finding.level, finding.found) == ("pass", "nearest of 3: tj-thermal 53.4 degC, trips at 99")


def test_a_raspberry_pi_lowers_its_clock_at_80_degrees_whatever_its_trip_points_say(tmp_path: Path) -> None:
    finding = found(tmp_path, "pi5", files={f"{ZONE}/temp": "79000"})["temperature"]
    assert (finding.level, finding.found) == ("warn", "nearest of 1: cpu-thermal 79.0 degC, trips at 80")


def test_a_zone_that_cannot_be_read_is_named_beside_the_others(tmp_path: Path) -> None:
    finding = found(tmp_path, "orin", wanted(), without=[f"{ZONE}/temp"])["temperature"]
    assert finding.found.endswith("; not readable: cpu-thermal")


def test_a_cooling_device_in_use_is_a_fail_and_a_running_fan_is_not(tmp_path: Path) -> None:
    alert = {"sys/class/thermal/cooling_device3/cur_state": "1"}
    assert found(tmp_path / "fan", "orin", wanted())["thermal throttling now"].level == "pass"
    finding = found(tmp_path / "hot", "orin", wanted(), files=alert)["thermal throttling now"]
    assert (finding.level, finding.found) == ("fail", "cpu-throttle-alert at step 1")


def test_throttling_that_intel_counted_since_boot_is_a_warning(tmp_path: Path) -> None:
    files = {f"{CPU}/cpu2/thermal_throttle/package_throttle_count": "17"}
    finding = found(tmp_path, files=files)["thermal throttling since boot"]
    assert (finding.level, finding.found) == ("warn", "cpu2 package: 17 times")
