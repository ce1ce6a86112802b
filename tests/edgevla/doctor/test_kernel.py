"""Preemption, the throttle, control groups, and what the kernel really grants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevla.doctor import kernel
from edgevla.doctor.finding import Finding
from edgevla.doctor.grant import Grant, try_grant
from edgevla.doctor.kernel import FULL, LAZY, NONE, RT, VOLUNTARY, group_scheduling, preemption_model
from tests.edgevla.doctor.machine import REFUSED, build, wanted

SESSION = "sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/cgroup.controllers"


def found(tmp_path: Path, **changes: object) -> dict[str, Finding]:
    host = build("orin", tmp_path, **changes)  # type: ignore[arg-type]
    return {finding.name: finding for finding in kernel.examine(host, wanted())}


@pytest.mark.parametrize(
    ("version", "realtime", "debug", "cmdline", "config", "model"),
    [
        ("#1 SMP PREEMPT_RT Debian 6.1.119-1", "", "", "", "", RT),
        ("#41 SMP PREEMPT RT Thu Jan 7 2021", "", "", "", "", RT),  # kernels before 5.4
        ("#1 SMP", "1", "", "", "", RT),
        ("#1 SMP PREEMPT Tue Jan 7", "0", "", "", "", FULL),
        ("#1 SMP PREEMPT_DYNAMIC @0", "", "none voluntary (full)", "preempt=none", "", FULL),  # what is in force counts
        ("#1 SMP PREEMPT_DYNAMIC @0", "", "full (lazy)", "", "", LAZY),
        ("#1 SMP PREEMPT_DYNAMIC @0", "", "", "quiet preempt=voluntary", "CONFIG_PREEMPT=y", VOLUNTARY),
        ("#1 SMP PREEMPT_DYNAMIC @0", "", "", "", "CONFIG_PREEMPT_BUILD=y\nCONFIG_PREEMPT_NONE=y\n", NONE),
        ("#1 SMP Debian", "", "", "preempt=full", "CONFIG_PREEMPT_VOLUNTARY=y", VOLUNTARY),  # not dynamic: no choice
        ("#1 SMP PREEMPT_DYNAMIC @0", "", "", "", "", None),
        ("", "", "", "", "", None),
    ],
)
def test_the_preemption_model_is_read_from_what_is_in_force_first(
    version: str, realtime: str, debug: str, cmdline: str, config: str, model: str | None
) -> None:
    assert preemption_model(version, realtime, debug, cmdline, config) == model


def test_a_jetson_is_told_nvidias_rt_packages(tmp_path: Path) -> None:
    assert "nvidia-l4t-rt-kernel" in " ".join(found(tmp_path)["preemption"].todo)


@pytest.mark.parametrize(
    ("runtime_us", "level", "words"),
    [
        ("950000", "pass", "76 % of its period"),
        ("-1", "warn", "unlimited"),
        ("0", "fail", "no real-time process"),
        ("400000", "warn", "40 %"),
    ],
)
def test_the_throttle_says_what_a_servo_may_take(tmp_path: Path, runtime_us: str, level: str, words: str) -> None:
    finding = found(tmp_path, files={"proc/sys/kernel/sched_rt_runtime_us": runtime_us})["real-time throttle"]
    assert finding.level == level
    assert words in finding.found


def test_group_scheduling_with_the_cpu_controller_of_version_2_leaves_no_budget(tmp_path: Path) -> None:
    finding = found(tmp_path, files={SESSION: "cpu memory pids"})["CONFIG_RT_GROUP_SCHED"]
    assert finding.level == "fail"
    assert "/user.slice/user-1000.slice/session-3.scope" in finding.found


def test_group_scheduling_of_version_1_needs_a_budget_of_its_own(tmp_path: Path) -> None:
    budget = "sys/fs/cgroup/cpu/system.slice/cpu.rt_runtime_us"
    files = {"proc/self/cgroup": "4:cpu,cpuacct:/system.slice\n0::/\n", budget: "0"}
    finding = found(tmp_path, files=files)["CONFIG_RT_GROUP_SCHED"]
    assert (finding.level, finding.todo) == ("fail", (f"echo 950000 | sudo tee /{budget}",))


def test_a_group_whose_controllers_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    assert found(tmp_path, without=[SESSION])["CONFIG_RT_GROUP_SCHED"].level == "info"


@pytest.mark.parametrize(
    ("config", "cmdline", "on"),
    [
        ("CONFIG_RT_GROUP_SCHED=y", "", True),
        ("# CONFIG_RT_GROUP_SCHED is not set", "", False),
        ("CONFIG_RT_GROUP_SCHED=y", "quiet rt_group_sched=0", False),
        ("CONFIG_RT_GROUP_SCHED=y\nCONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y", "", False),
        ("CONFIG_RT_GROUP_SCHED=y\nCONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y", "rt_group_sched=1", True),
    ],
)
def test_group_scheduling_is_built_in_and_may_be_switched_at_boot(config: str, cmdline: str, on: bool) -> None:
    assert group_scheduling(config, cmdline) is on


def test_what_the_kernel_refused_is_a_fail_with_its_reason(tmp_path: Path) -> None:
    finding = found(tmp_path, grant=REFUSED)["servo's rights, tried"]
    assert finding.level == "fail"
    assert "SCHED_FIFO priority 80 (Operation not permitted)" in finding.found
    assert any("rtprio 80" in line for line in finding.todo)


def test_an_attempt_that_failed_by_itself_is_not_known(tmp_path: Path) -> None:
    finding = found(tmp_path, grant="the attempt in a child process failed")["servo's rights, tried"]
    assert finding.level == "info"


def test_a_capability_stands_in_for_a_limit(tmp_path: Path) -> None:
    status = "CapEff:\t0000000000804000\nCpus_allowed_list:\t0-5\n"  # CAP_SYS_NICE (23) and CAP_IPC_LOCK (14)
    rows = found(tmp_path, files={"proc/self/status": status})
    assert (rows["RLIMIT_RTPRIO"].level, rows["RLIMIT_MEMLOCK"].level) == ("pass", "pass")


def test_a_limit_below_the_targets_priority_is_a_warning(tmp_path: Path) -> None:
    limits = "Max locked memory   unlimited   unlimited   bytes\nMax realtime priority   79   79\n"
    rows = found(tmp_path, files={"proc/self/limits": limits})
    assert (rows["RLIMIT_RTPRIO"].level, rows["RLIMIT_MEMLOCK"].level) == ("warn", "pass")


def test_this_machine_is_really_asked_in_a_child_process() -> None:
    mine = sorted(os.sched_getaffinity(0))[0]
    before = (os.sched_getscheduler(0), os.sched_getaffinity(0))
    grant = try_grant(7, mine, mine)
    assert isinstance(grant, Grant), grant
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before  # the asking process stays as it was
    assert grant.core == mine
    granted = grant.fifo_priority == 7 and grant.memory_locked and grant.locked_kb > 1_000
    assert granted or grant.missing  # on a machine that refuses, the reason is there


def test_a_core_that_does_not_exist_is_missing() -> None:
    grant = try_grant(1, 1023, None)
    assert isinstance(grant, Grant), grant
    assert any(reason.startswith("core 1023") for reason in grant.missing)


AS_NOBODY = """
import os, resource, sys
from edgevla.doctor import grant
import numpy
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
grant.main(["80", "-1", "-1"])
"""


def test_an_ordinary_user_is_refused_by_the_kernel_itself() -> None:
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    grant = json.loads(done.stdout)
    assert (grant["fifo_priority"], grant["memory_locked"]) == (0, False)
    assert any("SCHED_FIFO priority 80" in reason for reason in grant["missing"])
    assert any("mlockall" in reason for reason in grant["missing"])


def test_a_budget_of_version_1_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    finding = found(tmp_path, files={"proc/self/cgroup": "4:cpu:/system.slice\n"})["CONFIG_RT_GROUP_SCHED"]
    assert finding.level == "info"
    assert "/sys/fs/cgroup/cpu/system.slice/cpu.rt_runtime_us" in finding.found
