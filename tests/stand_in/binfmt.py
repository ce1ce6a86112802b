"""aarch64 programs on this kernel by qemu-user, as the container needs them."""

from __future__ import annotations

from pathlib import Path

from tests.stand_in.steps import NotHere
from tests.stand_in.tools import run

_FOLDER = Path("/proc/sys/fs/binfmt_misc")
# ELF, 64 bit, little-endian, executable or shared object, machine 183 (AArch64); from elf(5).
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Opened now and for every root (F), with the credentials of the program, or setuid has no effect (C, which needs O).
_FLAGS = "OCF"
_INTERPRETER = "/usr/bin/qemu-aarch64-static"


def register() -> str:
    """What handles aarch64 now; it stays until this machine is restarted. Raises NotHere."""
    if not (_FOLDER / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", _FOLDER)
    entries = [path for path in _FOLDER.iterdir() if path.name not in ("register", "status")]
    for entry in entries:
        if handles(entry.read_text()):
            return f"{entry.name} with flags {_FLAGS}, there already"
    name = "qemu-aarch64" if not (_FOLDER / "qemu-aarch64").exists() else "edgevla-aarch64"  # the newest comes first
    try:
        (_FOLDER / "register").write_bytes(f":{name}:M::{_MAGIC}:{_MASK}:{_INTERPRETER}:{_FLAGS}".encode())
    except OSError as error:
        raise NotHere(f"binfmt_misc refuses {name}: {error.strerror}") from None
    return f"{name} with flags {_FLAGS}, registered"


def handles(entry: str) -> bool:
    """Whether a file of binfmt_misc stands for aarch64 with every flag that is needed."""
    lines = entry.splitlines()
    flags = next((line.partition(":")[2].strip() for line in lines if line.startswith("flags:")), "")
    machine = "0200b700"  # type and machine, as the kernel prints the magic
    magic = next((line.split()[1] for line in lines if line.startswith("magic ")), "")
    return "enabled" in lines and machine in magic and set(_FLAGS) <= set(flags)
