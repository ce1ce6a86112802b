"""Peers: one model in every engine answers alike, each window survives a stop, each row says what it is worth."""

import json
import os

import numpy as np
import pytest

from bench.peers import loops, plan
from bench.peers.case import Case, load, load_frames, save, save_frames
from bench.peers.command import all_windows, thread_counts
from bench.peers.contender import Contender
from bench.peers.engines import OURS, PEERS, REFERENCE
from bench.peers.make import _float16, from_bundle, smolvla
from bench.peers.models import Engines, error_of, free_bytes, groups, rows, window
from bench.peers.modules import weights_from_graphs, whole
from bench.peers.table import COLUMNS, table
from edgevla.errors import BadInput, Usage
from edgevla.telemetry.interleaved import quantile_ratio
from export.onnx.stages import export_stage
from export.quantize.artifact import quantize
from export.students.onepass import OnePassStudent

SIZES = {"vocabulary": 5, "picture_height": 32, "picture_width": 32, "width": 128, "heads": 2, "horizon": 8, "d_max": 2}
EVERY = ("vision", "head")


@pytest.fixture(scope="module")
def student():
    """Weights that are not the seed's: what is read back from the graphs must be these."""
    import torch

    torch.manual_seed(7)
    made = OnePassStudent.from_config(SIZES).eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.05 * torch.randn(tensor.shape))
    return made


@pytest.fixture(scope="module")
def graphs(student):
    return {stage.name: export_stage(stage) for stage in student.stages()}


@pytest.fixture(scope="module")
def folder(student, graphs, tmp_path_factory):
    """A case as `bench.peers.make` leaves it, of a tiny student."""
    path = tmp_path_factory.mktemp("case")
    outside = {}
    for stage in student.stages():
        if stage.name in EVERY:
            (path / f"{stage.name}.fp32.onnx").write_bytes(graphs[stage.name])
            (path / f"{stage.name}.int8.onnx").write_bytes(quantize(graphs[stage.name], "dynamic-s8"))
            (path / f"{stage.name}.fp16.onnx").write_bytes(_float16(graphs[stage.name]))
            outside |= {name: tensor.numpy() for name, tensor in stage.inputs.items() if name != "vision"}
    dice = np.random.default_rng(0)
    frames = {name: np.concatenate([value, value]) for name, value in outside.items()}
    frames["image"] = dice.uniform(-1, 1, frames["image"].shape).astype(np.float32)
    save_frames(path, frames)
    np.savez(path / "weights.npz", **weights_from_graphs(SIZES, graphs))
    case = Case(
        "tiny", student.parameters_total, "for tests", EVERY, {"vision": ("vision",), "head": ("chunk",)}, 4,
        "cpu-dynamic-s8", {"kind": "student", "config": SIZES},
    )  # fmt: skip
    save(path, case)
    return path


def test_weights_come_back_from_the_graphs_as_they_were(student, graphs):
    found = weights_from_graphs(SIZES, graphs)
    for name, tensor in student.state_dict().items():
        assert found[name] == pytest.approx(tensor.numpy(), abs=0), name


def test_graphs_of_another_student_hold_no_weights_of_this_one(graphs):
    with pytest.raises(BadInput, match="in the FP32 graphs"):
        weights_from_graphs({**SIZES, "width": 192}, graphs)


@pytest.mark.parametrize(
    ("peer", "most"),
    [
        (REFERENCE, 0.0),
        ("torch eager", 1e-4),
        ("onnxruntime fp16", 0.01),
        ("openvino auto", 0.2),
        (OURS, 0.05),
    ],  # bfloat16 has 8 bits, and random weights no margin
)
def test_every_engine_answers_as_the_reference_does(folder, peer, most):
    case, frames = load(folder), load_frames(folder)
    reference, run = PEERS[REFERENCE].open(case, folder, 1), PEERS[peer].open(case, folder, 1)
    expected, got = (np.concatenate([np.array(call(one)) for one in frames]) for call in (reference, run))
    assert got.shape == (2, 8, 4)
    assert error_of(expected, got)["relative_rms"] <= most


@pytest.mark.slow
def test_the_compiled_one_answers_too(folder, tmp_path):
    contender = Contender(folder, "torch.compile", 1, tmp_path, settle=0)
    try:
        assert contender.failed == ""
        contender()
        assert contender.last["ns"] > 0
        contender.answers(tmp_path / "a.npy")
    finally:
        contender.close()
    expected = PEERS[REFERENCE].open(load(folder), folder, 1)(load_frames(folder)[0])
    assert np.load(tmp_path / "a.npy")[:1] == pytest.approx(expected, abs=1e-4)


def test_a_window_runs_each_in_a_process_of_its_own_and_says_why_one_could_not(folder, tmp_path):
    peers = (REFERENCE, "openvino nncf int8", OURS)  # NNCF made nothing here
    with Engines(tmp_path) as engines:
        told = window(engines, folder, 1, peers, rounds=4, settle=0, seed=0)
        assert len(engines.open_ones) == 3  # small ones stay open
    assert "nncf" in told["failed"]["openvino nncf int8"]
    assert {len(ns) for run in told["ns"] for ns in run.values()} == {4}
    assert told["errors"][REFERENCE]["relative_rms"] == 0
    assert 0 < told["errors"][OURS]["relative_rms"] < 0.05
    assert told["rss_mb"][OURS] > 10
    found = {row["peer"]: row for row in rows(load(folder), "tiny", 1, [told, told])}
    assert found[REFERENCE]["rounds"] == 8
    assert found[REFERENCE]["times_ours"]["low"] <= found[REFERENCE]["times_ours"]["median"]
    assert found[OURS]["times_ours"] is None
    shown = table(list(found.values()))
    assert all(len(row) == len(COLUMNS) for row in shown)
    assert "could not run" in shown[1][-1]


def test_the_smallest_smolvla_is_made_and_its_torch_module_is_its_graphs(tmp_path):
    case = smolvla(tmp_path, "tiny", tmp_path)
    assert case.stages == ("vision", "prefix", "head")
    assert case.failed == {}  # float16 and NNCF could be made
    frame = load_frames(tmp_path)[0]
    answers = {name: np.array(PEERS[name].open(case, tmp_path, 1)(frame)) for name in (REFERENCE, "torch eager")}
    assert answers["torch eager"] == pytest.approx(answers[REFERENCE], abs=1e-4)
    assert PEERS["openvino nncf int8"].open(case, tmp_path, 1)(frame).shape == (1, 8, 6)
    assert whole(case, tmp_path).names[0] == "image"


def test_a_bundle_whose_student_is_not_ours_runs_everywhere_but_in_torch(tiny_bundle_path, tmp_path):
    case = from_bundle(tmp_path, tiny_bundle_path, None)
    assert "golden" in case.note
    assert "torch" in case.failed
    assert PEERS[OURS].open(case, tmp_path, 1)(load_frames(tmp_path)[0]).shape[-1] >= case.actions
    with pytest.raises(BadInput, match="only its graphs run"):
        PEERS["torch eager"].open(case, tmp_path, 1)


def test_answers_that_are_no_numbers_are_said_so():
    assert error_of(np.ones((1, 2, 3)), np.full((1, 2, 3), np.nan)) == {"finite": False}


def test_what_does_not_fit_beside_each_other_runs_in_groups_with_ours_in_each():
    case = Case("large", 450_000_000, "", (), {}, 6, "int8")
    few = groups(case, tuple(PEERS), 64 * 10**9)
    many = groups(case, tuple(PEERS), 10 * 10**9)
    assert len(few) == 1
    assert sorted(few[0]) == sorted(PEERS)
    assert len(many) > 1
    assert all(group[0] == OURS for group in many)
    assert sorted(name for group in many for name in group if name != OURS) == sorted(n for n in PEERS if n != OURS)
    assert free_bytes() > 0


WINDOWS = [plan.Window("bus", i, name, 0, "", 10.0) for i in range(2) for name in ("a", "b")]


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    state, seen, said = tmp_path / "windows.json", [], []

    def measure(window):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(window.key)
        return {"value": len(seen)}

    with pytest.raises(KeyboardInterrupt):
        plan.run(WINDOWS, measure, state, {"cpu": "x"}, said.append, lambda: 0.0)
    assert len(json.loads(state.read_text())["done"]) == 2
    done = plan.run(WINDOWS, lambda window: {"value": 0}, state, {"cpu": "x"}, said.append, lambda: 0.0)
    assert [told["found"]["value"] for told in done.values()] == [1, 2, 0, 0]
    assert said[0] == "window 1 of 4: a  (1 min left)"
    with pytest.raises(Usage, match="of another run"):
        plan.run(WINDOWS, measure, state, {"cpu": "y"}, said.append, lambda: 0.0)
    state.write_text("{")
    with pytest.raises(BadInput, match="cannot be continued"):
        plan.run(WINDOWS, measure, state, {"cpu": "x"}, said.append, lambda: 0.0)


def test_every_repetition_is_in_another_order_and_whole():
    many = [plan.Window("bus", i, str(n)) for i in range(3) for n in range(8)]
    found = plan.ordered(many, seed=1)
    assert [w.repetition for w in found] == [0] * 8 + [1] * 8 + [2] * 8
    orders = [[w.what for w in found if w.repetition == i] for i in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(sorted(order) == [str(n) for n in range(8)] for order in orders)


def test_time_left_is_what_windows_like_it_took():
    done = {"x": {"window": vars(WINDOWS[0]), "took_s": 33.0, "found": {}}}
    assert plan.left_s(WINDOWS[1:], done) == 10.0 + 33.0 + 10.0


def test_one_thread_and_all_cores_are_columns():
    assert thread_counts() == sorted({1, len(os.sched_getaffinity(0))})


def test_the_design_names_every_contender():
    from types import SimpleNamespace

    asked = SimpleNamespace(
        repetitions=2, parts=("models", "loops", "buses"), seconds=5.0, loads=("idle",), protocols=("feetech",)
    )
    names = [(w.kind, w.what) for w in all_windows(asked, ["reference student", "SmolVLA 450 M, one pass"])]
    assert names.count(("model", "SmolVLA 450 M, one pass")) == len(thread_counts())
    assert names.count(("model", "reference student")) == 2 * len(thread_counts())
    assert all(names.count(("loop", name)) == 2 for name in loops.CONFIGURED)
    assert names.count(("bus", "feetech")) == 2


def loop_window(offset_us, count=200, **more):
    dice = np.random.default_rng(int(offset_us))
    intervals = 1e6 / 30 + offset_us * dice.choice([-1, 1], count) * dice.uniform(0.9, 1.1, count)
    return {"failed": "", "interval_us": intervals.tolist(), "cpu_share": 0.1, **more}


def test_rows_of_loops_hold_deviation_rate_and_times_ours():
    windows = {
        loops.LEROBOT: [loop_window(500), loop_window(600)],
        loops.OURS: [loop_window(50, wake_us=[10.0] * 20)],
        loops.YARDSTICK: [{"failed": "", "wake_us": [5.0, 6.0, 7.0]}],
        loops.PLAIN: [{"failed": "the arm went away"}],
    }
    found = {row["peer"]: row for row in loops.rows(30, "idle", windows)}
    ratio = found[loops.LEROBOT]["times_ours"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    assert ratio["median"] == pytest.approx(12, rel=0.1)
    assert found[loops.LEROBOT]["missed"] == 0
    assert found[loops.LEROBOT]["rate_hz"] == pytest.approx(30, rel=0.01)
    assert "deviation" not in found[loops.YARDSTICK]
    assert found[loops.YARDSTICK]["wake"]["max_us"] == 7.0
    assert "went away" in found[loops.PLAIN]["failed"]
    assert len(table(list(found.values()))) == 4


def test_the_ratio_of_a_quantile_lies_in_its_interval():
    dice = np.random.default_rng(0)
    found = quantile_ratio(3 * dice.uniform(1, 2, 500), dice.uniform(1, 2, 400), 0.99)
    assert found.low <= 3.0 <= found.high
    assert found.high - found.low < 0.3
    with pytest.raises(ValueError, match="samples"):
        quantile_ratio([1.0], [1.0, 2.0], 0.5)


def test_our_loop_drives_the_virtual_arm_and_a_missing_library_is_a_reason(tmp_path):
    setup = loops.Setup(30, 2.0, tmp_path / "no python", tmp_path)
    told = loops.window(setup, loops.PLAIN, "idle")
    if not told["failed"]:  # a host so busy that the arm fell silent says so, which is a row too
        assert len(told["interval_us"]) > 30
        assert told["granted"] is False or os.geteuid() == 0
    else:
        assert "loop ended" in told["failed"]
    assert "setup_lerobot.sh" in loops.window(setup, loops.LEROBOT, "idle")["failed"]


def test_why_an_engine_did_not_run_is_one_line():
    failed = "BadInput: nncf.xml\n  expected: a model\n  got:      KeyError"
    row = {"kind": "model", "subject": "student", "parameters": 3e6, "peer": "nncf", "threads": 1, "failed": failed}
    assert table([row])[0][-1] == "could not run: BadInput: nncf.xml expected: a model got: KeyError"
