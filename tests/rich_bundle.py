"""A valid bundle that uses what the reference policy does not: two cameras, one of them fitted and allowed to be
absent, token ids, two observations, absolute joints with an offset, and a flow of three steps whose noise is wider than
an action.

prefix image (1, 4, 16, 16, 3), camera_mask (1, 4), state (1, 4), tokens (1, 6), token_mask (1, 6) -> seen (1, 1, 5)
step   seen, noisy (1, 8, 5), t (1) -> chunk (1, 8, 5)
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevla.bundle import Bundle, Golden, write_bundle
from edgevla.bundle.arrays import npy_bytes
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import CameraFile, Stats, cameras_bytes, sampled, stats_bytes, tokens_bytes

HORIZON, ACTIONS, Z, TOKENS, PAST, TIMES = 8, 2, 5, 6, 2, (1.0, 0.5, 0.25)
FRONT = Camera("front", 16, 16, 3, "rgb", 30.0, 16, 16, "exact", "refuse")
WRIST = Camera("wrist", 32, 16, 3, "rgb", 30.0, 16, 16, "pad", "blank")
STATS = Stats(np.array([1.0, -1.0]), np.array([2.0, 0.5]), np.array([0.25, -0.5]), np.array([0.5, 2.0]), {})
KNOWN = {"pick the cube": [5, 6, 7], "open": [9]}
NOISE = np.random.default_rng(5).standard_normal((HORIZON, Z)).astype(np.float32)
_CHUNK = ["float32", [1, HORIZON, Z]]
INTERFACE: dict[str, tuple[dict[str, list[Any]], dict[str, list[Any]]]] = {
    "prefix": (
        {
            "image": ["float32", [1, 4, 16, 16, 3]],
            "camera_mask": ["float32", [1, 4]],
            "state": ["float32", [1, 4]],
            "tokens": ["int64", [1, TOKENS]],
            "token_mask": ["float32", [1, TOKENS]],
        },
        {"seen": ["float32", [1, 1, Z]]},
    ),
    "step": ({"seen": ["float32", [1, 1, Z]], "noisy": _CHUNK, "t": ["float32", [1]]}, {"chunk": _CHUNK}),
}


def rich_manifest(float_off: float | None = None) -> dict[str, Any]:
    """manifest.json without `schema` and `files`. `float_off`: see `write_rich_bundle`."""
    nothing = hashlib.sha256(b"").hexdigest()
    joint = {"kind": "absolute", "space": "joint", "frame": "arm", "unit": "rad", "minimum": -3.0, "maximum": 3.0}
    channels = [
        {"name": name, "scale": float(STATS.action_scale[i]), "offset": float(STATS.action_offset[i]), **joint}
        for i, name in enumerate(("shoulder.pos", "elbow.pos"))
    ]
    return {
        "name": "rich",
        "created_with": "tests/rich_bundle.py",
        "artifact": "fp32",
        "arm": "two-joints",
        "target": "host",
        "timing": {"period_s": 0.033, "horizon": HORIZON, "d_max": 0},
        "channels": channels,
        "state": [{"name": "shoulder.pos", "unit": "rad"}, {"name": "elbow.pos", "unit": "rad"}],
        "cameras": [vars(FRONT), vars(WRIST)],
        "observations": PAST,
        "text": {"kind": "tokens", "max_tokens": TOKENS},
        "stages": [_stage("prefix", ()), _stage("step", TIMES)],
        "float_stages": [] if float_off is None else [_stage("prefix", (), "float"), _stage("step", TIMES, "float")],
        "start_low": [-3.0, -3.0],
        "start_high": [3.0, 3.0],
        "teacher": {"name": "none", "sha256": nothing, "parameters": 1},
        "student": {"name": "none", "sha256": nothing, "parameters": 1},
        "recipe": {},
        "opset": 20,
        "ir_version": 10,
    }


def _stage(name: str, times: tuple[float, ...], folder: str = "model") -> dict[str, Any]:
    inputs, outputs = (
        [{"name": tensor, "dtype": dtype, "shape": shape} for tensor, (dtype, shape) in side.items()]
        for side in INTERFACE[name]
    )
    return {"name": name, "file": f"{folder}/{name}.onnx", "inputs": inputs, "outputs": outputs, "times": list(times)}


def rich_files(tokenizer: bytes | None = None, float_off: float | None = None) -> dict[str, bytes]:
    """Every file but the manifest. `float_off`: see `write_rich_bundle`."""
    files = {
        "model/prefix.onnx": _prefix(),
        "model/step.onnx": _step(),
        "stats.json": stats_bytes(STATS),
        "cameras.toml": cameras_bytes([CameraFile(FRONT, None), CameraFile(WRIST, None)]),
        "text/tokens.json": tokens_bytes(KNOWN, pad=1, suffix="\n"),
        "noise.npy": npy_bytes(NOISE),
        "golden/000.npz": golden().to_bytes(),
    }
    if float_off is not None:
        files |= {"float/prefix.onnx": _prefix(), "float/step.onnx": _step(float_off)}
    return files if tokenizer is None else {**files, "text/tokenizer.json": tokenizer}


def write_rich_bundle(
    dest: Path, tokenizer: bytes | None = None, float_off: float | None = None, **manifest_changes: Any
) -> Bundle:
    """Write the bundle; `manifest_changes` replace keys of its manifest.

    float_off: FP32 graphs are added whose every flow step answers that much more than those of the artifact.
    """
    return write_bundle(dest, {**rich_manifest(float_off), **manifest_changes}, rich_files(tokenizer, float_off))


def answer(
    image: np.ndarray, mask: list[float], state: list[float], ids: list[int], off: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """What the graphs must say, in NumPy: `seen` (1, 1, Z) and `chunk` (H, Z). image float32 (4, 16, 16, 3).

    off: that of the FP32 graphs.
    """
    tokens = np.array([*ids, *[1] * (TOKENS - len(ids))], np.float32)
    words = float((tokens * (np.arange(TOKENS) < len(ids))).sum())
    seen = np.array([*(image.mean((1, 2, 3)) * np.array(mask)), words], np.float32)
    seen = seen + np.array([*state, 0.0], np.float32)
    x = NOISE
    for t in TIMES:
        x = x * np.float32(t) + seen + np.float32(off)
    return seen[None, None], x


def golden() -> Golden:
    """The wrist camera is absent; the first observation stands for the one before it."""
    front = np.random.default_rng(6).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels = front.astype(np.float32) / 127.5 - 1
    blank = np.full_like(pixels, -1)
    state = np.array([0.5, 0.25], np.float32)
    normal = list((state - STATS.state_offset) / STATS.state_scale)
    seen, chunk = answer(np.stack([pixels, blank] * 2), [1, 0, 1, 0], normal * 2, KNOWN["open"])
    outputs = {"prefix.seen": sampled(seen), "step.chunk": sampled(chunk)}
    return Golden({"front": front}, state, "open", np.zeros((0, 2), np.float32), outputs, chunk[:, :2].copy(), 1e-3)


def _prefix() -> bytes:
    weights = {
        "axes": np.array([2, 3, 4], np.int64),
        "one": np.array([1], np.int64),
        "zero": np.zeros((1, 1), np.float32),
        "flat": np.array([1, 4], np.int64),
        "shape": np.array([1, 1, Z], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["brightness"], keepdims=0),
        helper.make_node("Reshape", ["brightness", "flat"], ["row"]),
        helper.make_node("Mul", ["row", "camera_mask"], ["present"]),
        helper.make_node("Cast", ["tokens"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids", "token_mask"], ["heard"]),
        helper.make_node("ReduceSum", ["heard", "one"], ["words"], keepdims=1),
        helper.make_node("Concat", ["present", "words"], ["both"], axis=1),
        helper.make_node("Concat", ["state", "zero"], ["body"], axis=1),
        helper.make_node("Add", ["both", "body"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["seen"]),
    ]
    return _graph("prefix", nodes, weights)


def _step(off: float = 0.0) -> bytes:
    nodes = [
        helper.make_node("Mul", ["noisy", "t"], ["scaled"]),
        helper.make_node("Add", ["scaled", "off"], ["moved"]),
        helper.make_node("Add", ["moved", "seen"], ["chunk"]),
    ]
    return _graph("step", nodes, {"off": np.array([off], np.float32)})


def _graph(name: str, nodes: list[Any], weights: dict[str, np.ndarray]) -> bytes:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    inputs, outputs = (
        [helper.make_tensor_value_info(tensor, kinds[dtype], shape) for tensor, (dtype, shape) in side.items()]
        for side in INTERFACE[name]
    )
    stored = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
