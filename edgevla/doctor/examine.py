"""All subjects in one go."""

from __future__ import annotations

from edgevla.doctor import can, cpu, jetson, kernel, log, power, serial, system, thermal
from edgevla.doctor.finding import Finding
from edgevla.doctor.host import Host, Wanted

SUBJECTS = {
    "kernel": kernel.examine,
    "cpu": cpu.examine,
    "thermal": thermal.examine,
    "power": power.examine,
    "jetson": jetson.examine,
    "serial": serial.examine,
    "can": can.examine,
    "system": system.examine,
    "log": log.examine,
}


def examine(host: Host, wanted: Wanted) -> dict[str, list[Finding]]:
    """Findings by subject, in the order of SUBJECTS. Reads only; takes about a second on a real machine."""
    return {subject: look(host, wanted) for subject, look in SUBJECTS.items()}
