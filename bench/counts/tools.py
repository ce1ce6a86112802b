"""What counting needs of the machine: valgrind with its header, a C compiler, and the library made with both."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgevla.errors import Unsound, explain

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware_bridge" / "firmware" / "src"
SOURCES = (HERE / "marks.c", HERE / "firmware.c", FIRMWARE / "limiter.c", FIRMWARE / "edgelink.c")
FLAGS = ("-std=gnu11", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{FIRMWARE}")
_HEADER = "#include <valgrind/callgrind.h>\n"
_BUILD_S, _ASK_S = 120, 20


def why_not() -> str:
    """Why nothing can be counted on this machine; empty where it can."""
    if shutil.which("valgrind") is None:
        return "no valgrind here: apt install valgrind"
    if shutil.which("gcc") is None:
        return "no gcc here: apt install gcc libc6-dev"
    asked = subprocess.run(["gcc", "-E", "-"], input=_HEADER, capture_output=True, text=True, timeout=_ASK_S)
    return "" if asked.returncode == 0 else "no valgrind/callgrind.h here: apt install valgrind"


def require() -> None:
    """Raises Unsound where nothing can be counted."""
    reason = why_not()
    if reason:
        raise Unsound(explain("instructions cannot be counted", "valgrind and gcc", reason, "install them"))


def build(folder: Path) -> Path:
    """The library that marks what is counted, with the firmware's paths in it. Raises Unsound."""
    library = folder / "counts.so"
    command = ["gcc", *FLAGS, *map(str, SOURCES), "-lm", "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S)
    if done.returncode != 0:
        got = done.stderr.strip()[-500:]
        raise Unsound(explain("the marks of callgrind do not compile", "gcc to take them", got, "repair gcc"))
    return library


def versions() -> str:
    """valgrind and gcc, in words."""
    told = [["valgrind", "--version"], ["gcc", "-dumpfullversion"]]
    said = [subprocess.run(one, capture_output=True, text=True, timeout=_ASK_S).stdout.strip() for one in told]
    return f"{said[0]}, gcc {said[1]}"
