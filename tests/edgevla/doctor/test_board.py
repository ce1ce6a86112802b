"""Jetson, supply voltage, memory, clocks, watchdog and the kernel's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgevla.doctor import jetson, log, power, system
from edgevla.doctor.finding import Finding
from edgevla.doctor.jetson import l4t_release
from edgevla.doctor.power import throttled_bits
from tests.edgevla.doctor.machine import build, wanted

GPU = "sys/class/devfreq/17000000.gpu"
HWMON = "sys/class/hwmon"


def found(
    subject: Callable[..., list[Finding]], tmp_path: Path, name: str = "orin", **changes: object
) -> dict[str, Finding]:
    port = changes.pop("port", None)
    host = build(name, tmp_path, **changes)  # type: ignore[arg-type]
    return {finding.name: finding for finding in subject(host, wanted(port=port))}  # type: ignore[arg-type]


def test_the_l4t_release_is_read_from_nvidias_line() -> None:
    line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 2025"
    assert l4t_release(line) == "36.4.3"
    assert l4t_release("something else") is None


def test_another_major_release_than_jetpack_6_is_a_warning(tmp_path: Path) -> None:
    files = {"etc/nv_tegra_release": "# R35 (release), REVISION: 6.0, GCID: 1"}
    finding = found(jetson.examine, tmp_path, files=files)["Jetson release"]
    assert (finding.level, finding.found) == ("warn", "L4T R35.6.0, JetPack 5.1.4")


def test_the_fastest_mode_is_found_by_its_name_and_not_by_its_number(tmp_path: Path) -> None:
    finding = found(jetson.examine, tmp_path)["power mode"]  # an Orin Nano Super: 0 is 15 W, MAXN_SUPER is 2
    assert (finding.level, finding.found, finding.todo) == ("warn", "15W (mode 0)", ("sudo nvpmodel -m 2",))


def test_maxn_passes(tmp_path: Path) -> None:
    rows = found(jetson.examine, tmp_path, files={"var/lib/nvpmodel/status": "pmode:0002 fmode:quiet"})
    assert rows["power mode"].level == "pass"


def test_a_mode_that_no_file_names_is_not_known(tmp_path: Path) -> None:
    assert found(jetson.examine, tmp_path, without=["etc/nvpmodel.conf"])["power mode"].level == "info"


def test_clocks_are_locked_when_each_minimum_is_its_maximum(tmp_path: Path) -> None:
    locked = {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq": "1510400" for core in range(6)}
    gpu = {f"{GPU}/min_freq": "624750000"}
    assert found(jetson.examine, tmp_path / "all", files={**locked, **gpu})["clocks"].level == "pass"
    finding = found(jetson.examine, tmp_path / "gpu", files=locked)["clocks"]
    assert (finding.level, finding.found) == ("warn", "not locked: 17000000.gpu")


def test_the_can_pins_come_with_orins_registers(tmp_path: Path) -> None:
    finding = found(jetson.examine, tmp_path)["CAN pins"]
    assert finding.level == "info"
    assert finding.todo == ("sudo busybox devmem 0x0c303018 w 0xc458", "sudo busybox devmem 0x0c303010 w 0xc400")


def test_missing_can_modules_fail_only_a_robot_on_can(tmp_path: Path) -> None:
    assert found(jetson.examine, tmp_path / "serial")["CAN modules"].level == "info"
    finding = found(jetson.examine, tmp_path / "can", port="can0")["CAN modules"]
    assert (finding.level, finding.todo[0]) == ("fail", "sudo modprobe -a can can_raw mttcan")


def test_a_disabled_controller_points_to_jetson_io(tmp_path: Path) -> None:
    files = {"proc/device-tree/bus@0/mttcan@c310000/status": "disabled\0"}
    finding = found(jetson.examine, tmp_path, files=files, port="can0")["CAN controllers"]
    assert finding.level == "fail"
    assert "jetson-io" in finding.todo[0]


def test_a_pc_has_no_jetson_findings(tmp_path: Path) -> None:
    assert found(jetson.examine, tmp_path, "x86-rt") == {}


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("throttled=0x0", ([], [])),
        ("throttled=0x50005\n", (["under-voltage", "throttled"], ["under-voltage", "throttled"])),
        ("throttled=0x80008", (["soft temperature limit"], ["soft temperature limit"])),
        ("error=1", None),
    ],
)
def test_the_bits_of_a_raspberry_pi_are_now_and_since_boot(text: str, bits: object) -> None:
    assert throttled_bits(text) == bits


def test_under_voltage_now_is_a_fail(tmp_path: Path) -> None:
    alarm = found(power.examine, tmp_path / "a", "pi5", files={f"{HWMON}/hwmon1/in0_lcrit_alarm": "1"})
    firmware = found(power.examine, tmp_path / "b", "pi5", commands={"vcgencmd": "throttled=0x1"})
    assert (alarm["under-voltage alarm"].level, firmware["Raspberry Pi firmware"].level) == ("fail", "fail")


def test_without_vcgencmd_the_firmwares_view_is_not_known(tmp_path: Path) -> None:
    assert found(power.examine, tmp_path, "pi5", commands={"vcgencmd": None})["Raspberry Pi firmware"].level == "info"


def test_over_current_events_of_a_jetson_are_a_warning(tmp_path: Path) -> None:
    files = {f"{HWMON}/hwmon2/oc3_event_cnt": "37"}
    finding = found(power.examine, tmp_path, files=files)["throttling by the supply since boot"]
    assert finding.level == "warn"
    assert "instantaneous over-current 37" in finding.found


def test_a_rail_over_its_limit_is_a_warning_and_its_figures_are_said(tmp_path: Path) -> None:
    rows = found(power.examine, tmp_path, files={f"{HWMON}/hwmon1/curr1_crit_alarm": "1"})
    assert rows["rail VDD_IN"].level == "warn"
    assert rows["rail VDD_SOC"].found == "4.98 V, 0.27 A"


def test_a_rail_whose_alarm_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    rows = found(power.examine, tmp_path, without=[f"{HWMON}/hwmon1/curr1_crit_alarm"])
    assert rows["rail VDD_IN"].level == "info"


def test_swap_in_compressed_memory_is_swap(tmp_path: Path) -> None:
    finding = found(system.examine, tmp_path)["swap"]
    assert finding.level == "warn"
    assert "sudo systemctl disable --now nvzramconfig" in finding.todo


def test_less_memory_than_the_policy_may_take_is_a_fail(tmp_path: Path) -> None:
    files = {"proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 1000000 kB\n"}
    finding = found(system.examine, tmp_path, files=files)["memory"]
    assert (finding.level, finding.found) == ("fail", "976 MB available")


def test_huge_pages_always_are_a_warning(tmp_path: Path) -> None:
    files = {"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never"}
    assert found(system.examine, tmp_path, files=files)["transparent huge pages"].level == "warn"


def test_a_nearly_full_disk_is_a_warning(tmp_path: Path) -> None:
    finding = found(system.examine, tmp_path, free_bytes=400_000_000)["free disk"]
    assert (finding.level, finding.found) == ("warn", "0.4 GB")


def test_a_slow_clock_is_a_warning_and_the_way_back_is_given_where_there_is_one(tmp_path: Path) -> None:
    clock = "sys/devices/system/clocksource/clocksource0"
    files = {f"{clock}/current_clocksource": "hpet"}
    finding = found(system.examine, tmp_path, "x86-rt", files=files)["clock source"]
    assert finding.level == "warn"
    assert finding.todo[0] == f"echo tsc | sudo tee /{clock}/current_clocksource"


def test_the_time_of_day_is_never_judged(tmp_path: Path) -> None:
    for answer in ("yes", "no"):
        rows = found(system.examine, tmp_path / answer, commands={"timedatectl": answer})
        assert rows["time of day"].level == "info"


def test_a_watchdog_that_nobody_feeds_and_none_at_all_are_warnings(tmp_path: Path) -> None:
    base = "sys/class/watchdog/watchdog0"
    idle = found(system.examine, tmp_path / "idle", files={f"{base}/state": "inactive"})
    none = found(system.examine, tmp_path / "none", without=[f"{base}/{f}" for f in ("state", "identity", "timeout")])
    assert idle["watchdog device"].level == "warn"
    assert none["watchdog device"].level != "pass"


def test_a_virtual_machine_and_stolen_time_are_warnings(tmp_path: Path) -> None:
    guest = {"proc/cpuinfo": "flags\t\t: fpu hypervisor avx2\n"}
    stolen = {"proc/stat": "cpu  100 0 100 700 0 0 0 100 0 0\n"}
    assert found(system.examine, tmp_path / "vm", "x86-rt", files=guest)["time taken from outside"].level == "warn"
    finding = found(system.examine, tmp_path / "steal", "x86-rt", files=stolen)["time taken from outside"]
    assert (finding.level, finding.found) == ("warn", "some hypervisor, 10 % stolen since boot")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("[24158.349850] sched: RT throttling activated", "real-time throttling"),
        ("CPU3: Core temperature above threshold, cpu clock throttled (total events = 1)", "thermal throttling"),
        ("soctherm-oc: System throttled due to Over-current", "supply"),
        ("hwmon hwmon1: Undervoltage detected!", "supply"),
        ("usb 1-2: reset full-speed USB device number 3 using xhci-hcd", "USB"),
        ("usb 1-2: USB disconnect, device number 3", "USB"),
        ("Out of memory: Killed process 311 (python)", "memory"),
    ],
)
def test_the_kernels_log_is_searched_for_what_comes_again(tmp_path: Path, line: str, name: str) -> None:
    rows = found(log.examine, tmp_path, commands={"dmesg": f"[0.0] Booting\n{line}\n[9.9] usb 1-1: new device\n"})
    assert list(rows) == [f"kernel log: {name}"]
    assert rows[f"kernel log: {name}"].found == f"1 times, last: {line}"


def test_a_log_that_may_not_be_read_is_not_known(tmp_path: Path) -> None:
    assert found(log.examine, tmp_path, commands={"dmesg": None})["kernel log"].level == "info"
