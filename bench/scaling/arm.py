"""One arm: the real loop at a servo rate with a virtual arm, in processes of its own, and what its servo cost.

python -m bench.scaling.arm --servo-hz 320 --seconds 6 [--best-effort]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from typing import Any

from bench.plans import patrol_plan
from bench.processes import CpuWatch
from edgevla.control.options import RunOptions
from edgevla.control.run import run
from edgevla.errors import EdgevlaError, Unsound, explain

_START_S = 60.0


def together(arms: int, servo_hz: float, seconds: float, best_effort: bool = False) -> list[dict[str, Any]]:
    """That many arms at once on this host. Raises Unsound: one of them ended before its time, with why."""
    command = [sys.executable, "-m", "bench.scaling.arm", "--servo-hz", str(servo_hz), "--seconds", str(seconds)]
    command += ["--best-effort"] if best_effort else []
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(arms)
    ]
    said = []
    try:
        for child in children:
            said.append(child.communicate(timeout=seconds + _START_S)[0].strip().splitlines())
    except subprocess.TimeoutExpired:
        raise Unsound(explain(f"{arms} arms at {servo_hz:g} Hz", f"{seconds:g} s", "a hang", "run again")) from None
    finally:
        for child in children:
            child.kill()
            child.wait()
    told = [json.loads(lines[-1]) if lines else {} for lines in said]
    for one in told:
        if one.get("event") != "measured":
            got = one.get("message", "silence")
            raise Unsound(explain(f"an arm of {arms} at {servo_hz:g} Hz", "a whole run", got, "run on an idle host"))
    return told


def main() -> int:
    """The last line says what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling.arm")
    parser.add_argument("--servo-hz", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--best-effort", action="store_true")
    asked = parser.parse_args()
    options = RunOptions(
        instruction="patrol", sim="drawer-open-v3", plant="integrator", duration_s=asked.seconds,
        best_effort=asked.best_effort,
    )  # fmt: skip
    watch = CpuWatch("edgevla.control.servo")
    threading.Thread(target=watch.run, daemon=True).start()
    try:
        found = run(patrol_plan(asked.servo_hz), options)
    except EdgevlaError as error:
        print(json.dumps({"event": "error", "message": str(error)}))
        return error.exit_code
    if found.exit_code or watch.share is None:
        print(json.dumps({"event": "error", "message": found.error or found.stop_reason}))
        return found.exit_code or 3
    loop = found.figures["loop"]
    names = ("servo_steps", "late_commands", "misses", "wake_p50_us", "wake_p99_us", "write_p50_us", "write_p99_us")
    told = {name: loop[name] for name in names}
    shares = [round(share, 5) for share in watch.shares]
    stolen = found.figures["stolen_s"]
    print(
        json.dumps(
            {"event": "measured", "cpu_share": round(watch.share, 5), "shares": shares, "stolen_s": stolen, **told}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
