"""The figures of the exporter in one file: `bench/results/export.json`, from the raw results beside it.

    python -m bench.export            # after make compare, make smolvla, make teacher-memory, make demo

Each figure comes with its goal, its 95 % interval where it is a ratio of latencies, and the file it was read from. One
that was not measured is null, never a number of another day or host: all files must name the same processor.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report.data import as_number, get, rows
from edgevla.cli.output import print_table
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.telemetry.host import describe_host

RESULTS = Path("bench/results")
COMPARE, SMOLVLA, MEMORY, DEMO = "compare.json", "smolvla.json", "teacher-memory.json", "demo.json"
SCHEMA = "edgevla.export-figures/1"
AT_LEAST = {
    "int8_vs_ort_fp32": 2.0,
    "int8_vs_ort_fp32_4m": 2.2,
    "int8_vs_openvino": 1.0,
    "int8_vs_openvino_4m": 1.0,
    "policy_vs_teacher_eager": 20.0,
    "smolvla_vs_lerobot_fp32": 5.0,
    "smolvla_vs_lerobot_bf16": 3.5,
    "smolvla_fewer_vs_lerobot_fp32": 10.0,
}
AT_MOST = {
    "smolvla_rss_vs_fp32": 0.35,
    "smolvla_rss_vs_bf16": 0.40,
    "nf4_parameter_bytes_ratio": 0.25,
    "nf4_teacher_memory_ratio": 0.45,
    "compress_s": 600.0,
}
SMOLVLA_ROWS = {  # figure -> (slow, fast, key)
    "smolvla_vs_lerobot_fp32": ("lerobot fp32", "one-pass", "median"),
    "smolvla_vs_lerobot_bf16": ("lerobot bf16 vlm", "one-pass", "median"),
    "smolvla_fewer_vs_lerobot_fp32": ("lerobot fp32", "one-pass, 8 layers, 256 px", "median"),
    "smolvla_rss_vs_fp32": ("lerobot fp32", "one-pass", "rss_share"),
    "smolvla_rss_vs_bf16": ("lerobot bf16 vlm", "one-pass", "rss_share"),
}


def figures(compare: Mapping[str, Any], smolvla: Mapping[str, Any], memory: Mapping[str, Any], demo: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Name -> value, goal, whether it is kept, interval and source."""
    found: dict[str, tuple[Any, Any, str]] = {}
    for name in ("int8_vs_ort_fp32", "int8_vs_ort_fp32_4m", "int8_vs_openvino", "int8_vs_openvino_4m",
                 "policy_vs_teacher_eager"):  # fmt: skip
        row = get(compare, f"figures.{name}") or {}
        found[name] = (row.get("median"), [row.get("low"), row.get("high")], COMPARE)
    for name, (slow, fast, key) in SMOLVLA_ROWS.items():
        row = next((r for r in rows(smolvla, "ratios") if (r.get("slow"), r.get("fast")) == (slow, fast)), {})
        interval = [row.get("low"), row.get("high")] if key == "median" else None
        found[name] = (row.get(key), interval, SMOLVLA)
    for name in ("nf4_parameter_bytes_ratio", "nf4_teacher_memory_ratio"):
        found[name] = (memory.get(name), None, MEMORY)
    found["compress_s"] = (get(demo, "steps_s.compress"), None, DEMO)
    return {name: _figure(name, *row) for name, row in found.items()}


def _figure(name: str, value: Any, interval: Any, source: str) -> dict[str, Any]:
    """`kept` of a ratio of latencies: its whole interval reaches the goal."""
    number = as_number(value)
    least, most = AT_LEAST.get(name), AT_MOST.get(name)
    ends = [end for end in (as_number(v) for v in interval or []) if end is not None]
    kept = None
    if number is not None:
        kept = min([number, *ends]) >= least if least is not None else number <= (most or 0.0)
    sense, goal = ("at least", least) if least is not None else ("at most", most)
    return {"value": number, "interval": ends or None, "sense": sense, "goal": goal, "kept": kept, "source": source}


def require_one_host(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises BadInput: the files were measured on different processors."""
    hosts = {name: str(get(found, "host.cpu")) for name, found in results.items() if found}
    if len(set(hosts.values())) > 1:
        got = ", ".join(f"{name}: {cpu}" for name, cpu in hosts.items())
        raise BadInput(explain("results of several hosts", "all of one", got, "measure all of them on one host"))


def read(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """One result file; empty where there is none. Raises BadInput: no JSON object."""
    path = folder / name
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(explain(f"{path}", "JSON", error, "measure it again")) from error
    if not isinstance(found, dict):
        raise BadInput(explain(f"{path}", "a JSON object", type(found).__name__, "measure it again"))
    return found


def gather(folder: Path = RESULTS) -> dict[str, Any]:
    """Everything that export.json holds. Raises BadInput."""
    results = {name: read(name, folder) for name in (COMPARE, SMOLVLA, MEMORY, DEMO)}
    require_one_host(results)
    found = figures(results[COMPARE], results[SMOLVLA], results[MEMORY], results[DEMO])
    return {
        "schema": SCHEMA,
        **{name: figure["value"] for name, figure in found.items()},
        "figures": found,
        "host": describe_host(),
    }


def main() -> int:
    """Writes the file and prints the table; 1 where a figure is missed."""
    try:
        found = gather()
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    part = RESULTS / ".export.json.part"
    part.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(part, RESULTS / "export.json")
    said = {True: "kept", False: "MISSED", None: "not measured"}
    print_table(
        "export",
        ("figure", "goal", "measured", "95 % interval", "", "from"),
        [
            (name, f"{f['sense']} {f['goal']:g}", "-" if f["value"] is None else f"{f['value']:.3g}",
             " to ".join(f"{v:.3g}" for v in f["interval"]) if f["interval"] else "", said[f["kept"]], f["source"])
            for name, f in found["figures"].items()
        ],
    )  # fmt: skip
    return int(any(f["kept"] is False for f in found["figures"].values()))


if __name__ == "__main__":
    sys.exit(main())
