"""A robot as a virtual machine: arm64 with Debian's PREEMPT_RT kernel in QEMU, an sshd on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

from tests.stand_in.disk import Boot, boot_files
from tests.stand_in.qmp import Qmp
from tests.stand_in.remote import Remote, free_port
from tests.stand_in.robot_files import EMULATED_CPU
from tests.stand_in.steps import CACHE, Broken, Steps
from tests.stand_in.tools import AHEAD, ahead, run

_BOOT_LIMIT_S, _OFF_LIMIT_S = 420, 120
_MEMORY_MB = 1536


class Twin:
    """Started by `with`; its disk is a layer over the cached image and removed at the end."""

    def __init__(self, steps: Steps, serial: str = "") -> None:
        """`serial`: a terminal of this machine, at the other end of the twin's USB adapter (/dev/ttyUSB0, FTDI)."""
        self.steps, self._serial, self.boot = steps, serial, boot_files(steps)
        self.folder = CACHE / f"twin-run-{os.getpid()}"
        run("rm", "-rf", self.folder)
        self.folder.mkdir(parents=True)
        self.console, self._disk = self.folder / "console.log", self.folder / "disk.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.boot.image, self._disk)
        self.remote = Remote(self.boot.root, self.folder / "ssh", free_port())
        # Not in the folder: the path of a socket has at most 107 bytes.
        self._monitor = Path("/tmp") / f"edgevla-qmp-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Twin:
        with self.steps.step("boot until sshd answers"):
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is not None and self.console.exists():
            self.steps.note("console:\n" + self.console.read_text(errors="replace")[-3000:])
            self.steps.note("journal:\n" + self.remote.last_words())
        self.cut()
        run("rm", "-rf", self.folder)

    def start(self) -> None:
        """Boot, and wait for sshd. Raises Broken."""
        with self.console.open("ab") as console:
            command = qemu_command(self.boot, self._disk, self.remote.port, self._monitor, self._serial)
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        ahead(self._process.pid)
        self.wait()

    def wait(self) -> None:
        self.remote.wait(self.alive, _BOOT_LIMIT_S)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def reset(self) -> None:
        """The reset line: nothing in the machine is asked or told. It boots again; `wait` for it."""
        monitor = Qmp(self._monitor)
        monitor.do("system_reset")
        monitor.close()
        self.remote.close()

    def power_off(self) -> None:
        """In order, from inside. Raises Broken when it does not end."""
        self.remote.run("systemctl poweroff", check=False)
        self.remote.close()
        if self._process is not None:
            try:
                self._process.wait(_OFF_LIMIT_S)
            except subprocess.TimeoutExpired:
                raise Broken(f"the machine was not off within {_OFF_LIMIT_S} s") from None

    def cut(self) -> None:
        """The power is gone."""
        self.remote.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._monitor.unlink(missing_ok=True)


def qemu_command(boot: Boot, disk: Path, port: int, monitor: Path, serial: str = "") -> list[str]:
    """One network card that reaches nothing, and is reached at one port of 127.0.0.1."""
    command = [
        *AHEAD,
        "qemu-system-aarch64",
        "-machine",
        "virt,gic-version=3",
        "-accel",
        "tcg,thread=multi,tb-size=512",
    ]
    command += ["-cpu", EMULATED_CPU, "-smp", "2", "-m", str(_MEMORY_MB), "-nographic", "-no-user-config"]
    command += ["-kernel", str(boot.kernel), "-initrd", str(boot.first)]
    command += ["-append", "console=ttyAMA0 mitigations=off net.ifnames=0 quiet systemd.show_status=0"]
    command += ["-drive", f"file={disk},format=qcow2,if=virtio,cache=writeback"]
    command += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    command += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
    if serial:
        command += ["-chardev", f"serial,id=arm,path={serial}", "-device", "qemu-xhci"]
        command += ["-device", "usb-serial,chardev=arm"]
    return [*command, "-qmp", f"unix:{monitor},server=on,wait=off", "-monitor", "none", "-serial", "stdio"]
