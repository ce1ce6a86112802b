"""Boot Debian's kernel in QEMU with this machine's root, read-only, load kernel modules, run one Python module there.

Needs qemu-system-x86, busybox-static, kmod and, unless a package is given, apt (70 MB). Emulated: some ten times
slower than this machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
_NEEDED = ("virtio_pci", "9pnet_virtio", "9p")  # for the root
_TOOLS = ("qemu-system-x86_64", "busybox", "dpkg-deb", "depmod")
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
/bin/busybox mkdir -p /dev/pts /dev/shm
/bin/busybox mount -t devpts devpts /root/dev/pts
/bin/busybox mount -t tmpfs run /root/run
/bin/busybox ip link set lo up
cd /root
echo BOOTED
{environment} PYTHONPATH={repo} PYTHONDONTWRITEBYTECODE=1 HOME=/run TMPDIR=/run OMP_NUM_THREADS=1 \\
  /bin/busybox chroot /root {python} -m {module}
/bin/busybox poweroff -f
"""


def parser(doc: str | None, work: str) -> argparse.ArgumentParser:
    """The options that every such command has: --kernel and --work."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kernel", type=Path, help="a linux-image package that is already there")
    made.add_argument("--work", type=Path, default=Path(work))
    return made


def missing() -> str:
    """What to install, "" when everything is there."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    install = "apt-get install qemu-system-x86 busybox-static kmod"
    return f"{', '.join(lacking)} not installed: {install}" if lacking else ""


def unpacked(name: str, work: Path, package: Path | None = None) -> Path:
    """The files of Debian's package `name` (fetched unless `package` is given) in a folder under `work`."""
    tree = work / name
    if not tree.exists():
        work.mkdir(parents=True, exist_ok=True)
        if package is None:
            subprocess.run(["apt-get", "download", name], cwd=work, check=True, capture_output=True)
            package = next(work.glob(f"{name}_*.deb"))
        fresh = work / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True)
        fresh.rename(tree)
    return tree


def kernel(package: Path | None, work: Path) -> Path:
    """The unpacked package of the kernel that `linux-image-amd64` stands for now."""
    if package is not None:
        return unpacked(package.name.split("_")[0], work, package.resolve())
    shown = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True)
    name = next(line.split()[1] for line in shown.stdout.splitlines() if "Depends:" in line)
    return unpacked(name, work)


def run(
    tree: Path,
    modules: Sequence[str],
    module: str,
    work: Path,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    counted: bool = False,
) -> str:
    """Everything the console said while `python -m module` ran in the machine, until it was off or `limit_s` over.

    `counted`: its clock counts instructions, one every ns, and follows ours only while it idles: however busy this
    machine is, no deadline passes inside because of it. (Idle time must not be skipped: a wait for the shared root
    would be hundreds of its seconds.)
    """
    files = in_order(tree, [*_NEEDED, *modules])
    initramfs = _initramfs(files, module, work, environment or {})
    return _boot(next(tree.glob("boot/vmlinuz-*")), initramfs, limit_s, counted)


def _initramfs(files: Sequence[Path], module: str, work: Path, environment: Mapping[str, str]) -> Path:
    """busybox, the kernel modules, and an /init that loads them in order."""
    root = work / "initramfs"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for file in files:
        shutil.copy(file, root / file.name)
    init = _INIT.format(
        modules=" ".join(f"/{file.name}" for file in files),
        environment=" ".join(f"{key}={value}" for key, value in environment.items()),
        repo=REPO,
        # the environment's interpreter by its path in the environment: that is where its libraries are found
        python=Path(sys.prefix, "bin/python"),
        module=module,
    )
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    packed = work / "initramfs.cpio"
    with packed.open("wb") as file:
        listing = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        pack = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=root, input=listing, stdout=file, stderr=subprocess.DEVNULL, check=True)
    return packed


def in_order(tree: Path, names: Sequence[str]) -> list[Path]:
    """Kernel modules in the package `tree` with everything they depend on, the needed before those that need them."""
    folder = next(tree.glob("lib/modules/*"))
    subprocess.run(["depmod", "-b", str(tree.resolve()), folder.name], check=True)
    needs = dict(line.split(":", 1) for line in (folder / "modules.dep").read_text().splitlines())
    paths = {Path(path).stem.replace("-", "_"): path for path in needs}
    found: list[Path] = []
    for name in names:
        if name in paths:  # else built in
            wanted = [*reversed(needs[paths[name]].split()), paths[name]]
            found += [folder / path for path in wanted if folder / path not in found]
    return found


def _boot(image: Path, initramfs: Path, limit_s: float, counted: bool) -> str:
    # Emulated: nested KVM was offered on our machine and did not boot. Two processors do not start when counted.
    free = ["-accel", "tcg,thread=multi", "-smp", "2"]
    emulated = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-smp", "1"] if counted else free
    share = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
    command = ["qemu-system-x86_64", *emulated, "-cpu", "max", "-m", "2048", "-nographic", "-no-reboot", "-nic", "none"]
    command += ["-kernel", str(image), "-initrd", str(initramfs), "-virtfs", share]
    command += ["-append", "console=ttyS0 panic=-1 mitigations=off quiet"]
    log = initramfs.with_name("console.log")
    with log.open("wb") as file:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            file.write(f"no end within {limit_s} s\n".encode())
    return log.read_text(errors="replace")
