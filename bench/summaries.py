"""Short lists of long results, for programs that want the figures and nothing else.

Of loop, faults, structures, deploy and policy.

python -m bench.summaries          (part of `make figures`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.files import write_json
from bench.policy.block import MT50_REASON
from bench.report.data import get, number
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


def policy_summary(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of many tasks, int8 in the loop, and its pairs with the teacher; None: not measured."""
    return {
        "mt10": _mt10(evaluation),
        "mt50": None,
        "mt50_reason": MT50_REASON,
        "paired": _pairs(evaluation),
        "host": host_line(evaluation["host"]),
    }


def _mt10(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    if number(evaluation, "success.int8.mean") is None:
        return None
    return {
        **{key: get(evaluation, f"success.int8.{key}") for key in ("mean", "per_task")},
        **{key: get(evaluation, f"bundle.{key}") for key in ("parameters", "bytes")},
        "hz_one_core": get(evaluation, "latency.hz_one_core"),
    }


def _pairs(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """`difference_lower95`: int8 minus teacher is more than this, one-sided, although one looked several times."""
    pair, looks = get(evaluation, "sequential.paired"), get(evaluation, "sequential.looks")
    if not pair or not looks:
        return None
    return {
        "pairs": pair["pairs"],
        "teacher": pair["reference"],
        "int8_in_loop": pair["candidate"],
        "difference_lower95": -looks[-1]["upper_bound"],
    }


def write_summaries(results: Path) -> list[Path]:
    """Those whose long result is there."""
    written = []
    for name, source, summary in (
        ("loop.json", "loop-windows.json", loop_summary),
        ("faults.json", "faults-run.json", fault_summary),
        ("policy.json", "mt10/evaluation.json", policy_summary),
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
