"""A real small policy as two graphs: vision (image -> 6 tokens) and head (chunk of 8 rows, 4 channels), 256 wide."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevla.bundle.manifest import ActionChannel

WIDTH, ROWS = 256, 8
CHANNELS = (
    *(ActionChannel(n, "delta", "cartesian", "world", "m", 0.01, 0.0, -0.5, 0.5) for n in "xyz"),
    ActionChannel("gripper", "absolute", "gripper", "gripper", "1", 1.0, 0.0, -1.0, 1.0),
)


def graph(name, inputs, output, nodes, weights):
    """A checked graph; shapes by name, weights as arrays."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (*inputs.items(), output)]
    constants = [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    body = helper.make_graph(nodes, name, values[:-1], values[-1:], constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _weight(rng, rows, columns):
    return (rng.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)


def policy_graphs(outliers: float = 1.0) -> dict[str, bytes]:
    """`outliers` scales one input channel of `vision`'s second layer: int8 loses what is small beside it."""
    rng = np.random.default_rng(0)
    first, second = _weight(rng, 192, WIDTH), _weight(rng, WIDTH, WIDTH)
    first[:, 0] *= outliers
    second[0] /= outliers
    node = helper.make_node
    act = "Tanh" if outliers == 1 else "Relu"
    vision = graph(
        "vision", {"image": [1, 6, 192]}, ("vision", [1, 6, WIDTH]),
        [node("MatMul", ["image", "first.weight"], ["a"], "first"), node(act, ["a"], ["b"], "act"),
         node("MatMul", ["b", "second.weight"], ["vision"], "second")],
        {"first.weight": first, "second.weight": second},
    )  # fmt: skip
    head = graph(
        "head", {"vision": [1, 6, WIDTH], "text": [1, 1, WIDTH], "noise": [1, ROWS, 4], "prefix_mask": [1, ROWS, 1]},
        ("chunk", [1, ROWS, 4]),
        [node("Add", ["vision", "text"], ["c"], "add"), node("MatMul", ["c", "mlp.weight"], ["d"], "mlp"),
         node("ReduceMean", ["d", "axes"], ["e"], "mean"), node("MatMul", ["e", "out.weight"], ["f"], "out"),
         node("Reshape", ["f", "rows"], ["g"], "reshape"), node("Sub", ["one", "prefix_mask"], ["keep"], "free"),
         node("Add", ["g", "noise"], ["h"], "displace"), node("Mul", ["h", "keep"], ["chunk"], "hold")],
        {"mlp.weight": _weight(rng, WIDTH, WIDTH), "out.weight": _weight(rng, WIDTH, 4 * ROWS), "one": np.float32(1),
         "axes": np.array([1]), "rows": np.array([1, ROWS, 4])},
    )  # fmt: skip
    words = [node("MatMul", ["tokens", "word.weight"], ["text"], "word")]
    text = graph("text", {"tokens": [1, 1, 4]}, ("text", [1, 1, WIDTH]), words, {"word.weight": _weight(rng, 4, WIDTH)})
    return {"text": text, "vision": vision, "head": head}


def policy_frames(count, seed=1):
    """Feeds of one frame each."""
    rng = np.random.default_rng(seed)
    shapes = {"tokens": (1, 1, 4), "image": (1, 6, 192), "noise": (1, ROWS, 4)}
    mask = (np.arange(ROWS) < 2).astype(np.float32)[None, :, None]
    frames = []
    for _ in range(count):
        feeds = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        frames.append({**feeds, "prefix_mask": mask})
    return frames


def flow_step() -> bytes:
    """noisy, t, context -> chunk = noisy + t + context: two steps give noise + t0 + t1 + 2 context."""
    node = helper.make_node
    nodes = [node("Add", ["noisy", "t"], ["a"], "time"), node("Add", ["a", "context"], ["chunk"], "go")]
    return graph("step", {"noisy": [1, 2, 1], "t": [1], "context": [1, 2, 1]}, ("chunk", [1, 2, 1]), nodes, {})


def context() -> bytes:
    """image -> context, twice the image."""
    nodes = [helper.make_node("Add", ["image", "image"], ["context"], "twice")]
    return graph("context", {"image": [1, 2, 1]}, ("context", [1, 2, 1]), nodes, {})


def both() -> bytes:
    """image, context -> chunk, their sum."""
    nodes = [helper.make_node("Add", ["image", "context"], ["chunk"], "sum")]
    return graph("both", {"image": [1, 2, 1], "context": [1, 2, 1]}, ("chunk", [1, 2, 1]), nodes, {})
