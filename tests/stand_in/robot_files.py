"""What makes a plain Debian root a robot to log in to: host name, keys, sshd, a user with sudo, nothing that waits."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.stand_in.tools import run

HOST = "edgevla-robot"
USER = "robot"  # an ordinary user with sudo, as on a Jetson
EMULATED_CPU = "cortex-a76"  # as Orin's A78AE: dot products, no SVE; "max" would offer more than ONNX Runtime survives
KEYS = Path("etc/edgevla-stand-in")  # in the root; copied out to log in
_IDLE = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer")
_SLOW = ("systemd-timesyncd.service", "systemd-networkd.service", "getty@tty1.service", "console-getty.service")
_FILES = {
    "etc/hostname": f"{HOST}\n",
    "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {HOST}\n",  # or every sudo waits for a name server
    "etc/ssh/sshd_config.d/stand-in.conf": "PasswordAuthentication no\nUsePAM no\nUseDNS no\n"
    f"PermitRootLogin prohibit-password\nSetEnv QEMU_CPU={EMULATED_CPU}\nHostKey /etc/ssh/ssh_host_ed25519_key\n",
    "etc/systemd/system.conf.d/stand-in.conf": f"[Manager]\nDefaultEnvironment=QEMU_CPU={EMULATED_CPU}\n"
    "DefaultTimeoutStartSec=300\nDefaultTimeoutStopSec=60\n",
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    "etc/fstab": "",
    "etc/machine-id": "",
}


def write_robot_files(root: Path) -> None:
    """Into a root that mmdebstrap made. Keys are made by this machine's own ssh-keygen: emulated it takes long."""
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / f"etc/sudoers.d/{USER}").chmod(0o440)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    _key(root / "etc/ssh/ssh_host_ed25519_key", f"root@{HOST}")
    (root / KEYS).mkdir(mode=0o700)
    _key(root / KEYS / "client", "stand-in")
    run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", USER)
    owner = run("chroot", root, "id", "-u", USER).strip()
    for home, uid in (("root", "0"), (f"home/{USER}", owner)):
        folder = root / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(root / KEYS / "client.pub", folder / "authorized_keys")
        run("chown", "-R", f"{uid}:{uid}", folder)
    for unit in (*_IDLE, *_SLOW):
        mask = root / "etc/systemd/system" / unit
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")


def _key(path: Path, comment: str) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)
