"""What every quantizer needs to know about a graph: its products with a constant weight, their names, their readers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgevla.errors import BadInput, Usage, explain

Float32 = npt.NDArray[np.float32]
MIN_SIDE = 128  # a weight with a shorter side saves less than quantizing its activation costs
MIN_CONV_SIDE = 32  # the same for convolutions, on a GPU only; not measured here
SMALL = 1024  # elements: an initializer up to this size may be a shape
PRODUCTS = ("MatMul", "Gemm", "Conv")
_WRAPPERS = ("student.", "teacher.", "policy.")  # modules that an exporter puts around the model


@dataclass(frozen=True)
class Product:
    """A MatMul, Gemm or Conv whose second input is a constant weight."""

    node: str
    op: str
    activation: str  # tensor
    weight: str  # initializer
    shape: tuple[int, ...]  # of the weight
    axis: int  # of the weight that is the output channel

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def depth(self) -> int:
        """Multiply-adds behind each output element."""
        return math.prod(self.shape) // self.channels


def load(graph: bytes) -> onnx.ModelProto:
    """The graph with a name on every node and no shapes but those of its interface: written down, they may be stale.

    Raises:
        BadInput: not an ONNX model, or its inputs have no fixed shape.
    """
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own, which has no type stubs
        raise BadInput(explain("graph", "an ONNX model", str(error), "export it again")) from error
    if not model.graph.node:
        raise BadInput(explain("graph", "an ONNX model", "one without nodes", "export it again"))
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in initializers and not all(dim.HasField("dim_value") for dim in dims):
            got = [dim.dim_param or dim.dim_value or "?" for dim in dims]
            raise BadInput(explain(f"input {value.name}", "a static shape", got, "export it with fixed sizes"))
    del model.graph.value_info[:]
    _name_nodes(model)
    return model


def _name_nodes(model: onnx.ModelProto) -> None:
    """Unnamed nodes and those with a name already taken get one from operator and position."""
    taken: set[str] = set()
    for position, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{position}"
        taken.add(node.name)


def products(model: onnx.ModelProto) -> list[Product]:
    """Every product with a constant weight of at least two dimensions, in the order of the graph."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in PRODUCTS and len(node.input) > 1 and len(shapes.get(node.input[1], ())) >= 2:
            shape = shapes[node.input[1]]
            found.append(Product(node.name, node.op_type, node.input[0], node.input[1], shape, output_axis(node)))
    return [p for p in found if p.op == "Conv" or len(p.shape) == 2]


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of the node's second input that becomes the output channel."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else -1


def worth_it(model: onnx.ModelProto, keep: frozenset[str], convolutions: bool = False) -> list[Product]:
    """The products to quantize: large enough, not kept; a Gemm only where it is MatMul + Add.

    Raises:
        Usage: `keep` names a node that is no product of this graph.
    """
    require_known(model, keep)
    plain = {node.name for node in model.graph.node if node.op_type != "Gemm" or is_plain_gemm(node)}
    chosen = []
    for p in products(model):
        if p.op == "Conv":
            large = convolutions and min(p.channels, p.depth) >= MIN_CONV_SIDE
        else:
            large = min(p.shape) >= MIN_SIDE
        if large and p.node in plain and p.node not in keep:
            chosen.append(p)
    return chosen


def require_known(model: onnx.ModelProto, keep: frozenset[str]) -> None:
    """Raises Usage if a name is no MatMul, Gemm or Conv of the graph."""
    known = {node.name for node in model.graph.node if node.op_type in PRODUCTS}
    if keep - known:
        expected = f"some of {', '.join(sorted(known)) or 'none'}"
        raise Usage(explain("nodes to keep in float", expected, ", ".join(sorted(keep - known)), "see layer_names()"))


def layer_names(graph: bytes) -> dict[str, str]:
    """Node -> the module it came from, such as `encoder.0.mlp.0`, for every product with a constant weight.

    The name comes from the weight or, as an exporter transposes weights and renames them, from the bias added next;
    a product that has neither keeps its node's name. Names are unique.
    """
    model = load(graph)
    adds = {node.input[i]: node.input[1 - i] for node in model.graph.node if node.op_type == "Add" for i in (0, 1)}
    outputs = {node.name: node.output[0] for node in model.graph.node}
    third = {node.name: node.input[2] for node in model.graph.node if node.op_type != "MatMul" and len(node.input) > 2}
    names = {}
    for p in products(model):
        bias = third.get(p.node) or adds.get(outputs[p.node], "")
        names[p.node] = _module(p.weight, ".weight") or _module(bias, ".bias") or p.node
    count = Counter(names.values())
    return {node: name if count[name] == 1 else f"{name} ({node})" for node, name in names.items()}


def _module(parameter: str, suffix: str) -> str:
    if not parameter.endswith(suffix):
        return ""
    name = parameter.removesuffix(suffix)
    wrapper = next((w for w in _WRAPPERS if name.startswith(w)), "")
    return name.removeprefix(wrapper)


def split_gemms(model: onnx.ModelProto, nodes: Iterable[str]) -> None:
    """These plain Gemms as MatMul (same name, weight (K, N)) and Add, in place: one form for all quantizers."""
    wanted, weights = set(nodes), initializers(model)
    replaced = {}
    for node in model.graph.node:
        if node.op_type != "Gemm" or node.name not in wanted:
            continue
        weight = node.input[1]
        if attribute(node, "transB", 0):
            weight = f"{weight}_transposed"
            if weight not in weights:
                weights[weight] = numpy_helper.from_array(_array(weights[node.input[1]]).T.copy(), weight)
                model.graph.initializer.append(weights[weight])
        bias = node.input[2] if len(node.input) > 2 else ""
        product = f"{node.output[0]}_product" if bias else node.output[0]
        replaced[node.name] = [helper.make_node("MatMul", [node.input[0], weight], [product], node.name)]
        if bias:
            replaced[node.name] += [helper.make_node("Add", [product, bias], [node.output[0]], f"{node.name}_bias")]
    rewrite(model, replaced)


def is_plain_gemm(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is x @ W (+ b)."""
    scaled = attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    return not scaled and not attribute(node, "transA", 0)


def rewrite(model: onnx.ModelProto, replaced: Mapping[str, list[onnx.NodeProto]]) -> None:
    """Puts nodes in the place of others, by name, and drops weights that nothing reads any more. In place."""
    nodes = [new for node in model.graph.node for new in replaced.get(node.name, [node])]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    drop_initializers(model, {tensor.name for tensor in model.graph.initializer} - read)


def drop_initializers(model: onnx.ModelProto, names: set[str]) -> None:
    """In place, by position: protobuf's own `remove` compares the weights."""
    for position in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[position].name in names:
            del model.graph.initializer[position]


def readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor -> the nodes that read it."""
    found = defaultdict(list)
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            found[name].append(node)
    return dict(found)


def writers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor -> the node that writes it."""
    return {name: node for node in model.graph.node for name in node.output}


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-adds of one pass by node: matrix products, of weights and of activations, and convolutions. What depends
    on no input, as the first queries of a resampler, costs none: ONNX Runtime computes it once, when it loads."""
    shapes, moving = shapes_of(model), _depends_on_inputs(model)
    costs = {}
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.name not in moving:
            costs[node.name] = 0
        elif node.op_type in PRODUCTS:
            first, second = shapes[node.input[0]], shapes[node.input[1]]
            transposed = node.op_type == "Gemm" and attribute(node, "transA", 0)
            depth = math.prod(second[1:]) if node.op_type == "Conv" else first[0 if transposed else -1]
            costs[node.name] = math.prod(shapes[node.output[0]]) * depth
    return costs


def _depends_on_inputs(model: onnx.ModelProto) -> set[str]:
    """Names of nodes; the graph is in the order of its computation."""
    tensors = {value.name for value in model.graph.input} - set(initializers(model))
    nodes = set()
    for node in model.graph.node:
        if tensors & set(node.input):
            nodes.add(node.name)
            tensors |= set(node.output)
    return nodes


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Tensor -> its shape, inferred. Large weights do not travel through the inference, which copies the model."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > SMALL:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(light).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return shapes | {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def weight_of(model: onnx.ModelProto, name: str) -> Float32:
    """An initializer as float32."""
    return _array(initializers(model)[name])


def _array(tensor: onnx.TensorProto) -> Float32:
    return numpy_helper.to_array(tensor).astype(np.float32, copy=False)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or the default."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def finish(model: onnx.ModelProto) -> bytes:
    """Checked and serialised, without shapes of inner tensors and without metadata."""
    del model.graph.value_info[:]
    for holder in (model, model.graph, *model.graph.node):
        del holder.metadata_props[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
