"""The short lists say what the long results say."""

import json
from pathlib import Path

from bench.summaries import (
    DEPLOY_PARTS,
    FAULT_KEYS,
    LOOP_KEYS,
    deploy_summary,
    fault_summary,
    loop_summary,
    write_summaries,
)

RESULTS = Path(__file__).parents[2] / "bench" / "results"
HOST = {"cpu": "a CPU", "cores_usable": 2}


def test_a_rate_and_load_is_one_entry():
    row = {"rate_hz": 500, "load": "idle", **dict.fromkeys(LOOP_KEYS, 1.0), "p50_us": 3.0}
    (entry,) = loop_summary({"host": HOST, "rows": [row]})
    assert (entry["rate_hz"], entry["load"], entry["windows"]) == (500, "idle", 1.0)
    assert "a CPU" in entry["host"]


def test_a_fault_is_one_entry():
    row = dict.fromkeys(FAULT_KEYS, 0) | {"fault": "serial cut", "outcome": "stopped"}
    (entry,) = fault_summary({"host": HOST, "rows": [row]})
    assert (entry["fault"], entry["late_commands"]) == ("serial cut", 0)


def test_what_was_not_measured_has_no_list(tmp_path):
    assert write_summaries(tmp_path) == []


def test_the_committed_lists_are_those_of_the_committed_results():
    for name, source, summary in (
        ("loop.json", "loop-windows.json", loop_summary),
        ("faults.json", "faults-run.json", fault_summary),
    ):
        long = json.loads((RESULTS / source).read_text())
        assert json.loads((RESULTS / name).read_text()) == summary(long)
    loopback, twin = (json.loads((RESULTS / name).read_text()) for name in DEPLOY_PARTS)
    assert json.loads((RESULTS / "deploy.json").read_text()) == deploy_summary(loopback, twin)


def test_a_deploy_has_the_seconds_of_each_step_of_the_first_install():
    keys = ("no_change_s", "no_change_worst_s", "delta_bytes", "bundle_bytes")
    loopback = dict.fromkeys(keys, 2.0) | {"host": HOST, "first_s": 8.0}
    seconds = {"verify": 1.4, "unpack": 108.7}
    twin = {"host": HOST, "deploys": {"twin": [{"do": "install", "seconds": seconds, "ended": "good"}, {}]}}
    found = deploy_summary(loopback, twin)
    assert {key: found[key] for key in keys} == dict.fromkeys(keys, 2.0)
    assert {step: found["twin"][step] for step in seconds} == seconds
    assert "a CPU" in found["host"]
    assert "emulated" in found["twin"]["host"]
