"""Parity: the comparison itself in hand-worked numbers, then torch, ONNX FP32 and int8 of a small student."""

import numpy as np
import pytest
import torch

from edgevla.errors import Refused
from edgevla.policy.engine import open_session
from export.onnx.chain import onnx_stage, run_chain
from export.onnx.stages import StageSpec, export_stage
from export.parity.stages import StageParity, Tally, first_diverging, require_float_parity, stage_parity
from export.quantize.dynamic import quantize
from export.students.onepass import OnePassStudent, StudentConfig

FRAMES = 4
SCALE = np.array([0.01, 0.01, 0.01, 1.0])


def compare(expected, got):
    tally = Tally()
    for row, answer in zip(expected, got, strict=True):
        tally.add([row], [answer])
    return tally.row("head", "int8", np.ones(1))


def test_the_comparison_in_numbers_worked_out_by_hand():
    """Row 0: equal. Row 1: (3, 4) against (4, 3): cosine 24 / 25, off by 1 twice. Mean square 2 / 4 over 50 / 4."""
    row = compare(np.array([[3.0, 4.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [4.0, 3.0]]))
    assert (row.stage, row.format, row.frames) == ("head", "int8", 2)
    assert row.cosine_min == pytest.approx(0.96)
    assert row.cosine_p1 == pytest.approx(0.96 + 0.01 * 0.04)
    assert row.max_abs == pytest.approx(1.0)
    assert row.relative_rms == pytest.approx((2 / 50) ** 0.5)


def test_the_error_of_a_chunk_is_told_in_the_unit_of_each_channel():
    tally = Tally()
    tally.add([np.zeros((1, 2, 2))], [np.zeros((1, 2, 2))])
    tally.add_chunk(np.zeros((1, 2, 2)), np.array([[[0.5, 0.0], [-1.0, 0.25]]]))
    assert tally.row("whole", "int8", np.array([0.01, 4.0])).max_action == pytest.approx((0.01, 1.0))


def test_equal_answers_differ_by_nothing_whatever_their_shape():
    values = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    row = compare(values, values)
    assert row.cosine_min == pytest.approx(1.0)
    assert (row.max_abs, row.relative_rms) == (0.0, 0.0)


def test_an_answer_of_zeros_divides_by_nothing():
    row = compare(np.zeros((2, 3)), np.ones((2, 3)))
    assert np.isfinite([row.cosine_min, row.cosine_p1, row.max_abs, row.relative_rms]).all()
    assert row.relative_rms > 1


def rows(**errors):
    return [StageParity(name, "fp32", 1, 1.0, 1.0, 0.0, error) for name, error in errors.items()]


def test_the_gate_names_the_first_stage_that_diverges():
    with pytest.raises(Refused, match="parity of stage vision") as caught:
        require_float_parity(rows(text=1e-7, vision=2e-4, head=0.5, whole=0.5))
    assert "0.0002" in str(caught.value)


def test_the_gate_lets_rounding_pass_and_does_not_judge_int8():
    int8 = StageParity("head", "int8", 1, 0.9, 0.9, 0.1, 0.1)
    require_float_parity([*rows(text=1e-7, vision=9e-5, head=1e-6), int8])


def test_a_result_that_is_not_a_number_does_not_pass():
    with pytest.raises(Refused, match="parity of stage head"):
        require_float_parity(rows(text=1e-7, head=float("nan")))


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    specs = OnePassStudent(StudentConfig(vocabulary=30, width=128, heads=2)).eval().stages()
    floats = {spec.name: export_stage(spec) for spec in specs}
    sessions = {
        "fp32": {name: open_session(graph, name) for name, graph in floats.items()},
        "int8": {name: open_session(quantize(graph), name) for name, graph in floats.items()},
    }
    return specs, sessions


@pytest.fixture(scope="module")
def frames():
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(32)[None] < torch.tensor([0, 2, 5, 8])[:, None]).float()[..., None]
    whole = {
        "image": torch.rand((FRAMES, 1, 96, 96, 3), generator=generator) * 2 - 1,
        "tokens": torch.randint(1, 30, (FRAMES, 16), generator=generator),
        "state": torch.randn((FRAMES, 4), generator=generator),
        "noise": torch.randn((FRAMES, 32, 4), generator=generator),
        "prefix": torch.randn((FRAMES, 32, 4), generator=generator) * mask,
        "prefix_mask": mask,
    }
    return [{name: value[i : i + 1].numpy() for name, value in whole.items()} for i in range(FRAMES)]


def test_float_graphs_equal_torch_and_int8_ones_are_near(student, frames):
    told = stage_parity(*student, frames, SCALE)
    assert [(r.format, r.stage) for r in told] == [
        (form, stage) for form in ("fp32", "int8") for stage in ("text", "vision", "head", "whole")
    ]
    require_float_parity(told)
    assert all(r.max_abs <= 1e-4 for r in told if r.format == "fp32")
    assert all(1e-4 < r.relative_rms < 0.1 for r in told if r.format == "int8" and r.stage != "text")


def test_a_graph_swapped_for_another_is_found_in_its_own_stage_and_in_the_whole(student, frames):
    specs, sessions = student
    torch.manual_seed(9)
    others = OnePassStudent(StudentConfig(vocabulary=30, width=128, heads=2)).eval().stages()
    wrong = open_session(export_stage(others[1]), "vision")
    told = stage_parity(specs, {"fp32": {**sessions["fp32"], "vision": wrong}}, frames, SCALE)
    broken = {r.stage for r in told if r.relative_rms > 1e-4}
    assert broken == {"vision", "whole"}  # head is fed by torch: the error stays where it is made
    with pytest.raises(Refused, match="stage vision"):
        require_float_parity(told)
    assert first_diverging(told, "fp32", 1e-4).stage == "vision"


class Context(torch.nn.Module):
    def forward(self, state):
        return state.sum(-1, keepdim=True), state * 2


class Step(torch.nn.Module):
    def forward(self, total, double, noisy, t):
        return noisy * t[:, None, None] + total[..., None] + double.mean()


def test_a_flow_of_several_steps_and_a_stage_of_two_answers_are_chained():
    state, noise = torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, 3)
    specs = [
        StageSpec("context", Context(), {"state": state}, ("total", "double")),
        StageSpec(
            "step",
            Step(),
            {"total": torch.ones(1, 1), "double": torch.ones(1, 2), "noisy": noise, "t": torch.ones(1)},
            ("chunk",),
            times=(1.0, 0.5),
        ),
    ]
    sessions = {"fp32": {spec.name: open_session(export_stage(spec), spec.name) for spec in specs}}
    frame = {"state": state.numpy(), "noise": noise.numpy()}
    # total 3, mean of the doubles 3: 1 -> 1 + 6 -> 3.5 + 6
    assert (run_chain(specs, frame, onnx_stage(sessions["fp32"]))["chunk"] == 9.5).all()
    told = stage_parity(specs, sessions, [frame], np.array([1.0, 1.0]))
    assert [row.stage for row in told] == ["context", "step", "whole"]
    require_float_parity(told)
