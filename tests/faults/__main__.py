"""The whole fault suite, one row after the other.

    python -m tests.faults                                   # print only
    python -m tests.faults --out bench/results/faults-run.json   # and write the evidence (make test-faults)
    python -m tests.faults --only serial                     # the faults whose name holds a word

Exit code 1 when a promise is broken; nothing is written then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from edgevla.telemetry.host import describe_host
from tests.faults.faults import FAULTS, Fault
from tests.faults.judge import play, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--out", type=Path, help="write the rows to this JSON file")
    parser.add_argument("--only", default="", help="faults whose name holds this")
    asked = parser.parse_args()
    begun_s, rows, skipped, broken = time.monotonic(), [], [], []
    for fault in [fault for fault in FAULTS if asked.only in fault.name]:
        if reason := fault.skip():
            skipped.append({"fault": fault.name, "reason": reason})
            print(f"SKIPPED  {fault.name}: {reason}", flush=True)
            continue
        row, found = _one(fault)
        broken += found
        rows += [row] if row else []
    seconds = round(time.monotonic() - begun_s, 1)
    print(f"{len(rows)} faults in {seconds:g} s, {len(skipped)} skipped, {len(broken)} promises broken")
    for text in broken:
        print(f"BROKEN   {text}")
    if broken or asked.out is None:
        return 1 if broken else 0
    result = {
        "host": describe_host(),
        "command": "make test-faults",
        "seconds": seconds,
        "skipped": skipped,
        "rows": rows,
    }
    staging = asked.out.with_name(f".{asked.out.name}")
    staging.write_text(json.dumps(result, indent=1) + "\n")
    staging.replace(asked.out)
    return 0


def _one(fault: Fault) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        row = play(fault)
    except (RuntimeError, OSError) as error:  # TimeoutError is an OSError
        print(f"{fault.name}: {error}", flush=True)
        return None, [f"{fault.name}: {error}"]
    found = wrong(fault, row)
    stop = (
        ""
        if row.stop_ms is None
        else f" rest {row.stop_ms:g}/{row.bound_ms} latched {row.latched_ms}/{row.latched_bound_ms} ms"
    )
    print(
        f"{'BROKEN' if found else 'kept':8} {fault.name}: {row.outcome}{stop}; late {row.late_commands}, beyond "
        f"{row.out_of_limit_commands} of {row.samples}; {row.seconds:g} s\n"
        f"         {row.explained_by} | {row.stop_reason}",
        flush=True,
    )
    return row.as_dict(), [f"{fault.name}: {text}" for text in found]


if __name__ == "__main__":
    sys.exit(main())
