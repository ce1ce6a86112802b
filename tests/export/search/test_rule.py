"""The rule on invented rows: what ships, and what is said about it."""

import pytest

from edgevla.telemetry.interleaved import Ratio
from export.search.error import ActionError
from export.search.rule import Row, against_baselines, pick

NO_ERROR = ActionError(300, (), 0.0, 0.0)


def row(name, p50_ms, share, kind="dynamic-s8", engine="onnxruntime"):
    return Row(name, kind, engine, 1000, p50_ms, p50_ms * 1.2, NO_ERROR, share)


FP32, FP16 = row("fp32", 2.0, 0.0, "fp32"), row("fp16", 3.0, 0.01, "fp16")


def ratios(rows, spread=0.05):
    p50 = {r.name: r.p50_ms for r in rows}

    def ratio(slow, fast):
        median = p50[slow] / p50[fast]
        return Ratio(slow, fast, median, median * (1 - spread), median * (1 + spread), 300, 0.95)

    return ratio


def picked(*rows, spread=0.05):
    return pick(rows, ratios(rows, spread))


def test_the_fastest_inside_the_budget_ships():
    decision = picked(FP32, FP16, row("all", 0.8, 1.2), row("some", 1.0, 0.9), row("few", 1.5, 0.2))
    assert decision.name == "some"
    assert decision.sentence == "some ships: 2.00x [1.90, 2.10] as fast as fp32, with 0.9 of the error budget"


def test_of_two_that_cannot_be_told_apart_the_better_one_ships():
    assert picked(FP32, row("all", 1.00, 0.9), row("all but one", 1.01, 0.4)).name == "all but one"


def test_a_difference_that_the_interval_shows_is_no_tie():
    assert picked(FP32, row("all", 1.00, 0.9), row("all but one", 1.01, 0.4), spread=0.001).name == "all"


def test_three_percent_are_no_tie_however_wide_the_interval():
    assert picked(FP32, row("all", 1.00, 0.9), row("all but one", 1.03, 0.4)).name == "all"


def test_float_ships_where_int8_is_not_faster_for_sure():
    decision = picked(FP32, row("all", 1.95, 0.5))
    assert decision.name == "fp32"
    assert "float ships (fp32)" in decision.sentence
    assert "1.03x [0.97, 1.08]" in decision.sentence


def test_int8_must_beat_the_better_of_the_floats():
    fp16 = row("fp16", 1.0, 0.01, "fp16")
    assert picked(FP32, fp16, row("all", 0.99, 0.5)).name == "fp16"


def test_a_float16_outside_the_budget_is_no_float_to_beat():
    fp16 = row("fp16", 0.5, 1.1, "fp16")
    assert picked(FP32, fp16, row("all", 0.99, 0.5)).name == "all"


def test_float_ships_where_no_int8_stays_inside():
    decision = picked(FP32, row("all", 0.5, 3.0), row("some", 0.9, 1.01))
    assert decision.name == "fp32"
    assert "some comes nearest with 1 of it" in decision.sentence


def test_float_ships_where_nothing_can_be_quantized():
    assert picked(FP32).sentence == "float ships (fp32): no layer here is worth int8"


def test_openvino_never_ships():
    assert picked(FP32, row("all", 1.0, 0.5), row("openvino", 0.1, 0.0, "baseline", "openvino")).name == "all"


def test_baselines_are_said_with_their_errors():
    rows = [FP32, row("all", 1.0, 0.5), row("openvino", 1.6, 0.2, "baseline", "openvino"),
            row("nncf", 0.9, 18, "baseline", "openvino")]  # fmt: skip
    said = against_baselines(rows, "all", ratios(rows))
    assert said == (
        "all (of the budget: 0.5) is 1.60x [1.52, 1.68] as fast as openvino (of the budget: 0.2), "
        "0.90x [0.85, 0.95] as fast as nncf (of the budget: 18, outside)"
    )
    assert against_baselines(rows[:2], "all", ratios(rows)) == ""


@pytest.mark.parametrize(("share", "inside"), [(1.0, True), (1.0001, False), (float("inf"), False)])
def test_the_budget_is_kept_up_to_its_edge(share, inside):
    assert row("any", 1.0, share).inside is inside
