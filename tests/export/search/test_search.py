"""The whole autopilot on a real small policy: real quantizers, real engines, real timing; nothing asserted on speed."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from edgevla.errors import Unsound
from export.quantize.artifact import quantize
from export.search.__main__ import show, write
from export.search.cache import Cache
from export.search.engines import ort_chain
from export.search.error import Budget, default_budget
from export.search.front import Candidate
from export.search.layers import layers_of
from export.search.measure import available_bytes, most_at_once, saved_us
from export.search.plan import Plan
from export.search.report import evidence, layer_rows
from export.search.search import plan_of, search, with_smoothing
from export.search.sensitivity import Judge, all_but, fold, possible, weigh
from tests.export.search.policy import CHANNELS, WIDTH, policy_frames, policy_graphs

KINDS = ("dynamic-s8", "fp16", "fp32")


def judge_of(graphs, count=40, cache=None, quantizer=quantize):
    timed = {name: graph for name, graph in graphs.items() if name != "text"}
    frames = [{**feeds, "text": np.zeros((1, 1, WIDTH), np.float32)} for feeds in policy_frames(count)]
    return Judge(timed, frames, frames[:4], CHANNELS, quantizer, cache=cache), timed


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    work = tmp_path_factory.mktemp("search")
    choice = search(policy_graphs(), policy_frames(300), policy_frames(16, seed=2), CHANNELS, kinds=KINDS,
                    work=work, rounds=20)  # fmt: skip
    return choice, work


def test_layers_are_the_products_worth_quantizing():
    layers = layers_of({k: v for k, v in policy_graphs().items() if k != "text"}, repeats=10)
    assert [(x.stage, x.name, x.shape, x.repeats) for x in layers] == [
        ("vision", "first", (6, 192, 256), 1),
        ("vision", "second", (6, 256, 256), 1),
        ("head", "mlp", (6, 256, 256), 10),
    ]
    assert layers[2].multiply_adds == 10 * 6 * 256 * 256
    assert layers[2].weights == 256 * 256


def test_fp32_has_no_error_and_int8_has_some():
    judge, _ = judge_of(policy_graphs())
    assert judge.error(Candidate("fp32")).channels[0].maximum == 0.0
    assert judge.error(Candidate("dynamic-s8")).channels[0].p50 > 0.0


def test_the_layer_that_int8_hurts_is_ranked_first():
    judge, timed = judge_of(policy_graphs(outliers=300.0))
    layers = layers_of(timed)
    gains = {layer.key: 1.0 for layer in layers}
    weighed, errors = weigh(judge, layers, [(x,) for x in layers], gains, default_budget(CHANNELS))
    worst = max(weighed, key=lambda item: item.alone)
    assert worst.group[0].name == "second"
    assert worst.relief == max(item.relief for item in weighed)  # all-int8 shrinks most without it
    assert set(errors) == {layer.key for layer in layers}


def test_one_way_asks_nothing_of_all_int8():
    judge, timed = judge_of(policy_graphs())
    layers = layers_of(timed)
    calls = []
    gains = {layer.key: 2.0 for layer in layers}
    groups = [tuple(layers[:2]), (layers[2],)]
    weighed, errors = weigh(judge, layers, groups, gains, default_budget(CHANNELS), False, lambda: calls.append(1))
    assert [(item.relief, item.saved_us) for item in weighed] == [(None, 4.0), (None, 2.0)]
    assert len(calls) == 2
    assert errors[layers[0].key] is errors[layers[1].key]


def test_all_but_a_group_stay_in_float():
    layers = layers_of({k: v for k, v in policy_graphs().items() if k != "text"})
    assert all_but(layers, (layers[0],)) == {layers[1].key, layers[2].key}


def test_a_stopped_search_takes_up_its_errors_again(tmp_path):
    made = []

    def counting(graph, kind, **options):
        made.append(kind)
        return quantize(graph, kind, **options)

    graphs, whole = policy_graphs(), Candidate("dynamic-s8")
    first = judge_of(graphs, cache=Cache(tmp_path), quantizer=counting)[0].error(whole)
    assert made == ["dynamic-s8"] * 2  # vision and head
    assert judge_of(graphs, cache=Cache(tmp_path), quantizer=counting)[0].error(whole) == first
    assert len(made) == 2
    judge_of(policy_graphs(outliers=2.0), cache=Cache(tmp_path), quantizer=counting)[0].error(whole)
    assert len(made) == 4  # other weights, other errors


def test_a_stopped_search_keeps_its_plan(tmp_path):
    judge, timed = judge_of(policy_graphs(), cache=Cache(tmp_path))
    assert plan_of(judge, layers_of(timed), 1e-6) == Plan(2, False)
    assert judge.seconds_each() > 0
    again, _ = judge_of(policy_graphs(), cache=Cache(tmp_path))
    again.seconds_each = lambda: pytest.fail("planned anew")
    assert plan_of(again, layers_of(timed), 1e-6) == Plan(2, False)


def test_a_damaged_result_is_made_again(tmp_path):
    graphs, whole = policy_graphs(), Candidate("dynamic-s8")
    first = judge_of(graphs, cache=Cache(tmp_path))[0].error(whole)
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text()[:20])
    assert judge_of(graphs, cache=Cache(tmp_path))[0].error(whole) == first


def test_a_kind_that_cannot_be_made_is_left_out_with_its_reason():
    judge, _ = judge_of(policy_graphs())
    good, why = possible(judge, [Candidate("int7"), Candidate("int7"), Candidate("fp32")])
    assert good == [Candidate("fp32")]
    assert len(why) == 1
    assert why[0].startswith("int7 is left out: artifact kind")
    assert "\n" not in why[0]


def smoothed_vision(graph, calibration):
    """The same function without the outlier channel: ReLU lets a factor pass."""
    return {policy_graphs(outliers=300.0)["vision"]: policy_graphs(outliers=1.0001)["vision"]}.get(graph, graph)


def test_outliers_are_folded_away_where_that_lowers_the_error():
    judge, _ = judge_of(policy_graphs(outliers=300.0))
    better, said = with_smoothing(judge, smoothed_vision, default_budget(CHANNELS))
    assert better.graphs["vision"] == policy_graphs(outliers=1.0001)["vision"]
    assert said.startswith("SmoothQuant folded: all-int8 takes")
    one, other = (candidate_chunk(j) for j in (judge, better))
    assert one == pytest.approx(other, abs=1e-4)  # the same function in float


def candidate_chunk(judge):
    return judge.chunks(ort_chain(judge.graphs))


def test_graphs_stay_as_they_are_where_folding_does_not_help():
    judge, _ = judge_of(policy_graphs(outliers=1.0001))
    worse = {judge.graphs["vision"]: policy_graphs(outliers=300.0)["vision"]}
    kept, said = with_smoothing(judge, lambda graph, _: worse.get(graph, graph), default_budget(CHANNELS))
    assert kept is judge
    assert said.startswith("no SmoothQuant")


def test_nothing_to_fold_is_said():
    judge, _ = judge_of(policy_graphs())
    assert with_smoothing(judge, fold, default_budget(CHANNELS)) == (judge, "SmoothQuant found nothing to fold")


def test_a_kind_that_changes_nothing_is_no_candidate():
    judge, _ = judge_of(policy_graphs(), quantizer=lambda graph, kind, **_: graph)
    good, why = possible(judge, [Candidate("dynamic-s8"), Candidate("fp32")])
    assert good == [Candidate("fp32")]
    assert why == ["dynamic-s8 is left out: nothing here is worth it, the graphs stay FP32"]


def test_what_int8_saves_is_measured_once_per_shape():
    asked = []

    def counting(graph, kind, **options):
        asked.append(kind)
        return quantize(graph, kind, **options)

    layers = layers_of({k: v for k, v in policy_graphs().items() if k != "text"}, repeats=3)
    gains = saved_us(layers, counting, rounds=5)
    assert asked == ["dynamic-s8"] * 2  # (6, 192, 256) and (6, 256, 256)
    assert gains[layers[2].key] == pytest.approx(3 * gains[layers[1].key])
    assert saved_us([], counting) == {}


def test_every_candidate_and_baseline_stands_in_one_run(chosen):
    choice, _ = chosen
    names = {row.name for row in choice.rows}
    assert {"fp32", "fp16", "openvino", "openvino-nncf-int8"} <= names
    # All-int8, or what beats it: a layer measured to save nothing, as on a busy machine, is better in float.
    assert any(row.kind == "dynamic-s8" for row in choice.rows)
    assert {choice.run.ns[name].size for name in names} == {20}


def test_what_ships_is_one_of_ours_and_its_words_stay_float(chosen):
    choice, _ = chosen
    graphs = policy_graphs()
    assert list(choice.graphs) == list(graphs)
    assert choice.graphs["text"] == graphs["text"]
    row = next(row for row in choice.rows if row.name == choice.decision.name)
    assert row.engine == "onnxruntime"
    assert row.inside
    assert choice.artifact in KINDS


def test_a_budget_that_int8_cannot_keep_ships_float():
    strict = Budget({"x": 1e-9, "y": 1e-9, "z": 1e-9}, 1.0)
    choice = search(policy_graphs(), policy_frames(300), policy_frames(4), CHANNELS, strict,
                    kinds=("dynamic-s8", "fp32"), rounds=5)  # fmt: skip
    assert choice.artifact == "fp32"
    assert choice.graphs == policy_graphs()
    assert "no int8 candidate stays inside the error budget" in choice.sentence
    assert {row["form"] for row in layer_rows(choice)} == {"fp32"}


def test_a_short_time_judges_groups(chosen):
    choice = search(policy_graphs(), policy_frames(300), policy_frames(4), CHANNELS, kinds=("dynamic-s8", "fp32"),
                    rounds=5, search_budget_s=1e-6)  # fmt: skip
    assert [len(item.group) for item in choice.weighed] == [2, 1]
    assert choice.run.rounds == 2  # as short as a run can be


def test_too_few_frames_prove_nothing():
    with pytest.raises(Unsound, match="at least 300"):
        search(policy_graphs(), policy_frames(299), [], CHANNELS)


def test_the_evidence_is_json_and_can_be_drawn(chosen, tmp_path):
    choice, _ = chosen
    write(choice, tmp_path)
    found = json.loads((tmp_path / "search.json").read_text())
    assert found["sentence"] == choice.sentence
    assert len(found["latencies_ns"]["fp32"]) == 20
    assert {row["name"] for row in found["layers"]} == {"first", "second", "mlp"}
    drawn = ET.fromstring((tmp_path / "front.svg").read_text())
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(choice.rows)
    assert sum(circle.get("class") == "chosen" for circle in circles) == 1
    assert list(tmp_path.glob(".*")) == []


def test_every_layer_has_a_reason(chosen):
    choice, _ = chosen
    for row in layer_rows(replace(choice, candidate=Candidate("dynamic-s8"))):
        assert re.fullmatch(r"int8, as it takes \d+ % of the error budget for -?\d+ us", row["reason"])
    kept = Candidate("dynamic-s8", frozenset({("head", "mlp")}))
    reasons = {row["name"]: (row["form"], row["reason"]) for row in layer_rows(replace(choice, candidate=kept))}
    assert reasons["mlp"][0] == "fp32"
    assert reasons["mlp"][1].startswith("float, as int8 takes")
    static = layer_rows(replace(choice, candidate=Candidate("static-qdq")))
    assert {row["reason"] for row in static} == {"static-qdq won as a whole"}


def test_the_tables_print_the_sentence_and_both_parts(chosen, capsys):
    choice, _ = chosen
    show(choice)
    printed = capsys.readouterr().out
    assert "layers, the dearest first" in printed
    assert "candidates, the fastest first" in printed
    assert "ships" in printed
    assert "openvino" in printed


def test_the_front_holds_nothing_of_another_engine(chosen):
    choice, _ = chosen
    assert not any(name.startswith("openvino") for name in evidence(choice)["front"])


@pytest.mark.parametrize(("float_mb", "free_mb", "most"), [(13, 20_000, 10), (1_800, 20_000, 2), (300, 12_000, 5)])
def test_as_many_candidates_as_memory_holds(float_mb, free_mb, most):
    assert most_at_once(float_mb * 10**6, free_mb * 10**6) == most


def test_memory_is_read_from_the_kernel(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert available_bytes(meminfo) == 2048 * 1024
    with pytest.raises(Unsound, match="MemAvailable"):
        available_bytes(tmp_path / "none")
