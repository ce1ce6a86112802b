"""Debian for the stand-ins: a root with systemd, sshd and Python, and single packages of another architecture.

Nothing of this machine's own package system is touched: apt runs on folders of the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tests.stand_in import binfmt
from tests.stand_in.robot_files import write_robot_files
from tests.stand_in.steps import CACHE, Steps
from tests.stand_in.tools import need_root, run

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What a robot has before anything of ours comes: what JetPack's Ubuntu has too, and can-utils.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "openssh-server", "sudo"),
    *("python3", "libstdc++6", "libgomp1", "openssl", "ca-certificates", "can-utils"),
)


def root(steps: Steps, arch: str) -> Path:
    """The cached root of `arch` (arm64 or amd64), made where it is missing. Raises NotHere."""
    need_root()
    recipe = f"{SUITE} {arch} {PACKAGES} {Path(write_robot_files.__code__.co_filename).read_text()}"
    made = CACHE / f"root-{arch}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if made.is_dir():
        steps.say(f"root {made.name} from the cache")
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    part = made.with_name(made.name + ".part")
    with steps.step(f"Debian {SUITE} {arch}, {len(PACKAGES)} packages named"):
        run("rm", "-rf", "--one-file-system", part)
        if arch == "arm64":
            steps.say(f"  binfmt: {binfmt.register()}")
        # Registered by us, so nothing has to be looked for; nothing has to survive a power cut while it is made.
        command = ["mmdebstrap", "--quiet", f"--arch={arch}", "--variant=minbase", "--mode=root", "--skip=check/qemu"]
        command += ["--dpkgopt=force-unsafe-io", "--aptopt=APT::Install-Recommends false"]
        command += [
            "--include=" + ",".join(PACKAGES),
            SUITE,
            str(part),
            f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main",
        ]
        run(*command, environment={"QEMU_CPU": "cortex-a76", "DEBIAN_FRONTEND": "noninteractive"})
        write_robot_files(part)
        os.rename(part, made)
    return made


def package(name: str, arch: str) -> Path:
    """The unpacked newest version of one package; a package that only depends on another stands for that one."""
    wanted = CACHE / f"package-{arch}-{name}"
    if wanted.is_dir():
        return wanted
    folder = CACHE / f"apt-{arch}"
    options = _apt(folder, arch)
    run("apt-get", *options, "update")
    shown = run("apt-cache", *options, "depends", name)
    if name.startswith("linux-image-") and not name.split("-")[2][:1].isdigit():
        name = next(line.split()[1] for line in shown.splitlines() if "Depends:" in line)
    shutil.rmtree(folder / "debs", ignore_errors=True)
    (folder / "debs").mkdir()
    run("env", "-C", folder / "debs", "apt-get", *options, "-o", "APT::Sandbox::User=root", "download", name)
    part = wanted.with_name(wanted.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    run("dpkg-deb", "-x", next((folder / "debs").glob("*.deb")), part)
    part.rename(wanted)
    return wanted


def _apt(folder: Path, arch: str) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    settings = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Dir::State": folder / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
