"""What systemd and udev are told of a release, rendered from its target and arm. Pure, on the workstation.

One unit holds servo and policy: two units would need a socket between them that a crash leaves half open, and one
cgroup whose main process is the supervisor stops the arm in order (KillMode=mixed). Nothing here knows the robot: ports
and cameras come from robot.toml at start, through `edgevla.install.launch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevla.install.robot_config import STATE
from edgevla.install.sandbox import root_sandbox, sandbox
from edgevla.install.systemd import USER
from edgevla.install.udev import CAN, rules

if TYPE_CHECKING:
    from profiles.model import ArmProfile, Target

SERVICE, BOOT = "edgevla.service", "edgevla-boot.service"
RULES, SYSUSERS = "99-edgevla.rules", "edgevla.sysusers"
_GPU = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
MOTEUS_DATA_BAUD = 5_000_000  # bit/s: moteus speaks CAN-FD only, whatever its profile leaves out
_ABORT_S = 5  # s, of a run whose servo is stuck; without it systemd waits TimeoutStopSec before it starts anew
_PRIORITIES_ABOVE = 5  # of the servo's: LimitRTPRIO leaves room for none but the run's own processes


def render(target: Target, arm: ArmProfile, prefix: str = "/opt/edgevla") -> dict[str, bytes]:
    """File name -> content: the service, the boot selector, udev rules, users; for an arm on CAN also its bus."""
    can = is_can(arm)
    files = {
        SERVICE: service(target, arm, prefix),
        BOOT: boot(prefix),
        RULES: rules(USER, can),
        SYSUSERS: sysusers(),
    }
    if can:
        files[CAN] = can_bus(arm, prefix)
    return {name: text.encode() for name, text in sorted(files.items())}


def is_can(arm: ArmProfile) -> bool:
    """Whether its protocol goes over a CAN bus."""
    from firmware_bridge.protocols import KINDS

    return KINDS[arm.protocol] == "can"


def service(target: Target, arm: ArmProfile, prefix: str) -> str:
    """edgevla.service."""
    can, gpu = is_can(arm), any(provider in _GPU for provider in target.providers)
    first = [BOOT, *([CAN] if can else [])]
    return _lines(
        f"# edgevla on {target.name} with {arm.name}. Rendered by edgevla: a release replaces it. What one robot has",
        f"# belongs in {prefix}/etc/robot.toml, and what systemd shall do otherwise in a drop-in (`systemctl edit`).",
        "[Unit]",
        f"Description=edgevla: a policy drives the arm {arm.name}",
        "Documentation=https://www.freedesktop.org/software/systemd/man/systemd.service.html",
        "# Pulled in anew by every start: the boot selector before the condition is looked at, the bus before the arm.",
        f"Wants={' '.join(first)}",
        f"After={' '.join(first)}",
        "# No release that may run: no start, and no failure either.",
        f"ConditionPathExists={prefix}/current",
        "# Three starts find a bad release and return to the good one (2 tries); three more are for that one.",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=6",
        "",
        "[Service]",
        "# READY=1 comes when the servo ticks and the policy answers: disarmed. Nothing moves until a person arms it.",
        "Type=notify",
        "NotifyAccess=main",
        "# As root: return from a release that was tried twice and never marked good; count this start as a try.",
        f"ExecStartPre=+{selector(prefix)} recover",
        f"ExecStartPre=+{selector(prefix)} count",
        f"ExecStart={_python(prefix)} -m edgevla.install.launch {prefix}",
        f"User={USER}",
        f"Group={USER}",
        f"SupplementaryGroups={' '.join(_groups(arm, can, gpu))}" if _groups(arm, can, gpu) else None,
        f"Environment=XDG_STATE_HOME={STATE.rpartition('/')[0]}",
        "TimeoutStartSec=180",
        "",
        "# Fed by the servo's steps only. SIGTERM, not SIGABRT: what is left of the run still stops the arm in order.",
        "WatchdogSec=2",
        "WatchdogSignal=SIGTERM",
        "# SIGTERM goes to the supervisor: ramp down, hold, latch. SIGKILL, to all, only after longer than that takes.",
        "KillMode=mixed",
        f"TimeoutStopSec={_stop_s(arm)}",
        "# A starved watchdog: the servo is stuck and ramps no more; what is left of the run stops the arm.",
        f"TimeoutAbortSec={_ABORT_S}",
        "# Disarmed again after a crash, a starved watchdog, a lost bus; after bad input too, or a release that cannot",
        "# start would never be counted out.",
        "Restart=on-failure",
        "RestartSec=2",
        "",
        *_scheduling(target),
        "",
        *_state(),
        "",
        *_network(can),
        "",
        *sandbox(),
        "",
        *_devices(arm, can, gpu),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )


def boot(prefix: str) -> str:
    """edgevla-boot.service: the selector, before the service looks whether there is a release at all."""
    return _lines(
        "# After a power cut in the middle of an install: `current` leads to a release that may run, or is not there.",
        "[Unit]",
        "Description=edgevla: choose the release to run",
        f"ConditionPathExists={prefix}/agent/current",
        f"Before={SERVICE}",
        f"RequiresMountsFor={prefix}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={selector(prefix)} recover",
        *root_sandbox(),
        "RestrictAddressFamilies=none",
        "PrivateNetwork=yes",
        "CapabilityBoundingSet=",
        f"ReadWritePaths={prefix}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )


def can_bus(arm: ArmProfile, prefix: str) -> str:
    """edgevla-can.service: the interfaces of robot.toml, at the arm's bit rates unless robot.toml has others."""
    data_baud = arm.data_baud or (MOTEUS_DATA_BAUD if arm.protocol == "moteus" else None)
    data = "" if data_baud is None else f" --data-bitrate {data_baud}"
    return _lines(
        "# No RemainAfterExit: each start of edgevla.service looks again, so that a replugged adapter comes up.",
        "[Unit]",
        f"Description=edgevla: bring up the CAN bus of {arm.name}",
        f"ConditionPathExists={prefix}/current",
        f"After={BOOT}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={_python(prefix)} -m edgevla.install.can_up {prefix} --bitrate {arm.baud}{data}",
        "TimeoutStartSec=30",
        *root_sandbox(),
        "RestrictAddressFamilies=AF_NETLINK",
        "IPAddressDeny=any",
        "# All that it can do as root: set up interfaces.",
        "CapabilityBoundingSet=CAP_NET_ADMIN",
    )


def sysusers() -> str:
    """sysusers.d(5): the service's own user, in the groups of serial ports and cameras."""
    return _lines(
        f'u {USER} - "edgevla, drives the arm" {STATE}',
        "g dialout -",
        "g video -",
        "g render -",
        "# A person confirms cameras as this user, outside the unit, where only these groups count.",
        f"m {USER} dialout",
        f"m {USER} video",
        f"m {USER} render",
    )


def selector(prefix: str) -> str:
    """The boot selector's command line: the system's Python, one file of the installer."""
    return f"/usr/bin/python3 -I -B {prefix}/agent/current/edgevla/install/select.py {prefix}"


def _python(prefix: str) -> str:
    """The Python of the current release: isolated, and writing nothing."""
    return f"{prefix}/current/venv/bin/python3 -I -B"


def _groups(arm: ArmProfile, can: bool, gpu: bool) -> list[str]:
    return [
        *([] if can else ["dialout"]),
        *(["video"] if arm.cameras or gpu else []),
        *(["render"] if gpu else []),
    ]


def _stop_s(arm: ArmProfile) -> int:
    """Longer than the ramp, the hold and, where torque goes off at last, its wait."""
    torque_s = arm.torque_s if arm.torque_policy in ("ramp", "off") else 0.0
    return round(max(30.0, 20.0 + arm.hold_s + torque_s))


def _scheduling(target: Target) -> list[str | None]:
    others = _other_cores(target)
    return [
        "# The servo takes SCHED_FIFO and its core by itself; the others start as ordinary processes, off those cores.",
        "CPUSchedulingPolicy=other",
        None if others is None else f"CPUAffinity={others}",
        f"LimitRTPRIO={min(99, target.servo_priority + _PRIORITIES_ABOVE)}",
        "LimitMEMLOCK=infinity",
        "OOMScoreAdjust=-500",
        "TasksMax=256",
    ]


def _other_cores(target: Target) -> str | None:
    """The cores below servo's and policy's, which every such machine has; None where that would be none."""
    taken = {core for core in (target.servo_core, target.policy_core) if core is not None}
    free = [core for core in range(max(taken, default=0)) if core not in taken]
    if not taken:
        return None
    return " ".join(map(str, free)) if free else str(target.policy_core) if target.policy_core is not None else None


def _state() -> list[str]:
    return [
        "# /run/edgevla: the socket of `edgevla say`. /var/lib/edgevla: flight records, confirmed cameras.",
        "RuntimeDirectory=edgevla",
        "RuntimeDirectoryMode=0700",
        "StateDirectory=edgevla",
        "StateDirectoryMode=0750",
        f"WorkingDirectory={STATE}",
        "UMask=0077",
    ]


def _network(can: bool) -> list[str]:
    if can:
        return [
            "# CAN sockets live in the host's network name space; of it they are all that can be opened.",
            "RestrictAddressFamilies=AF_UNIX AF_CAN",
            "IPAddressDeny=any",
        ]
    return [
        "# No network: no interface but a loopback of its own, and no socket that would reach one.",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "IPAddressDeny=any",
    ]


def _devices(arm: ArmProfile, can: bool, gpu: bool) -> list[str]:
    """The allow-list: of the bus, of the cameras, of the GPU; nothing else but null, zero, random."""
    lines = ["# Devices: the arm's bus, its cameras, and no others.", "DevicePolicy=closed"]
    lines += ["DeviceAllow=/dev/cpu_dma_latency w"]
    if not can:
        lines += ["DeviceAllow=char-ttyUSB rw", "DeviceAllow=char-ttyACM rw"]
    if arm.cameras:
        lines += ["DeviceAllow=char-video4linux rw", "DeviceAllow=char-media rw"]
        lines += ["# The socket of NVIDIA's camera daemon, for csi: sources.", "BindPaths=-/tmp/argus_socket"]
    if gpu:
        names = ("char-nv*", "char-host1x*", "char-drm", "/dev/nvmap", "/dev/nvsciipc", "/dev/host1x-fence")
        lines += [f"DeviceAllow={name} rw" for name in names]
    else:
        lines += ["# The policy runs on the CPU: nothing makes code at run time.", "MemoryDenyWriteExecute=yes"]
    return lines


def _lines(*lines: str | None) -> str:
    return "\n".join(line for line in lines if line is not None) + "\n"
