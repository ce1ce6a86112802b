"""What a profile is made of, on invented stamps: start-up, graphs on one clock, the trace, the flame, memory."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.profile import flame, imports, resident, startup
from bench.profile.graph_runs import graph_runs
from bench.profile.operators import position
from bench.profile.timeline import BUS, INFERENCES, STEPS, Traced, acks, timeline
from bench.profile.trace_events import Trace, Track
from bench.roofline.classes import Operator, Peaks
from bench.roofline.profile import arena_of, operators, origins_of
from edgevla.control.ladder import Phase
from edgevla.errors import Unsound
from edgevla.telemetry.rows import capture_dtype, inference_dtype, tick_dtype
from tests.bench.trace_format import broken_rules

MS = 1_000_000  # ns
PERIOD = 12_500_000  # ns
PEAKS = Peaks(fp32_gops=100.0, u8s8_gops=400.0, copy_gbs=10.0)


def servo_rows(count=24):
    """Steps k at 100 ms + k T: woken 50 us late, handed over after 200 us, written after 300 us, answered after 1 ms.

    The state of a row answers the command of the row before; chunk 0 acts from tick 2 on, chunk 8 from tick 10 on."""
    rows = np.zeros(count, tick_dtype(4, 4))
    rows["step"] = rows["tick"] = np.arange(count)
    rows["deadline_ns"] = 100 * MS + PERIOD * np.arange(count)
    rows["phase"] = Phase.TRACK
    for name, after_us in (("wake_ns", 50), ("look_ns", 60), ("send_ns", 200), ("write_ns", 300)):
        rows[name] = rows["deadline_ns"] + after_us * 1000
    rows["sent_seq"] = 100 + np.arange(count)
    rows["state_seq"] = 99 + np.arange(count)
    rows["state_stamp_ns"] = rows["write_ns"] - PERIOD + MS
    rows["chunk"] = np.where(rows["tick"] < 2, -1, np.where(rows["tick"] < 10, 0, 8))
    return rows


def inference_rows():
    """Asked at ticks 0 and 8, begun 1 ms later, done 5 ms after that; the frame was 10 ms old."""
    rows = np.zeros(2, inference_dtype())
    rows["tick"] = 0, 8
    rows["asked_ns"] = 100 * MS + PERIOD * rows["tick"] + 400_000
    rows["done_ns"], rows["infer_ns"], rows["frame_age_ns"] = rows["asked_ns"] + 6 * MS, 5 * MS, 10 * MS
    return rows


def capture_rows():
    rows = np.zeros(8, capture_dtype())
    rows["sequence"] = np.arange(1, 9)
    rows["stamp_ns"] = 100 * MS + 400_000 + MS - 10 * MS + 25 * MS * np.arange(-1, 7)
    rows["read_ns"], rows["visible_ns"] = rows["stamp_ns"] + MS, rows["stamp_ns"] + 2 * MS
    return rows


def traced():
    inferences = inference_rows()
    begun = (inferences["done_ns"] - inferences["infer_ns"]).tolist()
    marks = [(at + MS, at + 4 * MS) for at in begun]
    events = [{"cat": "Session", "name": "model_run", "ts": 10 + 9000 * i, "dur": 2980} for i in range(2)]
    events += [node(f"n{j}", "MatMul", 20 + 9000 * i + 1000 * j, 900) for i in range(2) for j in range(2)]
    return Traced(servo_rows(), inferences, {"corner": capture_rows()}, graph_runs("head", events, marks), 2)


def node(name, op, ts, dur):
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}


# --- one clock ---


def test_the_operators_of_a_run_come_onto_our_clock_by_the_stamps_around_it():
    events = [{"cat": "Session", "name": "model_run", "ts": 500, "dur": 100}, node("a", "Gelu", 510, 20)]
    (run,) = graph_runs("head", events, [(7_000_000, 7_110_000)])  # 10 us more than the profile saw: 5 on each side
    (ran,) = run.operators
    assert (run.begin_ns, run.end_ns) == (7_000_000, 7_110_000)
    assert (ran.name, ran.op, ran.begin_ns, ran.end_ns) == ("a", "Gelu", 7_015_000, 7_035_000)


def test_an_operator_never_leaves_its_run():
    events = [{"cat": "Session", "name": "model_run", "ts": 0, "dur": 10}, node("a", "Gelu", 0, 10)]
    (run,) = graph_runs("head", events, [(1_000_000, 1_006_000)])
    assert (run.operators[0].begin_ns, run.operators[0].end_ns) == (1_000_000, 1_006_000)


def test_runs_at_the_end_that_have_no_stamp_are_left_out():
    events = [{"cat": "Session", "name": "model_run", "ts": 100 * i, "dur": 10} for i in range(3)]
    assert len(graph_runs("head", events, [(0, 10_000), (100_000, 110_000)])) == 2


@pytest.mark.parametrize("marks", [[], [(0, 1), (2, 3)]])
def test_stamps_and_profile_that_do_not_match_are_unsound(marks):
    with pytest.raises(Unsound, match="runs of graph head"):
        graph_runs("head", [{"cat": "Session", "name": "model_run", "ts": 0, "dur": 10}], marks)


# --- the trace ---


def test_the_trace_keeps_every_rule_of_the_format():
    document = timeline(traced()).document({})
    assert broken_rules(document) == []
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_every_process_and_the_bus_stand_on_one_time_line():
    events = timeline(traced()).events
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == {"cameras", "policy", "servo"}
    slices = [event for event in events if event["ph"] == "X"]
    first = next(e for e in slices if e["name"] == "inference")
    assert first["ts"] == pytest.approx(101_400.0)
    inside = [e["name"] for e in slices if (e["pid"], e["tid"]) == (INFERENCES.pid, INFERENCES.tid)]
    assert inside.count("graph:head") == 2
    assert inside.count("MatMul") == 4
    exchange = next(e for e in slices if (e["pid"], e["tid"]) == (BUS.pid, BUS.tid))
    assert (exchange["ts"], exchange["dur"]) == (pytest.approx(100_300.0), pytest.approx(1000.0))


def test_an_arrow_leads_from_the_frame_to_the_first_command_of_its_chunk():
    events = timeline(traced()).events
    arrow = [e for e in events if e["ph"] in "stf" and e["id"] == 1]
    assert [e["ph"] for e in arrow] == ["s", "t", "t", "f"]
    assert [e["ts"] for e in arrow] == pytest.approx([91_400.0, 101_400.0, 106_400.0, 125_050.0])
    assert (arrow[-1]["pid"], arrow[-1]["tid"], arrow[-1]["bp"]) == (STEPS.pid, STEPS.tid, "e")


def test_the_rules_of_the_format_find_what_is_wrong():
    trace, track = Trace(), Track(1, 1)
    trace.process(1, "p")
    trace.thread(track, "t")
    trace.slice(track, "a", "c", 0, 10_000)
    trace.slice(track, "b", "c", 5_000, 15_000)
    trace.flow(1, "f", [(track, 1_000), (track, 99_000)])
    wrong = broken_rules(trace.document({}))
    assert len(wrong) == 2
    assert "crosses the end of a" in wrong[0]
    assert "in no slice" in wrong[1]
    assert broken_rules({"traceEvents": [{"ph": "X"}], "displayTimeUnit": "ms"})
    assert broken_rules({"traceEvents": [{"ph": "Z"}], "displayTimeUnit": "ms"}) == ["unknown phase 'Z'"]


def test_a_reply_belongs_to_the_command_whose_number_it_carries():
    rows = servo_rows(4)
    rows["state_seq"][2] = 100  # late: answers the first command once more, with a newer stamp
    found = acks(rows)
    assert [end - begin for begin, end in found] == [1 * MS + PERIOD, 1 * MS]  # of steps 0 and 2


# --- start-up ---

STARTED = {
    "called": 500, "begun": 600, "policy_started": 610, "servo_started": 620, "policy_imported": 900,
    "servo_connected": 950, "policy_loaded": 1100, "policy_heard": 1110, "policy_warm": 1200, "armed": 1500,
}  # fmt: skip


def start_ns(**changes):
    return {name: (10_000 + at) * MS for name, at in {**STARTED, **changes}.items()}


def test_the_steps_of_a_start_lie_on_one_time_line():
    found = startup.steps(10_000 * MS, start_ns(), 11_510 * MS, 11_540 * MS)
    told = startup.figures(found, {"begun": 600 * MS})
    assert told["cpu_s"] == {"begun": 0.6}
    assert told["import_s"] == pytest.approx(0.5 + 0.29)
    assert told["load_s"] == pytest.approx(0.1 + 0.2 + 0.01)
    assert (told["warm_up_s"], told["connect_s"]) == (pytest.approx(0.09), pytest.approx(0.33))
    assert told["arming_s"] == pytest.approx(0.3)  # from the later of policy and arm
    assert (told["first_command_s"], told["first_chunk_s"]) == (1.51, 1.54)
    assert told["kept"] is True
    assert told["steps"][0]["name"] == "interpreter and imports"


def test_a_start_beyond_the_goal_is_not_kept():
    assert startup.figures(startup.steps(0, start_ns(), 13_001 * MS, None), {})["kept"] is False


def test_a_supervisor_that_hears_late_makes_no_start_longer():
    found = startup.steps(10_000 * MS, start_ns(armed=1600), 11_510 * MS, None)
    assert startup.figures(found, {})["first_command_s"] == 1.51
    assert all(step.took_s >= 0 for step in found)


def test_a_start_without_a_stamp_is_unsound():
    with pytest.raises(Unsound, match="without armed"):
        startup.steps(0, {k: v for k, v in start_ns().items() if k != "armed"}, 1, None)


def test_the_first_command_and_the_first_of_a_chunk():
    rows = servo_rows()
    rows["write_ns"][0] = 0
    assert startup.first_commands(rows) == (int(rows["write_ns"][1]), int(rows["write_ns"][2]))
    rows["write_ns"] = 0
    with pytest.raises(Unsound, match="none was written"):
        startup.first_commands(rows)


# --- imports ---

IMPORTTIME = """\
import time: self [us] | cumulative | imported package
import time:       300 |        300 |   encodings
import time:       200 |        500 | site
import time:        40 |         40 |     numpy.core
import time:       100 |        140 |   numpy
import time:         7 |          7 |   json
import time:        50 |        197 | edgevla.cli.run
a line of somebody else
"""


def test_imports_are_summed_by_package_and_the_interpreter_stands_apart():
    cost = imports.cost_of(imports.parse(IMPORTTIME))
    assert cost.total_us == 697
    assert cost.packages == {"interpreter start": 500, "numpy": 140, "edgevla": 50, "standard library": 7}
    assert list(cost.packages) == ["interpreter start", "numpy", "edgevla", "standard library"]
    assert (cost.slowest[0].name, cost.slowest[0].self_us) == ("encodings", 300)


# --- memory ---


def test_peaks_are_read_for_a_process_and_all_below_it(tmp_path):
    for pid, parent, module, peak in (
        (10, 1, "edgevla.cli.entry", 50), (11, 10, "edgevla.policy.process", 80),
        (12, 11, "somebody.else", 70), (13, 1, "edgevla.control.servo", 60),
    ):  # fmt: skip
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (python (3)) S {parent} 0 0")
        (folder / "cmdline").write_bytes(f"python\0-m\0{module}\0".encode())
        (folder / "status").write_text(f"Name:\tpython\nVmHWM:\t{peak} kB\n")
    watch = resident.Resident(10, tmp_path)
    watch.look()
    (tmp_path / "11" / "status").write_text("VmHWM:\t90 kB\n")
    (tmp_path / "10" / "status").unlink()
    watch.look()
    assert watch.peaks == {"run": 50 * 1024, "policy": 90 * 1024}


def test_the_arena_is_what_the_allocator_says_and_nothing_where_it_is_silent():
    told = [{"args": {"mem_arena_held": "300", "mem_in_use_peak": "200"}}, {"args": {"mem_arena_held": "500"}}, {}]
    arena = arena_of(told)
    assert (arena.held_bytes, arena.in_use_bytes) == (500, 200)
    assert arena_of([{"args": {}}]) is None


# --- operators ---


def test_an_operator_is_joined_to_the_node_whose_tensor_it_makes():
    product = helper.make_node("MatMul", ["x", "w"], ["h"], "product")
    given = helper.make_graph([product, helper.make_node("Gelu", ["h"], ["y"], "bend")], "g", [], [])
    fused = helper.make_node("FusedMatMulGelu", ["x", "w"], ["y"], "product_bend_fused")
    own = helper.make_node("ReorderInput", ["x"], ["x_reordered"], "reorder")
    assert origins_of(helper.make_graph([fused, own], "g", [], []), given) == {"product_bend_fused": "bend"}


def test_a_weight_that_a_kernel_has_packed_is_moved_too():
    node_ = helper.make_node("DynamicQuantizeMatMul", ["x", "w"], ["y"], "product")
    weight = numpy_helper.from_array(np.zeros((5, 7), np.int8), "w")
    graph = helper.make_graph(
        [node_], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])], [], [weight]
    )
    args = {
        "op_name": "DynamicQuantizeMatMul",
        "input_type_shape": [{"float": [2, 5]}],
        "output_type_shape": [{"float": [2, 7]}],
    }
    event = {"cat": "Node", "name": "product_kernel_time", "dur": 5, "args": args}
    (found,) = operators([event], graph, 0.0)
    assert (found.bytes, found.multiply_adds, found.name) == (4 * 10 + 4 * 14 + 35, 70, "product")


def test_a_graph_lies_under_the_lower_of_two_ceilings():
    product = Operator(
        "MatMulIntegerToFloat", True, 100.0, 20_000_000, 1_000_000
    )  # 0.1 ms at 400 Gop/s, 0.1 at 10 GB/s
    copy = Operator("Transpose", False, 50.0, 0, 1_000_000)  # 0.1 ms more of memory
    at = position("head", [product, copy], 0.8, PEAKS)
    assert (at["bound"], at["floor_us"], at["share_of_ceiling"]) == ("memory", 200.0, 0.25)
    assert (at["intensity"], at["reached_gops"], at["ceiling_gops"]) == (20.0, 50.0, 200.0)
    assert position("head", [product], 0.8, PEAKS)["bound"] == "compute"


# --- the flame ---


def small_profile():
    rows = [
        {"stage": "graph:head", "class": kind, "type": op, "name": op, "origin": op.lower(), "total_us": us}
        for kind, op, us in (
            ("int8 matmul", "QGemm", 60.0),
            ("int8 matmul", "QLinearMatMul", 20.0),
            ("softmax", "Softmax", 40.0),
        )
    ]
    interval = {
        "capture": 10.0,
        "policy": {"preprocess": 5.0, "graph:head": 60.0},
        "servo": {"send": 25.0},
        "replan_s": 0.1,
    }
    return {"operators": rows, "interval": interval, "roofline": {"graphs": [{"name": "head", "wall_us": 150.0}]}}


def test_the_flame_has_process_stage_class_and_operator():
    root = flame.tree(small_profile())
    assert [(child.name, child.us) for child in root.children] == [("camera", 10.0), ("policy", 65.0), ("servo", 25.0)]
    head = root.children[1].children[0]
    assert (head.name, head.us) == ("graph:head", 60.0)
    assert [(kind.name, kind.us) for kind in head.children] == [("int8 matmul", 40.0), ("softmax", 20.0)]
    assert [operator.name for operator in head.children[0].children] == ["QGemm qgemm", "QLinearMatMul qlinearmatmul"]


def test_operators_that_are_less_than_their_graph_leave_the_rest_open():
    head = flame.graph_tree(small_profile()).children[0]
    assert (head.us, sum(kind.us for kind in head.children)) == (150.0, 120.0)


@pytest.mark.parametrize("width", [372, 1080])
def test_every_bar_says_its_time(width):
    svg = flame.draw(flame.tree(small_profile()), width, "wide")
    assert svg.count("<title>") == svg.count("<rect") == 13
    assert "graph:head: 60.0 µs, 60.0 %" in svg
