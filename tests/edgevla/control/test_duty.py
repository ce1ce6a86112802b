"""The servo's share of its core: the kernel's throttle, the group's budget, the deadline server."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevla.control.duty import read_rt_limits, require_duty, rt_budget

THROTTLE = {"proc/sys/kernel/sched_rt_runtime_us": "950000\n", "proc/sys/kernel/sched_rt_period_us": "1000000\n"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_the_kernels_default_leaves_95_of_100_to_real_time_tasks() -> None:
    assert rt_budget(950_000, 1_000_000) == 0.95


def test_minus_one_means_unlimited_and_more_than_the_period_is_all_of_it() -> None:
    assert rt_budget(-1, 1_000_000) == 1.0
    assert rt_budget(2_000_000, 1_000_000) == 1.0


@pytest.mark.parametrize(("runtime_us", "period_us"), [(950_000, 0), (950_000, -1), (-2, 1_000_000)])
def test_a_budget_that_makes_no_sense_is_refused(runtime_us: int, period_us: int) -> None:
    with pytest.raises(ValueError, match="no real-time budget"):
        rt_budget(runtime_us, period_us)


def test_a_servo_below_the_share_with_its_margin_may_run() -> None:
    assert require_duty(0.76e-3, 1e-3, 0.95) is None  # 0.8 * 0.95 = 0.76, itself allowed


def test_a_servo_that_would_meet_the_throttle_is_refused_in_numbers() -> None:
    reason = require_duty(0.9e-3, 1e-3, 0.95)
    assert reason is not None
    assert "0.9 ms of each 1 ms, 90 %" in reason
    assert "95 %" in reason
    assert "76 %" in reason


def test_no_budget_at_all_lets_nothing_but_an_idle_servo_run() -> None:
    assert require_duty(1e-9, 1.0, 0.0) is not None
    assert require_duty(0.0, 1.0, 0.0) is None


@pytest.mark.parametrize(
    ("busy_s", "period_s"), [(-1e-3, 1e-2), (1e-3, 0.0), (float("nan"), 1e-2), (1e-3, float("nan"))]
)
def test_a_duty_cycle_that_makes_no_sense_is_refused(busy_s: float, period_s: float) -> None:
    with pytest.raises(ValueError, match="no duty cycle"):
        require_duty(busy_s, period_s, 0.95)


def test_limits_come_from_the_kernels_own_files(tmp_path: Path) -> None:
    limits = read_rt_limits(tree(tmp_path, THROTTLE))
    assert [(b.runtime_us, b.period_us, b.source) for b in limits.budgets] == [
        (950_000, 1_000_000, "/proc/sys/kernel/sched_rt_runtime_us")
    ]
    assert limits.unknown == ()


def test_the_budget_of_the_control_group_binds_where_it_is_smaller(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu/robot"
    files = {
        **THROTTLE,
        "proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/robot\n0::/\n",
        f"{group}/cpu.rt_runtime_us": "100000\n",
        f"{group}/cpu.rt_period_us": "1000000\n",
    }
    smallest = read_rt_limits(tree(tmp_path, files)).smallest
    assert smallest is not None
    assert (smallest.share, smallest.source) == (0.1, f"/{group}/cpu.rt_runtime_us")


def test_the_deadline_server_of_ordinary_tasks_leaves_the_rest(tmp_path: Path) -> None:
    server = "sys/kernel/debug/sched/fair_server/cpu1"  # ns: 100 ms of each second are reserved on core 1
    files = {
        "proc/sys/kernel/sched_rt_runtime_us": "-1",
        "proc/sys/kernel/sched_rt_period_us": "1000000",
        f"{server}/runtime": "100000000",
        f"{server}/period": "1000000000",
    }
    root = tree(tmp_path, files)
    on_core_1, on_core_0 = read_rt_limits(root, 1).smallest, read_rt_limits(root, 0).smallest
    assert on_core_1 is not None
    assert on_core_0 is not None
    assert (on_core_1.share, on_core_0.share) == (0.9, 1.0)


@pytest.mark.parametrize("wrong", [{}, {**THROTTLE, "proc/sys/kernel/sched_rt_period_us": "soon"}])
def test_what_cannot_be_read_is_said_and_no_budget_is_made_up(tmp_path: Path, wrong: dict[str, str]) -> None:
    limits = read_rt_limits(tree(tmp_path, wrong))
    assert limits.smallest is None
    assert "sched_rt_runtime_us" in limits.unknown[0]


def test_this_machine_says_its_own_limit() -> None:
    smallest = read_rt_limits().smallest
    assert smallest is not None
    assert 0.0 <= smallest.share <= 1.0
