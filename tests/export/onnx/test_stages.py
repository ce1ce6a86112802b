"""The exported graphs: the same numbers as torch, static, without control flow, and without traces of this machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgevla.errors import Refused
from edgevla.policy.engine import open_session
from export.onnx.stages import FORBIDDEN, StageSpec, export_stage, interface
from export.onnx.teacher import OnnxTeacher
from export.quantize.graph import load, multiply_adds
from export.students.onepass import OnePassStudent, StudentConfig

ROOT = Path(__file__).parents[3]
WIDTH = 128
STAGES = ("text", "vision", "head")


@pytest.fixture(scope="module")
def specs():
    torch.manual_seed(0)
    return OnePassStudent(StudentConfig(vocabulary=30, width=WIDTH, heads=2)).eval().stages()


@pytest.fixture(scope="module")
def graphs(specs):
    return {spec.name: export_stage(spec) for spec in specs}


def by_name(specs, name):
    return next(spec for spec in specs if spec.name == name)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_answers_what_torch_answers(specs, graphs, name):
    spec, session = by_name(specs, name), open_session(graphs[name], name)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        feeds = {
            key: torch.randint(0, 30, value.shape, generator=generator)
            if value.dtype == torch.int64
            else torch.randn(value.shape, generator=generator)
            for key, value in spec.inputs.items()
        }
        if "prefix_mask" in feeds:
            feeds["prefix_mask"] = (feeds["prefix_mask"] > 0).float()
        with torch.inference_mode():
            expected = spec.module(*feeds.values()).numpy()
        got = session.run(None, {key: value.numpy() for key, value in feeds.items()})[0]
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_of_the_promised_version_static_and_without_control_flow(graphs, name):
    model = onnx.load_model_from_string(graphs[name])
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    assert not {node.op_type for node in model.graph.node} & FORBIDDEN
    for tensor in (*model.graph.input, *model.graph.output):
        assert all(d.dim_value > 0 for d in tensor.type.tensor_type.shape.dim)


@pytest.mark.parametrize("name", STAGES)
def test_no_path_or_name_of_this_machine_is_inside(graphs, name):
    model = onnx.load_model_from_string(graphs[name])
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # random numbers can spell anything
    words = model.SerializeToString()
    for trace in (str(ROOT), "site-packages", ".py", "/home/", "/root", "/tmp"):
        assert trace.encode() not in words, trace


def test_the_interface_is_that_of_the_graph(specs, graphs):
    for spec in specs:
        told, session = interface(spec, f"model/{spec.name}.onnx"), open_session(graphs[spec.name], spec.name)
        assert [(t["name"], t["shape"]) for t in told["inputs"]] == [(i.name, i.shape) for i in session.get_inputs()]
        assert [(t["name"], t["shape"]) for t in told["outputs"]] == [(o.name, o.shape) for o in session.get_outputs()]
        assert told["file"] == f"model/{spec.name}.onnx"


class Branching(nn.Module):
    """A model whose graph needs an If."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


def test_a_model_that_branches_is_refused():
    with pytest.raises(Refused, match="stage branching") as caught:
        export_stage(StageSpec("branching", Branching(), {"x": torch.ones(3)}, ("y",)))
    assert "If" in str(caught.value)


def test_multiply_adds_are_counted_as_by_hand():
    """(5 x 8) times (8 x 3) is 120, its weight known; (5 x 3) times (3 x 5) of activations is 75."""

    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 3))

        def forward(self, x):
            y = x @ self.weight
            return y @ y.transpose(-1, -2)

    graph = export_stage(StageSpec("products", Products(), {"x": torch.randn(1, 5, 8)}, ("y",)))
    assert sorted(multiply_adds(load(graph)).values()) == [75, 120]


def test_multiply_adds_of_a_convolution_are_counted_as_by_hand():
    """4 x 4 places, 6 channels out, 3 x 3 x 2 in each: 16 * 6 * 18."""
    spec = StageSpec("conv", nn.Conv2d(2, 6, 3, 2, 1), {"x": torch.randn(1, 2, 8, 8)}, ("y",))
    assert list(multiply_adds(load(export_stage(spec))).values()) == [16 * 6 * 18]


def test_the_teacher_in_onnx_flows_to_where_torch_flows(teacher):
    config, generator = teacher.model.config, torch.Generator().manual_seed(3)
    image = torch.rand((1, 96, 96, 3), generator=generator) * 2 - 1
    tokens = torch.randint(1, 20, (1, config.max_tokens), generator=generator)
    state = torch.randn((1, config.state), generator=generator)
    noise, prefix = torch.randn((2, 1, config.horizon, config.actions), generator=generator)
    onnx_teacher = OnnxTeacher(teacher.model)
    for depth in (0, 3):
        mask = (torch.arange(config.horizon) < depth).float()[None, :, None]
        with torch.inference_mode():
            expected = teacher.model(image, tokens, state, noise, prefix * mask, mask).numpy()
        feeds = {"image": image.numpy(), "tokens": tokens.numpy(), "state": state.numpy()}
        got = onnx_teacher.infer(feeds, noise.numpy(), (prefix * mask).numpy(), mask.numpy())
        np.testing.assert_allclose(got, expected, atol=1e-4)
        assert (got[:, :depth] == (prefix * mask).numpy()[:, :depth]).all()


def test_a_stage_too_large_for_one_file_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr("export.onnx.stages.MAX_BYTES", 4 * 64 * 64)
    layer = StageSpec("layer", nn.Linear(64, 64), {"x": torch.zeros(1, 64)}, ("y",))
    with pytest.raises(Refused, match=r"stage layer.*\n.*at most 1\.6384e-05 GB"):
        export_stage(layer)
