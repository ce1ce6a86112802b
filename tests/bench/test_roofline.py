"""Classes and shares on invented operators; the profiler and the peaks on small graphs, without a word on speed."""

import json
from functools import partial

import numpy as np
import pytest
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from bench.cli import app
from bench.roofline import run
from bench.roofline.classes import Operator, Peaks, class_of, rows, total
from bench.roofline.peaks import measure_peaks
from bench.roofline.profile import operators, profile, recorder_cost_us
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput, Unsound
from export.quantize.artifact import quantize
from export.search.measure import product_graph
from tests.rich_bundle import write_rich_bundle

CLI = CliRunner()
PEAKS = Peaks(fp32_gops=100.0, u8s8_gops=400.0, copy_gbs=20.0)


@pytest.mark.parametrize(
    ("op", "constant", "name"),
    [
        ("DynamicQuantizeMatMul", True, "int8 matmul"),
        ("QLinearMatMul", True, "int8 matmul"),
        ("MatMul", True, "float matmul"),
        ("Gemm", True, "float matmul"),
        ("FusedMatMul", False, "attention products"),
        ("MatMulNBits", True, "weight-only matmul"),
        ("Softmax", False, "softmax"),
        ("SkipLayerNormalization", False, "layernorm"),
        ("BiasGelu", True, "gelu / elementwise"),
        ("SomethingNew", False, "gelu / elementwise"),
        ("Transpose", False, "transpose / reshape"),
        ("DynamicQuantizeLinear", False, "quantize / dequantize"),
        ("Conv", True, "conv"),
        ("QLinearConv", True, "int8 conv"),
    ],
)
def test_every_operator_has_a_class(op, constant, name):
    assert class_of(op, constant) == name


def test_a_product_is_held_against_the_peak_of_its_type():
    int8 = Operator("MatMulIntegerToFloat", True, 500.0, 50_000_000, 0)  # 100 M operations in 0.5 ms: 200 Gop/s
    float_ = Operator("MatMul", True, 400.0, 10_000_000, 0)  # 50 Gop/s
    first, second, rest = rows([float_, int8], 1.0, PEAKS)
    assert (first.name, first.reached, first.share_of_peak) == ("int8 matmul", pytest.approx(200), pytest.approx(0.5))
    assert first.left_ms == pytest.approx(0.25)
    assert (second.share_of_peak, second.left_ms) == (pytest.approx(0.5), pytest.approx(0.2))
    assert (rest.name, rest.ms) == ("between operators", pytest.approx(0.1))


def test_everything_else_is_held_against_a_copy():
    row = rows([Operator("Gelu", False, 100.0, 0, 1_000_000)], 0.1, PEAKS)[0]  # 10 GB/s
    assert (row.unit, row.reached, row.share_of_peak) == ("GB/s", pytest.approx(10), pytest.approx(0.5))
    assert row.left_ms == pytest.approx(0.05)


def test_faster_than_the_peak_leaves_nothing_on_the_table():
    row = rows([Operator("Reshape", False, 10.0, 0, 1_000_000)], 0.01, PEAKS)[0]
    assert row.share_of_peak == pytest.approx(5.0)
    assert row.left_ms == 0.0


def test_operators_that_add_up_to_more_than_the_pass_are_scaled_down_to_it():
    found = rows([Operator("Gelu", False, 300.0, 0, 0), Operator("Softmax", False, 100.0, 0, 0)], 0.2, PEAKS)
    assert [row.ms for row in found] == pytest.approx([0.15, 0.05, 0.0])
    assert sum(row.share_of_time for row in found) == pytest.approx(1.0)


def test_an_operator_without_measurable_time_has_no_speed():
    row = rows([Operator("Reshape", False, 0.0, 0, 64)], 0.01, PEAKS)[0]
    assert (row.reached, row.share_of_peak, row.left_ms) == (None, None, 0.0)


def test_the_sum_says_what_is_left_in_all():
    sums = total(rows([Operator("MatMul", True, 800.0, 20_000_000, 0)], 1.0, PEAKS))
    assert sums == {"ms": pytest.approx(1.0), "left_ms": pytest.approx(0.6), "share_of_ceiling": pytest.approx(0.4)}


def event(name, op, us, inputs, outputs):
    args = {"op_name": op, "input_type_shape": inputs, "output_type_shape": outputs}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": args}


def test_events_become_operators_with_what_they_compute_and_move():
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.zeros((5, 7), np.float32), "w")])
    shapes = [{"float": [2, 5]}, {"float": [5, 7]}], [{"float": [2, 7]}]
    events = [event("product", "MatMul", us, *shapes) for us in (900, 10, 10, 10)]
    found = operators([{"cat": "Session", "name": "model_run"}, *events], graph, cost_us=2.0, skip=1)
    assert found == [Operator("MatMul", True, 8.5, 70, 4 * (10 + 35 + 14))]  # half a microsecond was cut off


def test_a_convolution_takes_its_depth_from_the_weight():
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.zeros((8, 3, 2, 2), np.float32), "w")])
    found = operators([event("conv", "Conv", 5, [{"float": [1, 3, 4, 4]}], [{"float": [1, 8, 2, 2]}])], graph, 0.0)
    assert found[0].multiply_adds == 8 * 2 * 2 * 12


def test_a_profile_without_operators_is_unsound():
    with pytest.raises(Unsound, match="operators with their times"):
        operators([{"cat": "Session", "name": "model_run"}], helper.make_graph([], "g", [], []), 0.0)


@pytest.mark.parametrize(("kind", "name"), [("fp32", "float matmul"), ("dynamic-s8", "int8 matmul")])
def test_a_real_product_is_profiled_as_what_it_runs_as(kind, name):
    feeds = {"x": np.ones((1, 16, 256), np.float32)}
    found = profile(quantize(product_graph(16, 256, 128), kind), feeds, rounds=20, recorder_us=0.0)
    products = [o for o in found.operators if class_of(o.op, o.constant_weight) == name]
    assert [o.multiply_adds for o in products] == [16 * 256 * 128]
    assert found.wall_ms > 0


def test_recording_costs_something_but_not_much():
    assert 0.0 <= recorder_cost_us(rounds=10) < 100.0


def test_peaks_are_measured():
    peaks = measure_peaks(calls=2, shapes=((64, 256, 256),), copy_bytes=1_000_000)
    assert min(peaks.fp32_gops, peaks.u8s8_gops, peaks.copy_gbs) > 0
    with pytest.raises(KeyError):
        peaks.gops("bf16")


@pytest.fixture
def small_peaks(monkeypatch):
    """The real measurement, on products that take no time."""
    small = partial(measure_peaks, calls=2, shapes=((64, 256, 256),), copy_bytes=1_000_000)
    monkeypatch.setattr(run, "measure_peaks", small)


@pytest.mark.usefixtures("small_peaks")
def test_the_command_prints_one_json_object(tiny_bundle_path):
    done = CLI.invoke(app, ["roofline", str(tiny_bundle_path), "--rounds", "50", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert sum(row["share_of_time"] for row in found["rows"]) == pytest.approx(1.0)
    assert found["rows"][-1]["name"] == "between operators"
    assert found["peaks"]["u8s8_gops"] > 0
    assert found["host"]["cores_usable"] >= 1


@pytest.mark.usefixtures("small_peaks")
def test_the_command_prints_a_table_with_its_peaks(tiny_bundle_path):
    done = CLI.invoke(app, ["roofline", str(tiny_bundle_path), "--rounds", "50", "--float"])
    assert done.exit_code == 0
    assert all(words in done.stdout for words in ("FP32, one thread", "left on the table", "between operators", "U8S8"))


@pytest.mark.usefixtures("small_peaks")
def test_a_step_of_a_flow_counts_once_per_time(tmp_path):
    bundle = write_rich_bundle(tmp_path / "rich.bundle", float_off=0.0)
    assert [stage.name for stage in run.each_chunk(bundle.manifest.stages)] == ["prefix", "step"]
    step = profile(bundle.model("step"), {t.name: np.zeros(t.shape, t.dtype) for t in bundle.stage("step").inputs}, 50)
    assert [operator.op for operator in step.operators] == ["Mul", "Add"]
    one, three = (run._repeated(step.operators[0], times) for times in (1, 3))
    assert (three.us, three.bytes) == (pytest.approx(3 * one.us), 3 * one.bytes)
    found = run.roofline(bundle, rounds=50)
    assert sum(row.operators for row in found.rows) > 2
    assert total(found.rows)["ms"] == pytest.approx(found.wall_ms)


def test_words_are_no_part_of_a_chunk(tiny_bundle_path):
    assert [s.name for s in run.each_chunk(open_bundle(tiny_bundle_path).manifest.stages)] == ["vision", "head"]


def test_fp32_graphs_that_are_not_there_are_bad_input(tmp_path):
    with pytest.raises(BadInput, match="FP32 graphs"):
        run.roofline(write_rich_bundle(tmp_path / "rich.bundle"), float_model=True)


def test_what_is_no_bundle_is_bad_input(tmp_path):
    assert isinstance(CLI.invoke(app, ["roofline", str(tmp_path)]).exception, BadInput)
