"""What the twin boots from: kernel, a small first file system, and the Debian root as an ext4 image."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.qemu.machine import in_order
from tests.stand_in import debian
from tests.stand_in.robot_files import HOST
from tests.stand_in.steps import CACHE, Steps
from tests.stand_in.tools import run

KERNEL = "linux-image-rt-arm64"
IMAGE_SIZE = "3G"
_FIRST = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")  # before there is a root
_LATER = ("virtio_net", "virtio_rng", "vcan", "can_raw", "can_isotp", "slcan", "xhci_pci", "usbserial", "ftdi_sio")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod $module || echo "no $module"; done
while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root || /bin/busybox poweroff -f
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
# QEMU's user network always gives these addresses.
_NETWORK = """[Unit]
Description=Address of the emulated network card
Wants=modprobe@virtio_net.service
After=modprobe@virtio_net.service systemd-udev-trigger.service
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until ip link show eth0 >/dev/null 2>&1; do sleep 0.2; done'
ExecStart=/usr/sbin/ip addr add 10.0.2.15/24 dev eth0
ExecStart=/usr/sbin/ip link set eth0 up
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Boot:
    """Files of the cache."""

    kernel: Path
    first: Path
    image: Path
    root: Path


def boot_files(steps: Steps) -> Boot:
    """Made where they are missing. Raises NotHere."""
    root = debian.root(steps, "arm64")
    with steps.step("kernel and busybox of arm64"):
        kernel, busybox = debian.package(KERNEL, "arm64"), debian.package("busybox-static", "arm64")
    image = next(kernel.glob("boot/vmlinuz-*"))
    recipe = f"{root.name} {image.name} {_INIT} {_NETWORK} {_FIRST} {_LATER} {IMAGE_SIZE}"
    folder = CACHE / f"twin-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    found = Boot(image, folder / "first.cpio", folder / "root.ext4", root)
    if not folder.is_dir():
        with steps.step("ext4 image of the root"):
            part = folder.with_name(folder.name + ".part")
            run("rm", "-rf", "--one-file-system", part)
            part.mkdir()
            _first(kernel, busybox / "bin/busybox", part)
            _image(root, kernel, part)
            part.rename(folder)
    return found


def _first(kernel: Path, busybox: Path, folder: Path) -> None:
    tree = folder / "first"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    files = in_order(kernel, _FIRST)
    for file in files:
        shutil.copy(file, tree / file.name)
    (tree / "init").write_text(_INIT.format(modules=" ".join(f"/{file.name}" for file in files)))
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    run("cpio", "-o", "-H", "newc", "--quiet", "-D", tree, "-F", folder / "first.cpio", stdin=names.encode() + b"\n")


def _image(root: Path, kernel: Path, folder: Path) -> None:
    """The root with the modules it needs, and nothing of the container."""
    tree = folder / "root"
    run("cp", "-a", "--reflink=auto", root, tree)
    modules = next(kernel.glob("lib/modules/*"))
    dest = tree / "lib/modules" / modules.name
    for file in in_order(kernel, [*_FIRST, *_LATER]):
        target = dest / file.relative_to(modules)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(modules / name, dest / name)
    run("depmod", "-b", tree, modules.name)
    unit = tree / "etc/systemd/system/stand-in-network.service"
    unit.write_text(_NETWORK)
    wanted = tree / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / unit.name).symlink_to(f"/etc/systemd/system/{unit.name}")
    run("mke2fs", "-q", "-t", "ext4", "-L", HOST[:16], "-d", tree, folder / "root.ext4", IMAGE_SIZE)
    run("rm", "-rf", "--one-file-system", tree)
