"""Boot Debian's kernel in QEMU with this machine's own root, read-only, load vivid, and run `tests.vivid.guest` there.

    python -m tests.vivid [--kernel linux-image-*.deb] [--work out/vivid]

Needs qemu-system-x86, busybox-static, kmod and, unless --kernel is given, apt (70 MB). Half a
minute, though emulated. Exit code 0 when everything holds, 1 when something does not, 3 when the machine did not boot.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "vivid")
_LIMIT_S = 500
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod $module || echo "no $module"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose root /root || echo "no root"
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sys /root/sys
/bin/busybox mount --bind /dev /root/dev
/bin/busybox mount -t tmpfs run /root/run
cd /root
echo BOOTED
PYTHONPATH={repo} PYTHONDONTWRITEBYTECODE=1 HOME=/run TMPDIR=/run OMP_NUM_THREADS=1 \\
  /bin/busybox chroot /root {python} -m tests.vivid.guest
/bin/busybox poweroff -f
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, help="a linux-image package that is already there")
    parser.add_argument("--work", type=Path, default=Path("out/vivid"))
    options = parser.parse_args()
    for tool in ("qemu-system-x86_64", "busybox", "dpkg-deb", "depmod"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed: apt-get install qemu-system-x86 busybox-static kmod")
            return 3
    options.work.mkdir(parents=True, exist_ok=True)
    tree = _kernel(options.kernel, options.work)
    initramfs = _initramfs(tree, options.work)
    said = _boot(next(tree.glob("boot/vmlinuz-*")), initramfs)
    print(said)
    if "VIVID" not in said:
        return 3
    return 0 if "FAIL" not in said else 1


def _kernel(package: Path | None, work: Path) -> Path:
    """The unpacked kernel package."""
    tree = work / "kernel"
    if not tree.exists():
        if package is None:
            shown = subprocess.run(
                ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True
            )
            name = next(line.split()[1] for line in shown.stdout.splitlines() if "Depends:" in line)
            subprocess.run(["apt-get", "download", name], cwd=work, check=True)
            package = next(work.glob("linux-image-*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=True)
    return tree


def _initramfs(tree: Path, work: Path) -> Path:
    """busybox, the modules with all they need, and an /init that loads them in order."""
    root = work / "initramfs"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    modules = _in_order(tree)
    for module in modules:
        shutil.copy(module, root / module.name)
    names = " ".join(f"/{module.name}" for module in modules)
    # the environment's interpreter by its path in the environment: that is where its libraries are found
    python = Path(sys.prefix, "bin/python")
    (root / "init").write_text(_INIT.format(modules=names, repo=Path(__file__).resolve().parents[2], python=python))
    (root / "init").chmod(0o755)
    packed = work / "initramfs.cpio"
    with packed.open("wb") as file:
        listing = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=listing, stdout=file, check=True)
    return packed


def _in_order(tree: Path) -> list[Path]:
    """Files of MODULES and of everything they depend on, the needed before those that need them (modules.dep)."""
    folder = next(tree.glob("lib/modules/*"))
    subprocess.run(["depmod", "-b", str(tree.resolve()), folder.name], check=True)
    needs = dict(line.split(":", 1) for line in (folder / "modules.dep").read_text().splitlines())
    paths = {Path(path).stem.replace("-", "_"): path for path in needs}
    found: list[Path] = []
    for name in MODULES:
        if name in paths:  # else built in
            wanted = [*reversed(needs[paths[name]].split()), paths[name]]
            found += [folder / path for path in wanted if folder / path not in found]
    return found


def _boot(kernel: Path, initramfs: Path) -> str:
    # Emulated: nested KVM was offered on our machine and did not boot.
    emulated = ["-accel", "tcg,thread=multi", "-cpu", "max"]
    share = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
    command = ["qemu-system-x86_64", *emulated, "-m", "2048", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs), "-virtfs", share]
    command += ["-append", "console=ttyS0 panic=-1 mitigations=off"]
    log = initramfs.with_name("console.log")
    with log.open("wb") as file:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            file.write(f"no end within {_LIMIT_S} s\n".encode())
    return log.read_text(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
