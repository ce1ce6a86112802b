"""Short lists of long results, for programs that want the figures and nothing else: loop, faults, structures, deploy.

python -m bench.summaries          (part of `make figures`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.files import write_json
from bench.structures import reference_row
from edgevla.telemetry.host import host_line

RESULTS = Path("bench/results")
LOOP_KEYS = ("ours_p99_us", "ours_p999_us", "cyclictest_p99_us", "cyclictest_p999_us", "windows")
DEPLOY_PARTS = ("deploy-loopback.json", "twin.json")
FAULT_KEYS = ("fault", "late_commands", "out_of_limit_commands", "stop_ms", "bound_ms")


def loop_summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a rate and load: percentiles of the median window in us, and how many windows there were."""
    keys = ("rate_hz", "load", *LOOP_KEYS)
    return [{key: row[key] for key in keys} | {"host": host_line(result["host"])} for row in result["rows"]]


def fault_summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a fault; `stop_ms` None: the arm went on."""
    return [{key: row[key] for key in FAULT_KEYS} | {"host": host_line(result["host"])} for row in result["rows"]]


def deploy_summary(loopback: Mapping[str, Any], twin: Mapping[str, Any]) -> dict[str, Any]:
    """Of a redeploy over loopback, and of the first install of the virtual machine: seconds of its steps."""
    first = twin["deploys"]["twin"][0]
    keys = ("no_change_s", "no_change_worst_s", "delta_bytes", "bundle_bytes")
    return {key: loopback[key] for key in keys} | {
        "host": host_line(loopback["host"]),
        "twin": {**first["seconds"], "host": f"arm64 emulated on {host_line(twin['host'])}"},
    }


def structures_summary(result: Mapping[str, Any], demo: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a structure and kind of tasks; the policy of the demo is one."""
    mine = [{**row, "host": host_line(result["host"])} for row in result["rows"]]
    return [*mine, *({**row, "host": host_line(demo["host"])} for row in reference_row(demo))]


def write_summaries(results: Path) -> list[Path]:
    """Those whose long result is there."""
    written = []
    for name, source, summary in (
        ("loop.json", "loop-windows.json", loop_summary),
        ("faults.json", "faults-run.json", fault_summary),
    ):
        if (results / source).exists():
            write_json(results / name, summary(json.loads((results / source).read_text(encoding="utf-8"))))
            written.append(results / name)
    parts = [results / name for name in DEPLOY_PARTS]
    if all(part.exists() for part in parts):
        write_json(results / "deploy.json", deploy_summary(*(json.loads(part.read_text("utf-8")) for part in parts)))
        written.append(results / "deploy.json")
    study = results / "structures-run.json"
    if study.exists():
        demo = results / "demo.json"
        told = json.loads(demo.read_text("utf-8")) if demo.exists() else {}
        write_json(results / "structures.json", structures_summary(json.loads(study.read_text("utf-8")), told))
        written.append(results / "structures.json")
    return written


def main() -> None:
    for path in write_summaries(RESULTS):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
