"""The exporter's figures: read from the raw results, judged by the whole interval, never invented."""

import json

import pytest

from bench.export import figures, gather, require_one_host
from edgevla.errors import BadInput

RATIO = {"median": 2.5, "low": 2.1, "high": 2.9}


def test_a_ratio_is_kept_only_where_its_whole_interval_reaches_the_goal():
    kept = figures({"figures": {"int8_vs_ort_fp32": RATIO}}, {}, {}, {})["int8_vs_ort_fp32"]
    assert (kept["value"], kept["kept"]) == (2.5, True)
    low = {**RATIO, "low": 1.9}
    assert figures({"figures": {"int8_vs_ort_fp32": low}}, {}, {}, {})["int8_vs_ort_fp32"]["kept"] is False


def test_what_was_not_measured_is_null_and_not_judged():
    found = figures({}, {}, {}, {})
    assert {figure["value"] for figure in found.values()} == {None}
    assert {figure["kept"] for figure in found.values()} == {None}


def test_memory_and_time_are_kept_below_their_goal():
    row = {"slow": "lerobot fp32", "fast": "one-pass", "rss_share": 0.36, **RATIO}
    found = figures({}, {"ratios": [row]}, {"nf4_teacher_memory_ratio": 0.3}, {"steps_s": {"compress": 400.0}})
    assert found["smolvla_rss_vs_fp32"]["kept"] is False
    assert found["smolvla_vs_lerobot_fp32"]["kept"] is False
    assert found["nf4_teacher_memory_ratio"]["kept"] is True
    assert found["compress_s"]["kept"] is True


def test_results_of_two_processors_are_not_put_into_one_file(tmp_path):
    require_one_host({"a": {"host": {"cpu": "x"}}, "b": {}, "c": {"host": {"cpu": "x"}}})
    for name, cpu in (("compare.json", "x"), ("smolvla.json", "y")):
        (tmp_path / name).write_text(json.dumps({"host": {"cpu": cpu}}))
    with pytest.raises(BadInput, match=r"smolvla\.json: y"):
        gather(tmp_path)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "compare.json").write_text("{")
    with pytest.raises(BadInput, match=r"compare\.json"):
        gather(tmp_path)
