"""Traps that others and we fell into. Each test shows the trap itself, then that our way round it holds."""

import onnx
import pytest
import torch
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from export.onnx.stages import _quiet
from export.quantize.artifact import KINDS, quantize
from export.quantize.readback import int8_share


@pytest.fixture(scope="module")
def fused(stages, tmp_path_factory):
    """The head after ONNX Runtime's pre-processing with its optimisation: MatMul + Add became Gemm."""
    folder = tmp_path_factory.mktemp("fused")
    (folder / "raw.onnx").write_bytes(stages["head"])
    quant_pre_process(folder / "raw.onnx", folder / "fused.onnx", skip_symbolic_shape=True)
    return (folder / "fused.onnx").read_bytes()


def count(graph, op):
    return sum(node.op_type == op for node in onnx.load_model_from_string(graph).graph.node)


def test_preprocessing_fuses_products_and_biases(stages, fused):
    assert count(fused, "Gemm") > count(stages["head"], "Gemm") + 10


def test_block_weights_of_a_fused_graph_are_not_lost(stages, fused):
    naive = MatMulNBitsQuantizer(onnx.load_model_from_string(fused), bits=8, block_size=32, is_symmetric=True)
    naive.process()
    lost = sum(node.op_type == "MatMulNBits" for node in naive.model.model.graph.node)
    assert lost < count(quantize(stages["head"], "nbits8"), "MatMulNBits") / 2  # the trap
    assert count(quantize(fused, "nbits8"), "MatMulNBits") == count(quantize(stages["head"], "nbits8"), "MatMulNBits")


def test_a_fused_graph_is_quantized_all_the_same(stages, fused):
    assert int8_share(quantize(fused, "dynamic-s8")) == int8_share(quantize(stages["head"], "dynamic-s8"))


def stale(graph):
    """The graph with shapes written down that are wrong, as a pass that changed it may leave them."""
    model = onnx.load_model_from_string(graph)
    names = [name for node in model.graph.node for name in node.output if name != model.graph.output[0].name]
    model.graph.value_info.extend(helper.make_tensor_value_info(n, 1, [1, 3, 7]) for n in names)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def raw_export():
    """A linear layer as torch wrote it, with shapes of inner tensors, before `export_stage` strips them."""
    with _quiet():
        program = torch.onnx.export(
            nn.Linear(128, 160).eval(), (torch.zeros(4, 128),), dynamo=True, opset_version=20, verbose=False
        )
    program.model_proto.ir_version = 10
    return program.model_proto.SerializeToString()


def test_shapes_in_a_raw_export_break_the_library_quantizer_but_not_ours(raw_export, tmp_path):
    source = tmp_path / "raw.onnx"
    source.write_bytes(raw_export)
    assert onnx.load_model_from_string(raw_export).graph.value_info
    with pytest.raises(Exception, match="Inferred shape and existing shape differ"):
        quantize_dynamic(source, tmp_path / "out.onnx", weight_type=QuantType.QInt8, per_channel=True)
    assert int8_share(quantize(raw_export, "dynamic-s8")) == 1.0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fp32"])
def test_stale_shapes_change_nothing_here(stages, feeds, kind):
    clean = quantize(stages["vision"], kind, calibration=feeds["vision"])
    assert quantize(stale(stages["vision"]), kind, calibration=feeds["vision"]) == clean
