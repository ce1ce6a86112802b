"""The supervisor of one run of the suite, a process that can be killed: `edgevla.control.run` and nothing else.

    python -m tests.faults.host '{"port": ..., "camera": "file:PATH", "out": ..., "arm": {...}, "record": ...}'

"gc 3" on stdin: three seconds of garbage collection in this process. "servo" names another servo module: negative
tests put a broken one in. The result is written to "out".
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from edgevla.control.crew import Crew
from edgevla.control.options import RunOptions
from edgevla.control.run import run
from tests.faults.arms import plan, tight_arm
from tests.faults.engine import storm

LONGEST_S = 60.0


def listen() -> None:
    for line in sys.stdin:
        word, _, seconds = line.partition(" ")
        if word == "gc":
            threading.Thread(target=storm, args=(float(seconds),), daemon=True).start()


def put_in(servo: str) -> None:
    """Start the module `servo` wherever a run starts its servo process."""
    start = Crew.start

    def other(self: Crew, name: str, module: str, *rest: Any, **named: Any) -> Any:
        return start(self, name, servo if name == "servo" else module, *rest, **named)

    Crew.start = other  # type: ignore[method-assign]


def main() -> int:
    told: dict[str, Any] = json.loads(sys.argv[1])
    if told.get("servo"):
        put_in(told["servo"])
    threading.Thread(target=listen, daemon=True).start()
    options = RunOptions(
        instruction="sway",
        port=told["port"],
        cameras={"corner": told["camera"]},
        duration_s=LONGEST_S,
        best_effort=True,
        record=Path(told["record"]) if told.get("record") else None,
    )
    arm, target = tight_arm(**told.get("arm", {})), told.get("target", {})
    result = run(plan(arm, **target), options, say=lambda text: print(text, flush=True))
    staging = Path(told["out"] + ".new")
    staging.write_text(json.dumps(result.as_dict()))
    staging.replace(told["out"])
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
