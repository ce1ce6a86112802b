"""A valid bundle of a few kilobytes: three real ONNX graphs with the stage interface of the reference policy.

    python -m tests.tiny_bundle DEST.bundle

text   tokens int64 (1, 16)            -> text float32 (1, 1, D)
vision image float32 (1, 1, 96, 96, 3) -> vision float32 (1, 9, D)
head   vision, text, state (1, 4), noise (1, H, 4), prefix (1, H, 4), prefix_mask (1, H, 1) -> chunk (1, H, 4)
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgevla.bundle import Bundle, Golden, write_bundle
from edgevla.bundle.arrays import npy_bytes
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import CameraFile, Stats, cameras_bytes, sampled, stats_bytes, vocabulary_bytes

WIDTH = 8
HORIZON = 32
ACTIONS = 4
STATE = 4
TOKENS = 16
SIDE = 96
D_MAX = 8
WORDS = ["open", "close", "the", "drawer", "window", "press", "button", "door"]
OPSET, IR_VERSION = 20, 10
LOW, HIGH = [-0.5, 0.40, 0.05, -1.0], [0.5, 1.0, 0.5, 1.0]


def write_tiny_bundle(dest: Path, **manifest_changes: Any) -> Bundle:
    """Write the bundle; `manifest_changes` replace keys of its manifest (a dict value is merged in)."""
    files = tiny_files()
    manifest = tiny_manifest()
    for key, value in manifest_changes.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    return write_bundle(dest, manifest, files)


def tiny_files() -> dict[str, bytes]:
    """Every file but the manifest."""
    graphs = tiny_graphs()
    noise = np.random.default_rng(7).standard_normal((HORIZON, ACTIONS)).astype(np.float32)
    camera = Camera("corner", SIDE, SIDE, 3, "rgb", 40.0, SIDE, SIDE, "exact", "refuse")
    units = {"state": ["m", "m", "m", "1"], "action": ["m", "m", "m", "1"]}
    return {
        **{f"model/{name}.onnx": graph for name, graph in graphs.items()},
        **{f"float/{name}.onnx": graph for name, graph in graphs.items()},
        "stats.json": stats_bytes(
            Stats(
                np.array([0.0, 0.6, 0.2, 0.5]),
                np.array([0.1, 0.1, 0.1, 0.5]),
                np.zeros(4),
                np.array([0.01, 0.01, 0.01, 1.0]),
                units,
            )
        ),
        "text/vocab.json": vocabulary_bytes(WORDS, TOKENS, {"drawer-open-v3": ["open the drawer"]}),
        "noise.npy": npy_bytes(noise),
        "cameras.toml": cameras_bytes([CameraFile(camera, None)]),
        "golden/000.npz": _golden(graphs, noise).to_bytes(),
        "evidence/parity.json": b'{"made_by": "tests/tiny_bundle.py"}\n',
    }


def tiny_manifest() -> dict[str, Any]:
    """manifest.json without `schema` and `files`."""
    return {
        "name": "tiny",
        "created_with": "tests/tiny_bundle.py",
        "artifact": "fp32",
        "arm": "metaworld-sawyer",
        "target": "host",
        "timing": {"period_s": 0.0125, "horizon": HORIZON, "d_max": D_MAX},
        "channels": [
            _channel("x", "delta", "cartesian", "m", 0.01, 0),
            _channel("y", "delta", "cartesian", "m", 0.01, 1),
            _channel("z", "delta", "cartesian", "m", 0.01, 2),
            _channel("gripper", "absolute", "gripper", "1", 1.0, 3),
        ],
        "state": [
            {"name": n, "unit": "1" if n == "gripper" else "m"} for n in ("hand_x", "hand_y", "hand_z", "gripper")
        ],
        "cameras": [
            {
                "name": "corner",
                "width": SIDE,
                "height": SIDE,
                "channels": 3,
                "colour": "rgb",
                "rate_hz": 40.0,
                "input_width": SIDE,
                "input_height": SIDE,
                "fit": "exact",
                "when_missing": "refuse",
            }
        ],
        "observations": 1,
        "text": {"kind": "words", "max_tokens": TOKENS},
        "stages": [_stage(name, "model") for name in _INTERFACE],
        "float_stages": [_stage(name, "float") for name in _INTERFACE],
        "start_low": LOW,
        "start_high": HIGH,
        "teacher": {"name": "none", "sha256": hashlib.sha256(b"no teacher").hexdigest(), "parameters": 1},
        "student": {"name": "tiny", "sha256": hashlib.sha256(b"tiny").hexdigest(), "parameters": 1500},
        "recipe": {"note": "random weights, for tests"},
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }


_CHUNK = ["float32", [1, HORIZON, ACTIONS]]
_INTERFACE: dict[str, tuple[dict[str, list[Any]], dict[str, list[Any]]]] = {
    "text": ({"tokens": ["int64", [1, TOKENS]]}, {"text": ["float32", [1, 1, WIDTH]]}),
    "vision": ({"image": ["float32", [1, 1, SIDE, SIDE, 3]]}, {"vision": ["float32", [1, 9, WIDTH]]}),
    "head": (
        {
            "vision": ["float32", [1, 9, WIDTH]],
            "text": ["float32", [1, 1, WIDTH]],
            "state": ["float32", [1, STATE]],
            "noise": _CHUNK,
            "prefix": _CHUNK,
            "prefix_mask": ["float32", [1, HORIZON, 1]],
        },
        {"chunk": _CHUNK},
    ),
}


def _channel(name: str, kind: str, space: str, unit: str, scale: float, index: int) -> dict[str, Any]:
    limits = {"minimum": LOW[index], "maximum": HIGH[index]}
    return {
        "name": name,
        "kind": kind,
        "space": space,
        "frame": "world",
        "unit": unit,
        "scale": scale,
        "offset": 0.0,
        **limits,
    }


def _stage(name: str, folder: str) -> dict[str, Any]:
    inputs, outputs = (_tensors(side) for side in _INTERFACE[name])
    return {"name": name, "file": f"{folder}/{name}.onnx", "inputs": inputs, "outputs": outputs, "times": []}


def _tensors(side: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in side.items()]


def tiny_graphs() -> dict[str, bytes]:
    """The three graphs, serialised; always the same bytes."""
    rng = np.random.default_rng(3)
    return {"text": _text(rng), "vision": _vision(rng), "head": _head(rng)}


def _text(rng: np.random.Generator) -> bytes:
    weights = {"table": _weight(rng, 64, WIDTH), "axes": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axes"], ["text"], keepdims=1),
    ]
    return _graph("text", nodes, weights)


def _vision(rng: np.random.Generator) -> bytes:
    weights = {
        "shape": np.array([1, 9, 3], np.int64),
        "weight": _weight(rng, 3, WIDTH),
        "picture": np.array([1, SIDE, SIDE, 3], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "picture"], ["pixels"]),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Transpose", ["pooled"], ["grid"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["grid", "shape"], ["patches"]),
        helper.make_node("MatMul", ["patches", "weight"], ["vision"]),
    ]
    return _graph("vision", nodes, weights)


def _head(rng: np.random.Generator) -> bytes:
    weights = {
        "axes": np.array([1], np.int64),
        "shape": np.array([1, HORIZON, ACTIONS], np.int64),
        "state_weight": _weight(rng, STATE, WIDTH),
        "out_weight": _weight(rng, WIDTH, HORIZON * ACTIONS),
        "small": np.array(0.1, np.float32),
        "one": np.array(1.0, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["vision", "axes"], ["seen"], keepdims=1),
        helper.make_node("MatMul", ["state", "state_weight"], ["felt"]),
        helper.make_node("Add", ["seen", "text"], ["context"]),
        helper.make_node("Add", ["context", "felt"], ["joint"]),
        helper.make_node("MatMul", ["joint", "out_weight"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["raw"]),
        helper.make_node("Mul", ["noise", "small"], ["spread"]),
        helper.make_node("Add", ["raw", "spread"], ["noisy"]),
        helper.make_node("Tanh", ["noisy"], ["free"]),
        helper.make_node("Sub", ["one", "prefix_mask"], ["open"]),
        helper.make_node("Mul", ["free", "open"], ["kept_free"]),
        helper.make_node("Mul", ["prefix", "prefix_mask"], ["kept_prefix"]),
        helper.make_node("Add", ["kept_free", "kept_prefix"], ["chunk"]),
    ]
    return _graph("head", nodes, weights)


def _weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * 0.3).astype(np.float32)


def _graph(name: str, nodes: list[Any], weights: dict[str, np.ndarray]) -> bytes:
    inputs, outputs = ([_value(tensor, *spec) for tensor, spec in side.items()] for side in _INTERFACE[name])
    stored = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, dtype: str, shape: list[int]) -> Any:
    kind = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[dtype]
    return helper.make_tensor_value_info(name, kind, shape)


def _golden(graphs: dict[str, bytes], noise: np.ndarray) -> Golden:
    """Run the graphs by hand, so that the engine's own preprocessing is compared with an independent one."""
    rng = np.random.default_rng(11)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    state = np.array([0.05, 0.62, 0.18, 0.9], np.float32)
    prefix = rng.uniform(-1, 1, (2, ACTIONS)).astype(np.float32)
    tokens = np.zeros((1, TOKENS), np.int64)
    tokens[0, :3] = [WORDS.index(word) + 1 for word in ("open", "the", "drawer")]
    text = _run(graphs["text"], tokens=tokens)
    vision = _run(graphs["vision"], image=image[None, None].astype(np.float32) / np.float32(127.5) - 1)
    mean, std = np.array([0.0, 0.6, 0.2, 0.5], np.float32), np.array([0.1, 0.1, 0.1, 0.5], np.float32)
    padded, mask = np.zeros((1, HORIZON, ACTIONS), np.float32), np.zeros((1, HORIZON, 1), np.float32)
    padded[0, :2], mask[0, :2] = prefix, 1.0
    feeds = {"vision": vision, "text": text, "state": ((state - mean) / std)[None]}
    chunk = _run(graphs["head"], **feeds, noise=noise[None], prefix=padded, prefix_mask=mask)[0]
    outputs = {"text.text": sampled(text), "vision.vision": sampled(vision), "head.chunk": sampled(chunk)}
    return Golden({"corner": image}, state, "open the drawer", prefix, outputs, chunk, 1e-4)


def _run(graph: bytes, **feeds: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


if __name__ == "__main__":
    print(write_tiny_bundle(Path(sys.argv[1])).path)
