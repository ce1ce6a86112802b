"""Write the robot's locks anew: edgevla/bundle/locks/cpXY/GROUP.txt, exact versions with the hash of each wheel.

    .venv/bin/python scripts/lock_robot.py 3.10=PATH/TO/python3.10 3.11=.venv/bin/python

Each Python resolves for itself (markers like `python_version < "3.11"` are judged by the interpreter that resolves),
once per architecture. Versions are those of requirements/robot.txt (3.10) and requirements/workstation.txt (later
ones), so that the workstation and the robot run the same ONNX Runtime where both can.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from packaging.requirements import Requirement  # noqa: E402

from edgevla.bundle.locks import ARCHES, FOLDER, GROUPS, NOT_NEEDED, Pin, normalised  # noqa: E402
from edgevla.bundle.platforms import Platform, pip_flags  # noqa: E402
from edgevla.bundle.wheels import closure  # noqa: E402

OLDEST_GLIBC = "2.28"  # of the targets: what runs there runs on the newer ones too
HEAD = "# `{group}` on a robot, Python {python}, with the sha256 of each wheel. Written by scripts/lock_robot.py.\n"


def main(arguments: list[str]) -> None:
    for argument in arguments:
        python, _, interpreter = argument.partition("=")
        if not interpreter:
            sys.exit(f"expected 3.10=PATH/TO/python3.10, got {argument!r}")
        _lock(python, interpreter)


def _lock(python: str, interpreter: str) -> None:
    """Each group holds what its roots need and base does not bring."""
    folder = FOLDER / f"cp{python.replace('.', '')}"
    folder.mkdir(parents=True, exist_ok=True)
    roots = [root for group in GROUPS.values() for root in group]
    reports = {arch: _report(Platform(python, arch, OLDEST_GLIBC), interpreter, roots) for arch in ARCHES}
    base: set[str] = set()
    for group, wanted in GROUPS.items():
        names = {arch: _group(Platform(python, arch, OLDEST_GLIBC), reports[arch], wanted) for arch in ARCHES}
        pins = [
            _pin(name, [reports[arch][name] for arch in ARCHES if name in names[arch]])
            for name in sorted(set().union(*names.values()) - base)
        ]
        base = base or set().union(*names.values())
        text = HEAD.format(group=group, python=python) + "".join(map(_lines, pins))
        (folder / f"{group}.txt").write_text(text, encoding="utf-8")
        print(f"{folder.name}/{group}.txt: {len(pins)} packages")


def _group(platform: Platform, report: dict[str, Any], roots: tuple[str, ...]) -> set[str]:
    requires = {name: install["metadata"].get("requires_dist", []) for name, install in report.items()}
    wanted = [Requirement(root) for root in roots]
    names = [one.name for one in wanted if one.marker is None or one.marker.evaluate(platform.markers)]
    found, missing = closure(names, requires, platform, NOT_NEEDED)
    if missing:
        sys.exit(f"not resolved: {missing}")
    return found


def _pin(name: str, installs: list[dict[str, Any]]) -> Pin:
    versions = {install["metadata"]["version"] for install in installs}
    if len(versions) != 1:
        sys.exit(f"the architectures resolve {name} differently: {versions}")
    return Pin(
        name, versions.pop(), frozenset(i["download_info"]["archive_info"]["hashes"]["sha256"] for i in installs)
    )


def _lines(pin: Pin) -> str:
    return " \\\n    ".join(pin.line().split(" ")) + "\n"


def _report(platform: Platform, interpreter: str, roots: list[str]) -> dict[str, Any]:
    constraint = ROOT / "requirements" / ("robot.txt" if platform.python == "3.10" else "workstation.txt")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--target", folder, "--report", str(report), *pip_flags(platform)]
        subprocess.run([*command, "--constraint", str(constraint), *roots], check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
        return {normalised(install["metadata"]["name"]): install for install in installs}


if __name__ == "__main__":
    main(sys.argv[1:])
