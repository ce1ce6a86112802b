"""Every decoder of the bridge against bytes that nobody meant: atheris, one process a protocol.

    python -m tests.firmware_bridge.fuzz [--seconds 600] [--jobs 1] [--only feetech] [--out bench/results/fuzz.json]

Exit code 1 when one crashed, hung (10 s for one input) or took over 2 GB. Needs atheris (`pip install atheris`). What
it finds is kept in out/fuzz; the committed corpus is only read.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.telemetry.host import describe_host, host_line

HERE = Path(__file__).parent
OUT = Path("out/fuzz")
_DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.firmware_bridge.fuzz")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    host = describe_host()
    chosen = [name for name in names if not asked.only or name in asked.only]
    with ThreadPoolExecutor(asked.jobs) as pool:
        rows = list(pool.map(lambda name: fuzz(name, asked.seconds), chosen))
    for row in rows:
        print(f"{row['decoder']:12} {row['inputs']:>12,} inputs  cov {row['coverage']:>5}  {row['verdict']}")
    if asked.out is not None:
        write_json(asked.out, {"host": host, "seconds_each": asked.seconds, "jobs": asked.jobs, "rows": rows})
    print(host_line(host))
    return 0 if rows and all(row["verdict"] == "no crash, no hang" for row in rows) else 1


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    """One decoder for `seconds`."""
    found, corpus = OUT / name, HERE / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=10", "-rss_limit_mb=2048", f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
    command = [sys.executable, "-m", f"tests.firmware_bridge.fuzz.{name}", *limits, str(found), str(corpus)]
    begun_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    told = _DONE.search(done.stderr)
    inputs, coverage, features, kept = (int(part) for part in told.groups()) if told else (0, 0, 0, 0)
    sound = done.returncode == 0 and told is not None
    (OUT / f"{name}.log").write_text(done.stderr)
    return {
        "decoder": name,
        "inputs": inputs,
        "coverage": coverage,
        "features": features,
        "corpus": kept,
        "seconds": round(time.monotonic() - begun_s),
        "verdict": "no crash, no hang" if sound else f"exit code {done.returncode}, see {OUT / name}.log",
    }


if __name__ == "__main__":
    sys.exit(main())
