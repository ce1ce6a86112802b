"""A bundle on an emulated arm64: the robot's wheels resolve and load, and its golden vectors come out as on this CPU.

    python -m tests.stand_in.smoke [BUNDLE ...]        (make smoke-aarch64; .ci/run calls it)

Without arguments: a bundle of a few kilobytes, and the demo's where it was made. Exit code 0 too when this machine
cannot run it, with the reason printed; 1 when arm64 answers something else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.answers import answer_all, between, first_divergence, read_answers
from edgevla.bundle.arrays import Array
from tests.stand_in.steps import CACHE, REPO, Broken, NotHere, Steps
from tests.tiny_bundle import write_tiny_bundle

SCRIPT = REPO / "scripts" / "parity_arm64.sh"
DEMO = REPO / "out" / "demo" / "student.bundle"
_CANNOT, _LIMIT_S = 3, 300
# Every wheel of the robot's lock with machine code of its own, then the command line's own verification.
_ON_ARM64 = """
import platform, sys
import cryptography.hazmat.bindings._rust, lz4.block, mcap.writer, numpy, onnxruntime, pydantic_core, serial, zstandard
assert platform.machine() == "aarch64", platform.machine()
from edgevla.cli.bundle import app
app(["verify", "/bundle", "--json"])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", help="folders NAME.bundle")
    given = parser.parse_args()
    steps = Steps("smoke-aarch64")
    try:
        with steps.step("arm64 root, wheels of the robot's lock, edgevla bundle verify there"):
            tiny = _tiny()
            _verify(steps, tiny)
        for path in given.bundles or [tiny, *([DEMO] if DEMO.is_dir() else [])]:
            with steps.step(f"golden vectors of {Path(path).name}"):
                _same_answers(steps, open_bundle(path))
    except NotHere as reason:
        steps.say(f"SKIPPED: {reason}")
        return 0
    except Broken as found:
        steps.say(f"BROKEN: {found}")
        return 1
    return 0


def _tiny() -> Path:
    path = CACHE / "tiny.bundle"
    if not path.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        write_tiny_bundle(path)
    return path


def _verify(steps: Steps, bundle: Path) -> None:
    told = json.loads(_arm64(bundle, CACHE / "unused.npz", "-c", _ON_ARM64))
    count = len(told["verdicts"])
    kept = sum(verdict["kept"] for verdict in told["verdicts"])
    steps.check("edgevla bundle verify on arm64", f"{count} checks kept", f"{kept} of {count} kept", told["kept"])


def _same_answers(steps: Steps, bundle: Bundle) -> None:
    answers = CACHE / f"{bundle.path.name}.npz"
    _arm64(bundle.path, answers)
    got, environment = read_answers(answers)
    steps.say(f"  {environment['machine']}, Python {environment['python']}, ONNX Runtime {environment['onnxruntime']}")
    expected = answer_all(bundle)
    for vector, golden in bundle.golden.items():
        what = f"{bundle.path.name} vector {vector}"
        worst = float(abs(got[vector]["chunk"][0] - golden.chunk).max())
        first = _first_divergence(bundle, expected[vector], got[vector], golden.tolerance)
        told = f"chunk {worst:.2g} off the recorded one, first diverging stage: {first or 'none'}"
        kept = worst <= golden.tolerance
        steps.check(what, f"chunk within {golden.tolerance:g} of the recorded one", told, kept)


def _first_divergence(
    bundle: Bundle, expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: float
) -> str | None:
    found = first_divergence(between(expected, got, bundle.manifest), tolerance)
    return found.stage if found else None


def _arm64(bundle: Path, answers: Path, *arguments: str) -> str:
    """What Python printed there. Raises NotHere, Broken."""
    command = [str(SCRIPT), str(bundle), str(answers), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Broken(f"arm64 under qemu-user: no end within {_LIMIT_S} s") from None
    said = (done.stderr or done.stdout).strip()[-1500:]
    if done.returncode == _CANNOT:
        raise NotHere(said.splitlines()[-1] if said else "the script gave no reason")
    if done.returncode:
        raise Broken(f"arm64 under qemu-user ended with {done.returncode}: {said}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
