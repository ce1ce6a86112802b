"""The kernel: its version, how it is preempted, what it grants a real-time process and when it takes it away."""

from __future__ import annotations

import re

from edgevla.control.duty import MARGIN, RtLimits, read_rt_limits
from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.grant import Grant
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.probe import Reading, boot_option

RT, FULL, LAZY, VOLUNTARY, NONE = "PREEMPT_RT", "PREEMPT", "PREEMPT_LAZY", "VOLUNTARY", "NONE"
_DYNAMIC = {"full": FULL, "lazy": LAZY, "voluntary": VOLUNTARY, "none": NONE}
_SMALL_SHARE = 0.5  # below this a servo has less than half of its core
_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23  # linux/capability.h


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    return [
        _architecture(host, wanted),
        said("kernel", f"Linux {host.tree.text('proc/sys/kernel/osrelease', 'not known')}, {host.arch}"),
        _preemption(host),
        _throttle(read_rt_limits(host.tree.root, wanted.servo_core)),
        _group_budget(host),
        _granted(host.grant(wanted.priority, wanted.servo_core, wanted.policy_core), wanted),
        *_limits(host, wanted),
    ]


def _architecture(host: Host, wanted: Wanted) -> Finding:
    target = wanted.target
    if target is None:
        return said("target", "none named: cores and memory are not judged", "", "edgevla doctor --target NAME")
    if target.arch == host.arch:
        return passed("target", f"{target.name} on {host.board or host.arch}", target.arch)
    return failed("target", f"{target.name} on {host.arch}", target.arch, "edgevla profiles list")


def preemption_model(version: str, realtime: str, debug: str, cmdline: str, config: str) -> str | None:
    """PREEMPT_RT, PREEMPT, PREEMPT_LAZY, VOLUNTARY or NONE; None when the machine does not say.

    `version`: /proc/sys/kernel/version; `realtime`: /sys/kernel/realtime; `debug`: /sys/kernel/debug/sched/preempt, the
    model in force in brackets; `config`: the kernel's build configuration. '' for what could not be read.
    """
    if realtime == "1" or re.search(r"PREEMPT[_ ]RT\b", version):
        return RT
    in_force = re.search(r"\((\w+)\)", debug)
    if in_force and in_force[1] in _DYNAMIC:
        return _DYNAMIC[in_force[1]]
    chosen = boot_option(cmdline, "preempt")
    if chosen in _DYNAMIC and "PREEMPT_DYNAMIC" in version:
        return _DYNAMIC[chosen]
    if re.search(r"\bPREEMPT\b", version):
        return FULL
    built = re.findall(r"^CONFIG_PREEMPT(_NONE|_VOLUNTARY|_LAZY|)=y$", config, re.MULTILINE)
    names = {"": FULL, "_LAZY": LAZY, "_VOLUNTARY": VOLUNTARY, "_NONE": NONE}
    return names[built[0]] if built else None


def _preemption(host: Host) -> Finding:
    tree = host.tree
    version = tree.text("proc/sys/kernel/version")
    debug = tree.text("sys/kernel/debug/sched/preempt")
    model = preemption_model(
        version, tree.text("sys/kernel/realtime"), debug, host.cmdline, kernel_config(host).text or ""
    )
    if model is None:
        reason = f"{version or 'no kernel version'}, and the build configuration cannot be read"
        return unknown("preemption", reason, RT, "sudo cat /sys/kernel/debug/sched/preempt")
    if model == RT:
        return passed("preemption", model, RT)
    return warned("preemption", f"{model} ({version})", f"{RT} bounds what a driver may delay", *_rt_kernel(host))


def _rt_kernel(host: Host) -> tuple[str, ...]:
    if host.jetson:
        packages = "nvidia-l4t-rt-kernel nvidia-l4t-rt-kernel-headers nvidia-l4t-rt-kernel-oot-modules"
        source = "echo 'deb https://repo.download.nvidia.com/jetson/rt-kernel <r36.4> main' | sudo tee -a"
        return (
            f"{source} /etc/apt/sources.list.d/nvidia-l4t-apt-source.list   # your release in place of <r36.4>",
            f"sudo apt update && sudo apt install {packages} nvidia-l4t-display-rt-kernel",
        )
    if host.raspberry:
        choose = "echo kernel=kernel8_rt.img | sudo tee -a /boot/firmware/config.txt   # then reboot"
        return ("sudo apt install linux-image-rpi-v8-rt", choose)
    os_release = host.tree.text("etc/os-release")
    if re.search(r"^ID=ubuntu$", os_release, re.MULTILINE):
        return ("sudo pro enable realtime-kernel",)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(host.arch, host.arch)
    return (f"sudo apt install linux-image-rt-{arch}",)


def kernel_config(host: Host) -> Reading:
    """The configuration the kernel was built with."""
    packed = host.tree.read("proc/config.gz")
    if packed.text is not None:
        return packed
    release = host.tree.text("proc/sys/kernel/osrelease")
    return host.tree.read(f"boot/config-{release}")


def _throttle(limits: RtLimits) -> Finding:
    name, expected = "real-time throttle", "a share that the servo stays below, and not unlimited"
    budget = limits.smallest
    if budget is None:
        return unknown(name, "; ".join(limits.unknown), expected)
    allowed = 100 * (1 - MARGIN) * budget.share
    found = f"{100 * budget.share:.3g} % of a core ({budget.runtime_us} of {budget.period_us} us, {budget.source})"
    reset = "sudo sysctl -w kernel.sched_rt_runtime_us=950000"
    if budget.runtime_us == 0:
        return failed(name, f"{found}: no real-time process may run", expected, _raise(budget.source))
    if budget.runtime_us < 0:
        return warned(name, "unlimited: a runaway servo takes its core for good", expected, reset)
    if budget.share < _SMALL_SHARE:
        return warned(name, found, expected, _raise(budget.source))
    return passed(name, f"{found}; a servo may be busy {allowed:.3g} % of its period", expected)


def _raise(source: str) -> str:
    if source.startswith("/proc/"):
        return "sudo sysctl -w kernel.sched_rt_runtime_us=950000"
    return f"echo 950000 | sudo tee {source}"


def _group_budget(host: Host) -> Finding:
    name, expected = "CONFIG_RT_GROUP_SCHED", "off, or a real-time budget for this control group"
    config = kernel_config(host)
    if config.text is None:
        return unknown(name, config.reason, expected)
    if not group_scheduling(config.text, host.cmdline):
        return passed(name, "off", expected)
    return _own_group(host, name, expected)


def group_scheduling(config: str, cmdline: str) -> bool:
    """Whether real-time tasks need a budget of their control group."""
    if "CONFIG_RT_GROUP_SCHED=y" not in config.splitlines():
        return False
    switched = boot_option(cmdline, "rt_group_sched")
    if switched is not None:
        return switched in ("1", "y", "on")
    return "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y" not in config.splitlines()


def _own_group(host: Host, name: str, expected: str) -> Finding:
    said_groups = host.tree.read("proc/self/cgroup")
    if said_groups.text is None:
        return unknown(name, said_groups.reason, expected)
    first = re.search(r"^\d+:(?:\w+,)*cpu(?:,\w+)*:/(.*)$", said_groups.text, re.MULTILINE)
    if first:
        return _first_version(host, first[1], name, expected)
    unified = re.search(r"^0::/(.*)$", said_groups.text, re.MULTILINE)
    group = unified[1] if unified else ""
    if not group:
        return passed(name, "on, and this process is in the root group", expected)
    controllers = host.tree.read(f"sys/fs/cgroup/{group}/cgroup.controllers")
    if controllers.text is None:
        return unknown(name, controllers.reason, expected)
    if "cpu" not in controllers.text.split():
        return passed(name, f"on, and the group /{group} has no cpu controller", expected)
    off = host.boot_todo("rt_group_sched=0")
    found = f"on, and the group /{group} has the cpu controller: version 2 gives it no real-time budget"
    return failed(name, found, expected, f"a kernel without it (kernel 6.15 and later: {off})")


def _first_version(host: Host, group: str, name: str, expected: str) -> Finding:
    file = f"sys/fs/cgroup/cpu/{group}/cpu.rt_runtime_us".replace("//", "/")
    runtime_us = host.tree.number(file)
    if runtime_us is None:
        return unknown(name, f"/{file} cannot be read", expected)
    if runtime_us == 0:
        found = f"on, and the group /{group} has a budget of 0: SCHED_FIFO is refused"
        return failed(name, found, expected, f"echo 950000 | sudo tee /{file}")
    return passed(name, f"on, and the group /{group} has {runtime_us} us", expected)


def _granted(grant: Grant | str, wanted: Wanted) -> Finding:
    cores = "" if wanted.servo_core is None else f" on core {wanted.servo_core}"
    name, expected = "servo's rights, tried", f"SCHED_FIFO {wanted.priority}{cores}, memory locked"
    if isinstance(grant, str):
        return unknown(name, grant, expected)
    if not grant.missing:
        return passed(name, f"granted, {grant.locked_kb} kB locked", expected)
    return failed(name, f"refused: {'; '.join(grant.missing)}", expected, *_rights(wanted.priority))


def _rights(priority: int) -> tuple[str, ...]:
    limits = f"@realtime - rtprio {priority}\\n@realtime - memlock unlimited\\n"
    return (
        f"printf '{limits}' | sudo tee /etc/security/limits.d/edgevla.conf",
        "sudo groupadd -f realtime && sudo usermod -aG realtime $USER   # then log in again",
        f"or in the service's unit: LimitRTPRIO={priority} and LimitMEMLOCK=infinity",
    )


def _limits(host: Host, wanted: Wanted) -> list[Finding]:
    limits = host.tree.read("proc/self/limits")
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", host.tree.text("proc/self/status"), re.MULTILINE)
    capable = int(effective[1], 16) if effective else 0
    rows = (
        (
            "RLIMIT_RTPRIO",
            "Max realtime priority",
            str(wanted.priority),
            wanted.priority,
            _CAP_SYS_NICE,
            "CAP_SYS_NICE",
        ),
        ("RLIMIT_MEMLOCK", "Max locked memory", "unlimited", None, _CAP_IPC_LOCK, "CAP_IPC_LOCK"),
    )
    found = []
    for name, row, expected, needed, bit, capability in rows:
        match = re.search(rf"^{row}\s+(\S+)", limits.text or "", re.MULTILINE)
        if match is None:
            found.append(unknown(name, limits.reason or f"no line {row!r} in /proc/self/limits", expected))
        elif _enough(match[1], needed):
            found.append(passed(name, match[1], expected))
        elif capable >> bit & 1:
            found.append(passed(name, f"{match[1]}, not needed with {capability}", expected))
        else:
            found.append(warned(name, match[1], expected, *_rights(wanted.priority)))
    return found


def _enough(soft: str, needed: int | None) -> bool:
    return soft == "unlimited" or (needed is not None and soft.isdigit() and int(soft) >= needed)
