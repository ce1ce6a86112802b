"""The rest of the computer: memory, swap, huge pages, disk, clock, watchdog, and who may take time from outside."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.probe import Tree

_CLOCK = "sys/devices/system/clocksource/clocksource0"
_FAST_CLOCKS = ("tsc", "arch_sys_counter")  # read without a system call or a trap
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")
MIN_FREE_BYTES = 1_000_000_000  # a flight record of an hour with cameras


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    tree = host.tree
    return [
        _swap(host),
        _memory(tree, wanted),
        _huge_pages(tree),
        _disk(host),
        _clocksource(tree),
        _synchronised(host),
        _watchdog(tree),
        _virtual(tree),
    ]


def _swap(host: Host) -> Finding:
    name, expected = "swap", "none in use on a robot"
    reading = host.tree.read("proc/swaps")
    if reading.text is None:
        return unknown(name, reading.reason, expected)
    if not reading.text.startswith("Filename"):
        return unknown(name, "/proc/swaps has no heading", expected)
    rows = re.findall(r"^(/\S+)\s+\w+\s+(\d+)\s+(\d+)", reading.text, re.MULTILINE)
    if not rows:
        return passed(name, "none", expected)
    found = ", ".join(f"{file} {int(size) // 1024} MB, {int(used) // 1024} used" for file, size, used in rows)
    todo = ["sudo swapoff -a   # for good: take its line out of /etc/fstab"]
    if any("zram" in row[0] for row in rows):
        todo.append("sudo systemctl disable --now nvzramconfig" if host.jetson else "sudo apt remove zram-tools")
    return warned(name, found, expected, *todo)


def _memory(tree: Tree, wanted: Wanted) -> Finding:
    name = "memory"
    reading = tree.read("proc/meminfo")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", reading.text or "", re.MULTILINE)
    if match is None:
        return unknown(name, reading.reason or "/proc/meminfo has no MemAvailable")
    free_mb = int(match[1]) // 1024
    if wanted.target is None:
        return said(name, f"{free_mb} MB available")
    expected = f"{wanted.target.memory_mb} MB for the policy process"
    if free_mb < wanted.target.memory_mb:
        return failed(
            name,
            f"{free_mb} MB available",
            expected,
            "ps -eo pid,rss,comm --sort=-rss | head   # end what is not needed",
        )
    return passed(name, f"{free_mb} MB available", expected)


def _huge_pages(tree: Tree) -> Finding:
    name, expected = "transparent huge pages", "madvise or never: compacting memory stalls a process"
    file = "sys/kernel/mm/transparent_hugepage/enabled"
    reading = tree.read(file)
    match = re.search(r"\[(\w+)\]", reading.text or "")
    if match is None:
        return unknown(name, reading.reason or f"/{file} names no mode", expected)
    if match[1] == "always":
        return warned(name, "always", expected, f"echo madvise | sudo tee /{file}")
    return passed(name, match[1], expected)


def _disk(host: Host) -> Finding:
    name, expected = "free disk", f"{MIN_FREE_BYTES / 1e9:g} GB here, for the flight recorder"
    try:
        free = host.free_bytes()
    except OSError as error:
        return unknown(name, error.strerror or str(error), expected)
    found = f"{free / 1e9:.1f} GB"
    if free < MIN_FREE_BYTES:
        return warned(name, found, expected, "df -h .; du -xh --max-depth=1 . | sort -h | tail")
    return passed(name, found, expected)


def _clocksource(tree: Tree) -> Finding:
    name, expected = "clock source", " or ".join(_FAST_CLOCKS)
    reading = tree.read(f"{_CLOCK}/current_clocksource")
    if reading.text is None:
        return unknown(name, reading.reason, expected)
    there = tree.text(f"{_CLOCK}/available_clocksource").split()
    if reading.text in _FAST_CLOCKS:
        return passed(name, reading.text, expected)
    better = [clock for clock in there if clock in _FAST_CLOCKS]
    found = f"{reading.text}, of {', '.join(there) or 'not said'}"
    if reading.text in _SLOW_CLOCKS or better:
        todo = [f"echo {better[0]} | sudo tee /{_CLOCK}/current_clocksource"] if better else []
        why = "sudo dmesg | grep -iE 'tsc|clocksource'   # why the kernel gave the fast one up"
        return warned(name, found, expected, *todo, why)
    return said(name, found, expected)


def _synchronised(host: Host) -> Finding:
    """Control runs on CLOCK_MONOTONIC, which no time server can step: said, never judged."""
    name, why = "time of day", "nothing on the control path: it uses CLOCK_MONOTONIC"
    reading = host.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    answer = (reading.text or "").strip()
    if answer not in ("yes", "no"):
        return unknown(name, reading.reason or "timedatectl does not say", why)
    return said(name, f"{'' if answer == 'yes' else 'not '}synchronised", why)


def _watchdog(tree: Tree) -> Finding:
    name, expected = "watchdog device", "one that systemd feeds, so that a hung kernel restarts"
    devices = tree.names("sys/class/watchdog", r"watchdog\d+")
    feed = (
        "echo 'RuntimeWatchdogSec=10s' under [Manager] in /etc/systemd/system.conf, then: sudo systemctl daemon-reexec"
    )
    if not devices:
        return warned(name, "none", expected, "sudo modprobe softdog   # where the board has none", feed)
    folder = f"sys/class/watchdog/{devices[0]}"
    state = tree.text(f"{folder}/state")
    found = f"{devices[0]}, {tree.text(f'{folder}/identity', 'unnamed')}, {tree.text(f'{folder}/timeout', '?')} s"
    if not state:
        return unknown(name, f"{found}; /{folder}/state cannot be read", expected, feed)
    if state != "active":
        return warned(name, f"{found}, {state}", expected, feed)
    return passed(name, f"{found}, active", expected)


def _virtual(tree: Tree) -> Finding:
    name, expected = "time taken from outside", "none: a machine of its own"
    reading = tree.read("proc/stat")
    match = re.match(r"cpu\s+([\d ]+)", reading.text or "")
    ticks = [int(word) for word in match[1].split()] if match else []
    if len(ticks) < 8:  # proc(5): user nice system idle iowait irq softirq steal
        return unknown(name, reading.reason or "/proc/stat counts no steal", expected)
    stolen, total = ticks[7], sum(ticks[:8])
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", tree.text("proc/cpuinfo"), re.MULTILINE)
    guest = bool(flags) or tree.exists("proc/device-tree/hypervisor")
    share = f"{100 * stolen / max(total, 1):.2g} % stolen since boot"
    if guest or stolen:
        what = "virtual machine" if guest else "some hypervisor"
        todo = "run the robot on the machine itself; here every figure needs its stolen time beside it"
        return warned(name, f"{what}, {share}", expected, todo)
    return passed(name, f"{share}", expected)
