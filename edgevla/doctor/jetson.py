"""What only a Jetson has: the L4T release, power modes, clocks to lock, and CAN pins that may still be GPIOs."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.probe import Tree

# Jetson Linux release -> JetPack, from NVIDIA's release archive; others are said by their L4T release only.
_JETPACK = {
    "35.6": "5.1.4",
    "36.2": "6.0 DP",
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
}
_TESTED_MAJOR = 36  # JetPack 6: Python 3.10, what the robot's lock is for
# Orin's registers of the CAN pins and their values, NVIDIA "Controller Area Network (CAN)", table of platforms.
_PINS = {
    "mttcan@c310000": (("0x0c303018", "0xc458"), ("0x0c303010", "0xc400")),
    "mttcan@c320000": (("0x0c303008", "0xc458"), ("0x0c303000", "0xc400")),
}
_MODULES = ("can", "can_raw", "mttcan")
_TREE = "proc/device-tree"


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject; none on another machine."""
    if not host.jetson:
        return []
    return [_release(host.tree), _power_mode(host.tree, wanted), _clocks(host.tree), *_can(host, wanted)]


def l4t_release(text: str) -> str | None:
    """'36.4.3' from the first line of /etc/nv_tegra_release."""
    match = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def _release(tree: Tree) -> Finding:
    name, expected = "Jetson release", f"L4T R{_TESTED_MAJOR}, JetPack 6"
    reading = tree.read("etc/nv_tegra_release")
    release = l4t_release(reading.text or "")
    if release is None:
        return unknown(name, reading.reason or "/etc/nv_tegra_release names none", expected)
    jetpack = _JETPACK.get(release.removesuffix(".0"))
    found = f"L4T R{release}" + (f", JetPack {jetpack}" if jetpack else "")
    if int(release.split(".")[0]) == _TESTED_MAJOR:
        return passed(name, found, expected)
    return warned(name, found, expected, "compare with https://developer.nvidia.com/embedded/jetson-linux-archive")


def _power_mode(tree: Tree, wanted: Wanted) -> Finding:
    """The mode of the target; without one the fastest, called MAXN. Its number differs from module to module."""
    meant = wanted.target.power_mode if wanted.target else ""
    name, expected = "power mode", "MAXN, or the mode that the latency budget was measured in"
    if meant:
        expected = f"{meant}, in which the latency budget is meant"
    status = tree.read("var/lib/nvpmodel/status")
    current = re.search(r"pmode:0*(\d+)", status.text or "")
    if current is None:
        return unknown(name, status.reason or "/var/lib/nvpmodel/status names none", expected, "sudo nvpmodel -q")
    modes = dict(re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", tree.text("etc/nvpmodel.conf")))
    mode = modes.get(current[1])
    if mode is None:
        return unknown(name, f"mode {current[1]}, not named in /etc/nvpmodel.conf", expected, "sudo nvpmodel -q")
    fitting = [number for number, label in modes.items() if (label == meant if meant else label.startswith("MAXN"))]
    if current[1] in fitting:
        return passed(name, f"{mode} (mode {current[1]})", expected)
    todo = f"sudo nvpmodel -m {fitting[-1]}" if fitting else "sudo nvpmodel -q; cat /etc/nvpmodel.conf"
    return warned(name, f"{mode} (mode {current[1]})", expected, todo)


def _clocks(tree: Tree) -> Finding:
    """`jetson_clocks` makes minimum and maximum the same for every core and for the GPU."""
    name, expected = "clocks", "locked to the ceiling of the power mode"
    cpu = [f"sys/devices/system/cpu/{core}/cpufreq/scaling" for core in tree.names("sys/devices/system/cpu", r"cpu\d+")]
    gpu = [f"sys/class/devfreq/{device}/" for device in tree.names("sys/class/devfreq", r".*\.(gpu|ga10b)")]
    ranges = {
        **{prefix: (f"{prefix}_min_freq", f"{prefix}_max_freq") for prefix in cpu},
        **{prefix: (f"{prefix}min_freq", f"{prefix}max_freq") for prefix in gpu},
    }
    read = {key: (tree.number(low), tree.number(high)) for key, (low, high) in ranges.items()}
    known = {key: pair for key, pair in read.items() if None not in pair}
    if not known:
        return unknown(name, "no cpufreq and no devfreq of the GPU can be read", expected, "sudo jetson_clocks --show")
    loose = [key.split("/")[-2 if key in gpu else 4] for key, (low, high) in known.items() if low != high]
    if loose:
        keep = "sudo systemctl enable nvpmodel; a unit with ExecStart=/usr/bin/jetson_clocks keeps it over a reboot"
        return warned(name, f"not locked: {', '.join(loose)}", expected, "sudo jetson_clocks", keep)
    missing = "" if any(key in gpu for key in known) else "; the GPU's range cannot be read"
    return passed(name, f"locked: {len(known)} ranges{missing}", expected)


def _can(host: Host, wanted: Wanted) -> list[Finding]:
    tree = host.tree
    nodes = {
        node: f"{folder}/{node}"
        for folder in (_TREE, f"{_TREE}/bus@0")
        for node in tree.names(folder, r"mttcan@[0-9a-f]+")
    }
    enabled = [node for node, path in nodes.items() if tree.text(f"{path}/status", "okay") in ("okay", "ok")]
    modules = [module for module in _MODULES if not tree.exists(f"sys/module/{module}")]
    bad = failed if wanted.can_port else said
    controllers = "CAN controllers"
    found: list[Finding] = []
    if not nodes:
        found.append(unknown(controllers, "the device tree names none", "mttcan@c310000"))
    elif enabled:
        found.append(passed(controllers, ", ".join(enabled), "enabled in the device tree"))
    else:
        todo = "sudo /opt/nvidia/jetson-io/jetson-io.py   # configure header pins, choose can0, reboot"
        found.append(bad(controllers, f"{', '.join(nodes)}: disabled", "enabled in the device tree", todo))
    load = f"sudo modprobe -a {' '.join(_MODULES)}"
    name, expected = "CAN modules", ", ".join(_MODULES)
    if modules:
        keep = f"printf '%s\\n' {' '.join(_MODULES)} | sudo tee /etc/modules-load.d/can.conf"
        found.append(bad(name, f"not loaded: {', '.join(modules)}", expected, load, keep))
    else:
        found.append(passed(name, "loaded", expected))
    return [*found, _pinmux(enabled or list(nodes))]


def _pinmux(nodes: list[str]) -> Finding:
    """The registers can be read by root only, with busybox: the lines that show and set them."""
    lines = [f"sudo busybox devmem {address} w {value}" for node in nodes for address, value in _PINS.get(node, ())]
    expected = "CAN function, on AGX Orin's 40-pin header GPIO by default"
    if not lines:
        return unknown("CAN pins", "no table for this module", expected)
    return unknown("CAN pins", "registers are not read; without a value the line shows the register", expected, *lines)
