"""What the doctor looks at: a machine, and what shall run on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgevla.doctor.grant import Grant, try_grant
from edgevla.doctor.probe import Reading, Tree, run_tool
from profiles import ArmProfile, Target

DEFAULT_PRIORITY = 80  # what is tried when no target says another one


@dataclass(frozen=True)
class User:
    """Who would run the robot."""

    uid: int
    groups: frozenset[int]


@dataclass(frozen=True)
class Wanted:
    """What shall run here; None: not said, and what depends on it is not judged."""

    target: Target | None = None
    arm: ArmProfile | None = None
    port: str | None = None  # '/dev/ttyUSB0', or a network interface: 'can0'

    @property
    def priority(self) -> int:
        """SCHED_FIFO priority of the servo."""
        return self.target.servo_priority if self.target else DEFAULT_PRIORITY

    @property
    def servo_core(self) -> int | None:
        """Core of the servo, None: not pinned or not said."""
        return self.target.servo_core if self.target else None

    @property
    def policy_core(self) -> int | None:
        """Core of the policy process, None: not pinned or not said."""
        return self.target.policy_core if self.target else None

    @property
    def can_port(self) -> str | None:
        """The CAN interface named as the port, else None."""
        name = (self.port or "").removeprefix("socketcan:")
        return name if re.fullmatch(r"s?l?v?can[\w.-]*", name) else None

    @property
    def serial_port(self) -> str | None:
        """The serial port named as the port, else None."""
        return None if self.can_port else self.port


@dataclass(frozen=True)
class Host:
    """One machine. Everything that reads it goes through here, so that a test can show another one."""

    tree: Tree = field(default_factory=Tree)
    run: Callable[[Sequence[str]], Reading] = run_tool
    arch: str = field(default_factory=platform.machine)
    user: User = field(default_factory=lambda: User(os.getuid(), frozenset({os.getegid(), *os.getgroups()})))
    free_bytes: Callable[[], int] = lambda: shutil.disk_usage(".").free
    grant: Callable[[int, int | None, int | None], Grant | str] = try_grant

    @property
    def board(self) -> str:
        """Model of the board as its device tree says it; '' where there is none."""
        return self.tree.text("proc/device-tree/model")

    @property
    def jetson(self) -> bool:
        """Whether this is a Jetson: it carries L4T, or says so itself."""
        return self.tree.exists("etc/nv_tegra_release") or "jetson" in self.board.lower()

    @property
    def raspberry(self) -> bool:
        """Whether this is a Raspberry Pi."""
        return self.board.startswith("Raspberry Pi")

    @property
    def cmdline(self) -> str:
        """Options the kernel was booted with."""
        return self.tree.text("proc/cmdline")

    def boot_todo(self, options: str) -> str:
        """Where this kind of machine takes kernel boot options."""
        if self.jetson:
            return f"add to the APPEND line of /boot/extlinux/extlinux.conf, then reboot: {options}"
        if self.raspberry:
            return f"add to the one line of /boot/firmware/cmdline.txt, then reboot: {options}"
        return f"add to GRUB_CMDLINE_LINUX in /etc/default/grub, then `sudo update-grub` and reboot: {options}"
