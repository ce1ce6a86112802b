"""The cores: which there are, who else uses the servo's, how fast they run and how long they take to wake."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.probe import boot_option, core_list, cores_said

_CPU = "sys/devices/system/cpu"
MAX_EXIT_US = 100  # an idle state that takes longer to leave is felt: a servo wakes within tens of us


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    online = core_list(host.tree.text(f"{_CPU}/online"))
    cores = _cores_of(wanted) or online
    return [
        _cores(host, wanted, online),
        _siblings(host, wanted),
        _isolation(host, wanted),
        _tick(host, wanted),
        _governor(host, cores),
        _frequency(host, cores),
        _idle(host, cores, online),
        _interrupts(host, wanted),
    ]


def _cores_of(wanted: Wanted) -> frozenset[int]:
    return frozenset(core for core in (wanted.servo_core, wanted.policy_core) if core is not None)


def _cores(host: Host, wanted: Wanted, online: frozenset[int]) -> Finding:
    name = "cores"
    if not online:
        return unknown(name, f"/{_CPU}/online cannot be read")
    status = host.tree.text("proc/self/status")
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    usable = online & core_list(match[1]) if match else online
    needed = _cores_of(wanted)
    found = f"online {cores_said(online)}, usable here {cores_said(usable)}"
    if not needed:
        return said(name, found)
    expected = f"servo {wanted.servo_core}, policy {wanted.policy_core}"
    if not needed <= usable:
        todo = "set servo_core and policy_core in a target file of your own (`edgevla profiles show host --json`)"
        power = (
            ["cat /etc/nvpmodel.conf; sudo nvpmodel -m <ID>   # power modes switch cores off"] if host.jetson else []
        )
        return failed(name, found, expected, *power, todo)
    if len(needed) < 2 and wanted.policy_core is not None and wanted.servo_core is not None:
        return warned(name, f"{found}; servo and policy share core {wanted.servo_core}", expected, "use two cores")
    return passed(name, found, expected)


def _siblings(host: Host, wanted: Wanted) -> Finding:
    name, expected = "hyper-threads of the servo's core", "none that other programs use"
    core = wanted.servo_core
    if core is None:
        return said(name, "no servo core named", expected)
    reading = host.tree.read(f"{_CPU}/cpu{core}/topology/thread_siblings_list")
    if reading.text is None:
        return unknown(name, reading.reason, expected)
    others = core_list(reading.text) - {core}
    if not others:
        return passed(name, "none", expected)
    todo = "echo off | sudo tee /sys/devices/system/cpu/smt/control   # or choose cores that are no siblings"
    return warned(name, f"core {core} shares its units with {cores_said(others)}", expected, todo)


def _isolation(host: Host, wanted: Wanted) -> Finding:
    name = "isolated cores"
    reading = host.tree.read(f"{_CPU}/isolated")
    if reading.text is None:
        return unknown(name, reading.reason)
    isolated = core_list(reading.text)
    core = wanted.servo_core
    if core is None:
        return said(name, cores_said(isolated))
    expected = f"the servo's core {core}"
    if core in isolated:
        return passed(name, cores_said(isolated), expected)
    options = f"isolcpus=managed_irq,domain,{core} nohz_full={core} rcu_nocbs={core} irqaffinity={_other(host, core)}"
    return warned(name, cores_said(isolated), expected, host.boot_todo(options))


def _other(host: Host, core: int) -> str:
    return cores_said(core_list(host.tree.text(f"{_CPU}/present")) - {core})


def _tick(host: Host, wanted: Wanted) -> Finding:
    name = "timer tick and RCU callbacks"
    cmdline = host.tree.read("proc/cmdline")
    if cmdline.text is None:
        return unknown(name, cmdline.reason)
    full = core_list(host.tree.text(f"{_CPU}/nohz_full"))
    offloaded = core_list(boot_option(cmdline.text, "rcu_nocbs") or "") | full  # nohz_full implies it
    found = f"nohz_full {cores_said(full)}, rcu_nocbs {cores_said(offloaded)}"
    core = wanted.servo_core
    if core is None:
        return said(name, found)
    expected = f"kept from core {core}"
    if core in full and core in offloaded:
        return passed(name, found, expected)
    return said(name, found, expected, host.boot_todo(f"nohz_full={core} rcu_nocbs={core}"))


def _governor(host: Host, cores: frozenset[int]) -> Finding:
    name, expected = "governor", "performance"
    found = {core: host.tree.read(f"{_CPU}/cpu{core}/cpufreq/scaling_governor") for core in sorted(cores)}
    reasons = [reading.reason for reading in found.values() if reading.text is None]
    if reasons or not found:
        return unknown(name, reasons[0] if reasons else "no core", expected)
    other = {core: reading.text for core, reading in found.items() if reading.text != "performance"}
    text = ", ".join(f"core {core} {reading.text}" for core, reading in found.items())
    if not other:
        return passed(name, text, expected)
    each = [f"echo performance | sudo tee /{_CPU}/cpu{core}/cpufreq/scaling_governor" for core in other]
    return warned(name, text, expected, *(["sudo jetson_clocks"] if host.jetson else each))


def _frequency(host: Host, cores: frozenset[int]) -> Finding:
    name, expected = "frequency", "its maximum, not to be lowered"
    rows, floating = [], []
    for core in sorted(cores):
        folder = f"{_CPU}/cpu{core}/cpufreq"
        low, high, top = (
            host.tree.number(f"{folder}/{file}")
            for file in ("scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
        )
        if low is None or high is None or top is None:
            return unknown(name, f"/{folder} cannot be read", expected)
        rows.append(f"core {core} {low // 1000}-{high // 1000} of {top // 1000} MHz")
        if high < top:
            floating.append(core)
    if not rows:
        return unknown(name, "no core", expected)
    if not floating:
        return passed(name, ", ".join(rows), expected)
    todo = [
        f"cat /{_CPU}/cpu{core}/cpufreq/cpuinfo_max_freq | sudo tee /{_CPU}/cpu{core}/cpufreq/scaling_max_freq"
        for core in floating
    ]
    return warned(
        name, ", ".join(rows), expected, *(["sudo nvpmodel -q   # the mode lowers it"] if host.jetson else todo)
    )


def _idle(host: Host, cores: frozenset[int], online: frozenset[int]) -> Finding:
    name, expected = "idle states", f"none in use that takes more than {MAX_EXIT_US} us to leave"
    slow, states, unread = [], 0, []
    for core in sorted(cores):
        folder = f"{_CPU}/cpu{core}/cpuidle"
        if core not in online:
            unread.append(f"core {core} is not online, and /{folder}")
        for state in host.tree.names(folder, r"state\d+"):
            states += 1
            exit_us = host.tree.number(f"{folder}/{state}/latency")
            disabled = host.tree.number(f"{folder}/{state}/disable")
            if exit_us is None or disabled is None:
                unread.append(f"/{folder}/{state}")
            elif not disabled and exit_us > MAX_EXIT_US:
                label = host.tree.text(f"{folder}/{state}/name", state)
                slow.append((f"core {core} {label} {exit_us} us", f"/{folder}/{state}/disable"))
    if slow:
        todo = [f"echo 1 | sudo tee {file}" for _, file in slow]
        return warned(name, ", ".join(text for text, _ in slow), expected, *todo)
    if unread:
        return unknown(name, f"{unread[0]} cannot be read", expected)
    if states == 0:
        return said(name, "this kernel has none for these cores", expected)
    return passed(name, f"{states} states, none slower", expected)


def _interrupts(host: Host, wanted: Wanted) -> Finding:
    name = "interrupts on the servo's core"
    core = wanted.servo_core
    if core is None:
        return said(name, "no servo core named")
    table = host.tree.read("proc/interrupts")
    if table.text is None:
        return unknown(name, table.reason)
    if core not in core_list(host.tree.text(f"{_CPU}/online")):
        return unknown(name, f"core {core} is not online")
    if not host.tree.names("proc/irq", r"\d+"):
        return unknown(name, "/proc/irq cannot be read")
    names = interrupt_names(table.text)
    aimed = [number for number in host.tree.names("proc/irq", r"\d+") if core in _aimed_at(host, number)]
    used = [number for number in aimed if number in names]  # an IRQ without a line has no handler
    expected = f"device interrupts elsewhere than on core {core}"
    if not names:
        return unknown(name, "/proc/interrupts names no device", expected)
    if not used:
        return passed(name, "none", expected)
    found = f"{len(used)} of {len(names)}: " + ", ".join(f"{number} {names[number]}" for number in used[:4])
    others = _other(host, core)
    todo = [f"echo {others} | sudo tee /proc/irq/{number}/smp_affinity_list" for number in used[:4]]
    more = (
        [f"and {len(used) - 4} more; all at once: {host.boot_todo(f'irqaffinity={others}')}"] if len(used) > 4 else []
    )
    return warned(name, found + (" ..." if len(used) > 4 else ""), expected, *todo, *more)


def _aimed_at(host: Host, number: str) -> frozenset[int]:
    """Where the kernel delivers it; older kernels tell only where it may."""
    effective = host.tree.text(f"proc/irq/{number}/effective_affinity_list")
    return core_list(effective or host.tree.text(f"proc/irq/{number}/smp_affinity_list"))


def interrupt_names(table: str) -> dict[str, str]:
    """Number -> device of /proc/interrupts; lines of the cores themselves (LOC, IPI0) have no number."""
    lines = table.splitlines()
    cores = len(re.findall(r"CPU\d+", lines[0])) if lines else 0
    found = {}
    for line in lines[1:]:
        match = re.match(r"\s*(\d+):", line)
        words = line.split()[1 + cores :]
        if match and words:
            found[match[1]] = words[-1]
    return found
