"""A robot as a container: the Debian root under systemd-nspawn with its own systemd and an sshd on 127.0.0.1."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from tests.stand_in import binfmt
from tests.stand_in.remote import Remote, free_port
from tests.stand_in.robot_files import EMULATED_CPU, HOST
from tests.stand_in.steps import CACHE, Steps
from tests.stand_in.tools import AHEAD, need_root, run

SERIAL = "/dev/ttyUSB0"
_BOOT_LIMIT_S = 240
_CAP_SYS_RESOURCE = 24  # capability.h
_CAPABILITIES = (
    "# This machine has no CAP_SYS_RESOURCE: LimitRTPRIO and LimitMEMLOCK cannot go above its own ceilings.",
    "CapabilityBoundingSet=CAP_SYS_NICE CAP_IPC_LOCK",
    "AmbientCapabilities=CAP_SYS_NICE CAP_IPC_LOCK",
)
_CREDENTIALS = ("systemd-sysusers", *(f"systemd-tmpfiles-{name}" for name in ("setup", "setup-dev", "clean")))
_SHARED = (
    "# qemu-user cannot hand over the descriptor of a new namespace as systemd wants it.",
    "PrivateNetwork=no",
    "PrivateIPC=no",
    "# systemd starts a unit that has a scheduling policy at nice 0; emulated, it then waits for this machine's work.",
    "Nice=-10",
)
# ONNX Runtime reads the number of cores there; with this machine's own folder under qemu-user it crashes.
_CPU = {"possible": "0-1", "present": "0-1", "online": "0-1"}


class Container:
    """Started by `with`; a copy of `root` that is removed at the end. `remote` runs commands in it."""

    def __init__(self, root: Path, steps: Steps, arch: str = "arm64", serial: str = "") -> None:
        """`serial`: a terminal of this machine that is /dev/ttyUSB0 there."""
        need_root()
        self.steps, self.arch, self._serial = steps, arch, serial
        self.folder = CACHE / f"container-{arch}-{os.getpid()}"
        self.root = self.folder / "root"
        self.console = self.folder / "console.log"
        run("rm", "-rf", "--one-file-system", self.folder)
        self.folder.mkdir(parents=True)
        run("cp", "-a", "--reflink=auto", root, self.root)
        self.remote = Remote(root, self.folder / "ssh", free_port())
        self._set_up()
        self._process: subprocess.Popen[bytes] | None = None

    def _set_up(self) -> None:
        settings = f"Port {self.remote.port}\nListenAddress 127.0.0.1\n"
        (self.root / "etc/ssh/sshd_config.d/port.conf").write_text(settings)
        (self.root / "etc/systemd/system/systemd-udevd.service").symlink_to("/dev/null")  # /sys is read-only here
        if self.arch == "arm64":
            self._without_credentials()
        cpu = self.folder / "cpu"
        cpu.mkdir()
        for name, cores in _CPU.items():
            (cpu / name).write_text(cores + "\n")

    def _without_credentials(self) -> None:
        """qemu-user cannot mount what systemd keeps credentials in, and none are needed."""
        for unit in _CREDENTIALS:
            drop_in = self.root / f"etc/systemd/system/{unit}.service.d/stand-in.conf"
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text("[Service]\nLoadCredential=\nSetCredential=\n")

    def __enter__(self) -> Container:
        with self.steps.step(f"{self.arch}: boot until sshd answers"):
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is not None and self.console.exists():
            self.steps.note("console:\n" + self.console.read_text(errors="replace")[-3000:])
            self.steps.note("journal:\n" + self.remote.last_words())
        self.cut()
        run("rm", "-rf", "--one-file-system", self.folder)

    def start(self) -> None:
        """Boot, and wait for sshd. Raises NotHere, Broken."""
        if self.arch == "arm64":
            binfmt.register()
        command = [
            *AHEAD,
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            "--boot",
            "--register=no",
            "--keep-unit",
        ]
        command += [f"--machine={HOST}", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
        command += [f"--setenv=QEMU_CPU={EMULATED_CPU}", "--capability=CAP_IPC_LOCK"]
        if self.arch == "arm64":
            command += [f"--bind-ro={self.folder / 'cpu'}:/sys/devices/system/cpu"]
        if self._serial:
            command += [f"--bind={self._serial}:{SERIAL}"]
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.remote.wait(self.alive, _BOOT_LIMIT_S)

    def drop_in(self) -> str:
        """What a hardened real-time unit needs here and not on a machine of its own, each with its reason."""
        parts: list[str] = []
        if not raises_limits(Path("/proc/self/status").read_text()):
            parts += _CAPABILITIES
        if self.arch == "arm64":
            parts += _SHARED
        return "\n".join(["[Service]", *parts, ""]) if parts else ""

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cut(self) -> None:
        """As when the power is cut: the first process of the container dies, and every other with it."""
        self.remote.close()
        if self._process is None:
            return
        init = init_of(self._process.pid)
        if init is not None:
            os.kill(init, signal.SIGKILL)
        try:
            self._process.wait(10)  # it notices by itself, and takes its mounts away
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def raises_limits(status: str) -> bool:
    """Whether a process with that /proc/PID/status may have CAP_SYS_RESOURCE: without, LimitRTPRIO stays at our own."""
    bounding = re.search(r"^CapBnd:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return bounding is not None and bool(int(bounding[1], 16) >> _CAP_SYS_RESOURCE & 1)


def init_of(nspawn: int) -> int | None:
    """The child of `nspawn` that is number 1 of a namespace of its own: nspawn's end would not end it."""
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "status").read_text() if folder.name.isdigit() else ""
        except OSError:  # it ended meanwhile
            continue
        parent = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
        numbers = re.search(r"^NSpid:\s+\d+.*\s1$", status, re.MULTILINE)
        if numbers and parent and int(parent[1]) == nspawn:
            return int(folder.name)
    return None
