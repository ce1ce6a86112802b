"""Finishing computes what the artifact computes: against the real quantizer and ONNX Runtime, and by hand."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgevla.policy.engine import open_session
from export.distill import qat
from export.onnx.stages import export_stage
from export.quantize.artifact import quantize
from export.students.onepass import OnePassStudent, StudentConfig


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    made = OnePassStudent(StudentConfig(vocabulary=0, width=128, heads=2, picture_height=32, picture_width=48)).eval()
    with torch.no_grad():
        for layer in qat.quantized_layers(made).values():  # some channels far larger than others, as after training
            layer.weight.mul_(torch.logspace(-1, 1, len(layer.weight))[torch.randperm(len(layer.weight))][:, None])
    return made


def run_int8(student, seed):
    """Inputs, the int8 graphs' answers by ONNX Runtime, and torch's, per stage."""
    torch.manual_seed(seed)
    for spec in student.stages():
        feeds = {name: torch.randn_like(value) for name, value in spec.inputs.items()}
        if "prefix_mask" in feeds:
            feeds["prefix_mask"] = spec.inputs["prefix_mask"]
        graph = quantize(export_stage(spec), "dynamic-s8")
        products = [n for n in onnx.load_model_from_string(graph).graph.node if n.op_type == "MatMulInteger"]
        session = open_session(graph, spec.name)
        got = session.run(None, {name: value.numpy() for name, value in feeds.items()})[0]
        yield spec, feeds, got, len(products)


def relative(got, expected):
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


def test_finishing_for_dynamic_s8_answers_what_the_int8_graph_answers(student):
    ran = list(run_int8(student, 1))
    with torch.inference_mode():
        in_float = [spec.module(*feeds.values()).numpy() for spec, feeds, *_ in ran]
        count = qat.start_finishing(student, "dynamic-s8", lambda: None)
        as_int8 = [spec.module(*feeds.values()).numpy() for spec, feeds, *_ in ran]
        qat.stop_finishing(student)
        again = [spec.module(*feeds.values()).numpy() for spec, feeds, *_ in ran]
    assert count == sum(products for *_, products in ran) > 10
    for (spec, _, got, _), plain, fake, after in zip(ran, in_float, as_int8, again, strict=True):
        assert relative(got, fake) < 1e-3, spec.name
        assert relative(got, plain) > 3e-3, spec.name  # int8 does move the answer: the equality above says something
        assert (plain == after).all()


def test_the_layers_of_the_words_and_small_ones_stay_in_float():
    made = OnePassStudent(StudentConfig(vocabulary=30, width=128, heads=2))
    names = set(qat.quantized_layers(made))
    assert not [name for name in names if name.startswith("text.")]
    assert "tokens.embed" not in names  # 20 numbers in: quantizing costs more than it saves
    assert {"stem.embed", "encoder.0.attention.query", "head.0.mlp.2"} <= names


def test_activations_are_quantized_per_sample_with_zero_inside_by_hand():
    """[-1, 0, 4]: scale 5 / 255, zero-point 51; a sample of positive numbers starts at zero all the same."""
    x = torch.tensor([[-1.0, 0.0, 4.0], [51.0, 102.0, 255.0]])
    numbers, scale = qat.dynamic_u8(x)
    assert scale.flatten().tolist() == pytest.approx([5 / 255, 1.0])
    assert numbers.tolist() == [[-51.0, 0.0, 204.0], [51.0, 102.0, 255.0]]


def test_rounding_is_to_even_and_passes_its_gradient():
    x = torch.tensor([0.5, 1.5, -2.5, 0.7], requires_grad=True)
    out = qat.whole_numbers(x)
    out.sum().backward()
    assert out.tolist() == [0.0, 2.0, -2.0, 1.0]
    assert x.grad.tolist() == [1.0] * 4


def test_the_gradient_of_a_finishing_layer_is_close_to_that_of_the_float_one():
    torch.manual_seed(0)
    layer, x = nn.Linear(128, 128), torch.randn(8, 5, 128)
    layer(x).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    layer.register_buffer("ratio", qat.grid_ratios(layer.weight), persistent=False)
    layer.__class__ = qat.DynamicS8Linear
    layer(x).square().sum().backward()
    assert torch.nn.functional.cosine_similarity(layer.weight.grad.flatten(), expected.flatten(), dim=0) > 0.999


def test_finishing_for_trt_takes_one_scale_a_layer_from_the_first_batch(student):
    layers = qat.quantized_layers(student)
    inputs = {"image": torch.randn(3, 1, 32, 48, 3), "state": torch.randn(3, 4)}
    rest = (torch.randn(3, 32, 4), torch.zeros(3, 32, 4), torch.zeros(3, 32, 1))
    with torch.no_grad():
        plain = student(inputs, *rest)[0]
        qat.start_finishing(student, "trt", lambda: student(inputs, *rest))
        fake = student(inputs, *rest)[0]
    largest = student.stem.patches(inputs["image"].flatten(0, 1)).abs().max()
    assert layers["stem.embed"].input_scale.item() == pytest.approx(largest.item() / 127)
    qat.stop_finishing(student)
    assert 1e-4 < relative(fake.numpy(), plain.numpy()) < 0.2
    assert not [name for name in student.state_dict() if "scale" in name or "ratio" in name]


def test_under_autocast_the_finishing_layer_is_still_exact_but_for_the_last_digits():
    torch.manual_seed(0)
    layer, x = nn.Linear(128, 128), torch.randn(4, 128)
    layer.register_buffer("ratio", qat.grid_ratios(layer.weight), persistent=False)
    layer.__class__ = qat.DynamicS8Linear
    with torch.no_grad():
        exact = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert relative(layer(x).numpy(), exact.numpy()) < 4e-3  # one rounding of the sum to 8 bits
