"""What a deploy moves and how long one takes that has nothing to do, over a real sshd on loopback.

    python -m tests.deploy_figures --out bench/results/deploy-loopback.json

A bundle of 100 MB; then 1 % of its largest file is rewritten at 20 places. Bytes are counted on the wire, both ways.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.install.layout import Layout
from edgevla.install.tools import tools_of
from edgevla.telemetry.host import describe_host
from edgevla.trust.keys import generate, load_private
from tests.acting_release import robot_toml, write_release
from tests.loopback_sshd import loopback_sshd
from tests.relay import relay_to

LARGEST_BYTES, OTHERS_BYTES = 70_000_000, 29_500_000
PLACES, SHARE = 20, 0.01
NO_CHANGE_RUNS = 5


def rewritten(content: bytes, rng: np.random.Generator) -> bytes:
    """`SHARE` of the content replaced by other bytes, in `PLACES` pieces of one length, spread at random."""
    length = round(len(content) * SHARE / PLACES)
    stride = len(content) // PLACES
    changed = bytearray(content)
    for place in range(PLACES):
        at = place * stride + int(rng.integers(0, stride - length))
        changed[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    return bytes(changed)


def measure(folder: Path) -> dict[str, Any]:
    """First install, several without a change, one with 1 % rewritten."""
    generate(folder / "release.key", folder / "release.pub")
    key, rng = load_private(folder / "release.key"), np.random.default_rng(1)
    files = {"model/vision.onnx": rng.integers(0, 256, LARGEST_BYTES, dtype=np.uint8).tobytes()}
    files |= {"model/head.onnx": rng.integers(0, 256, OTHERS_BYTES, dtype=np.uint8).tobytes()}
    write_release(folder / "one.bundle", key, 1, extra=files)
    files["model/vision.onnx"] = rewritten(files["model/vision.onnx"], rng)
    write_release(folder / "two.bundle", key, 2, extra=files)
    ours, theirs = pty.openpty()
    (folder / "robot.toml").write_text(robot_toml(os.ttyname(theirs)))
    prefix = folder / "opt"
    pin = ["--key", folder / "release.pub", "--pin", key.public.fingerprint, "--robot", folder / "robot.toml"]
    with loopback_sshd(folder / "sshd") as sshd, relay_to(sshd.port) as relay:
        sshd.write_client_config(port=relay.port)
        reach = ["--host", "robot", "--ssh-config", sshd.ssh_config, "--prefix", prefix]
        try:
            first, first_s = _deploy(folder / "one.bundle", *reach, *pin)
            whole = relay.passed_bytes
            same = [_deploy(folder / "one.bundle", *reach)[1] for _ in range(NO_CHANGE_RUNS)]
            before = relay.passed_bytes
            second, second_s = _deploy(folder / "two.bundle", *reach)
            moved = relay.passed_bytes - before
        finally:
            tools_of(Layout(prefix)).manager.stop()
            os.close(ours)
            os.close(theirs)
    return {
        "bundle_bytes": first["bundle_bytes"],
        "first_bytes_on_the_wire": whole,
        "first_s": round(first_s, 2),
        "no_change_s": round(float(np.median(same)), 2),
        "no_change_worst_s": round(max(same), 2),
        "no_change_runs": NO_CHANGE_RUNS,
        "rewritten_bytes": round(LARGEST_BYTES * SHARE / PLACES) * PLACES,
        "delta_bytes": moved,
        "delta_chunk_bytes": second["missing_bytes"],
        "delta_s": round(second_s, 2),
        "delta_seconds": second["seconds"],
        "host": describe_host(),
    }


def _deploy(bundle: Path, *words: object) -> tuple[dict[str, Any], float]:
    """Its report and the wall time of the whole command."""
    command = [sys.executable, "-m", "edgevla.cli.main", "deploy", str(bundle), *map(str, words)]
    start = time.monotonic()
    done = subprocess.run([*command, "--yes", "--health-ticks", "20", "--json"], capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode())
    return json.loads(done.stdout), time.monotonic() - start


def main() -> None:
    """Measure in memory where there is a file system in memory, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="file to write; without it the figures are printed only")
    options = parser.parse_args()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgevla-deploy-", dir=place) as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        figures = measure(Path(folder))
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
