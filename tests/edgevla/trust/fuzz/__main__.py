"""Every reader of `edgevla.trust` against bytes that nobody meant: atheris, one reader after the other.

    python -m tests.edgevla.trust.fuzz [--seconds 60] [--only archive] [--out FILE.json]

Exit code 1 when one crashed, hung (10 s for one input) or took over 1 GB. Needs atheris (`pip install atheris`). What
it finds is kept in out/fuzz-trust; the seeds are made anew each time.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.telemetry.host import describe_host, host_line

TARGETS = ("archive", "envelope", "store")
OUT = Path("out/fuzz-trust")
_DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edgevla.trust.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="of each reader")
    parser.add_argument("--only", action="append", choices=TARGETS)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    host = describe_host()
    rows = [fuzz(name, asked.seconds) for name in asked.only or TARGETS]
    for row in rows:
        print(f"{row['reader']:10} {row['inputs']:>12,} inputs  cov {row['coverage']:>5}  {row['verdict']}")
    if asked.out is not None:
        write_json(asked.out, {"host": host, "seconds_each": asked.seconds, "rows": rows})
    print(host_line(host))
    return 0 if all(row["verdict"] == "no crash, no hang" for row in rows) else 1


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    """One reader for `seconds`."""
    module = f"tests.edgevla.trust.fuzz.{name}"
    found = OUT / name
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(importlib.import_module(module).seeds()):
        (found / f"seed-{number}").write_bytes(seed)
    limits = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384", f"-max_total_time={seconds}"]
    command = [sys.executable, "-m", module, *limits, f"-artifact_prefix={found}/", str(found)]
    begun_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    told = _DONE.search(done.stderr)
    inputs, coverage, features, kept = (int(part) for part in told.groups()) if told else (0, 0, 0, 0)
    (OUT / f"{name}.log").write_text(done.stderr)
    sound = done.returncode == 0 and told is not None
    return {
        "reader": name,
        "inputs": inputs,
        "coverage": coverage,
        "features": features,
        "corpus": kept,
        "seconds": round(time.monotonic() - begun_s),
        "verdict": "no crash, no hang" if sound else f"exit code {done.returncode}, see {OUT / name}.log",
    }


if __name__ == "__main__":
    sys.exit(main())
