"""A bundle to try `edgevla run` with, where there is neither an arm nor a policy: a virtual SO-101, random weights.

    python -m examples.virtual_so101 out/so101

writes out/so101/so101.bundle and a picture for its camera, and prints the lines to type (extras: export, camera).
The policy is one graph with the interface of a real one (docs/bundle.md): it looks at a camera, feels the joints, hears
words, goes on from its prefix. It moves the arm gently about the middle of its ranges and can do nothing else.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import profiles
from edgevla.bundle import Bundle, Golden, write_bundle
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import CameraFile, Stats, cameras_bytes, sampled, stats_bytes, vocabulary_bytes
from edgevla.policy.preprocess import image_tensor, state_tensor

ARM = profiles.load_arm("so101")
PERIOD_S, HORIZON, D_MAX, TOKENS, SIDE = 1 / 30, 32, 8, 8, 96
WORDS, SENTENCE = ["pick", "the", "cube"], "pick the cube"
OPSET, IR_VERSION = 20, 10
FRONT = next(camera for camera in ARM.cameras if camera.name == "front")
CAMERA = Camera("front", FRONT.width, FRONT.height, 3, "rgb", FRONT.rate_hz, SIDE, SIDE, "pad", "refuse")
N = len(ARM.channels)
MIDDLE = np.array([(c.minimum + c.maximum) / 2 for c in ARM.channels])
REACH = np.array([(c.maximum - c.minimum) / 8 for c in ARM.channels])  # one unit of the policy
INPUTS: dict[str, tuple[str, list[int]]] = {
    "image": ("float32", [1, 1, SIDE, SIDE, 3]),
    "state": ("float32", [1, N]),
    "tokens": ("int64", [1, TOKENS]),
    "prefix": ("float32", [1, HORIZON, N]),
    "prefix_mask": ("float32", [1, HORIZON, 1]),
}
CHUNK = ("float32", [1, HORIZON, N])


def write(folder: Path) -> tuple[Bundle, Path]:
    """The bundle and the picture, in `folder`, which is made. Raises BadInput where something else is in the way."""
    picture = _picture()
    bundle = write_bundle(folder / "so101.bundle", _manifest(), _files(picture))
    path = folder / "front.png"
    path.write_bytes(_png(picture))
    return bundle, path


def lines(bundle: Path, picture: Path) -> list[list[str]]:
    """The commands in their order; PORT is what the first one prints."""
    camera = f"front=file:{picture},loop"
    at_once = ["--accept-no-watchdog", "--best-effort", "--arm-at-start", "--duration-s", "5"]
    asked = ["--port", "PORT", "--camera", camera, "--instruction", SENTENCE]
    return [
        ["edgevla", "sim-arm", ARM.name],
        ["edgevla", "check", str(bundle), "--accept-no-watchdog", "--arithmetic-only"],
        ["edgevla", "camera", "check", "--bundle", str(bundle), "--camera", camera, "--confirm"],
        ["edgevla", "run", "--bundle", str(bundle), *asked, *at_once],
    ]


def _picture() -> NDArray[np.uint8]:
    """Grey, brighter to the right and below, with a red cube."""
    down, across = np.mgrid[0 : FRONT.height, 0 : FRONT.width]
    grey = (60 + 120 * (down / FRONT.height + across / FRONT.width) / 2).astype(np.uint8)
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    picture[260:340, 280:360] = (200, 40, 40)
    return picture


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()  # OpenCV counts blue first


def _files(picture: NDArray[np.uint8]) -> dict[str, bytes | Path]:
    graph = _graph()
    units = {"state": [s.unit for s in ARM.state], "action": [c.unit for c in ARM.channels]}
    return {
        "model/policy.onnx": graph,
        "stats.json": stats_bytes(Stats(MIDDLE, REACH, MIDDLE, REACH, units)),
        "text/vocab.json": vocabulary_bytes(WORDS, TOKENS, {"cube": [SENTENCE]}),
        "cameras.toml": cameras_bytes([CameraFile(CAMERA, "cameras/front.png")]),
        "cameras/front.png": _png(picture),
        "golden/000.npz": _golden(graph, picture).to_bytes(),
    }


def _manifest() -> dict[str, Any]:
    digest = hashlib.sha256(b"random").hexdigest()
    stage = {"name": "policy", "file": "model/policy.onnx", "inputs": _tensors(INPUTS), "times": []}
    return {
        "name": "virtual-so101",
        "created_with": "examples/virtual_so101.py",
        "artifact": "fp32",
        "arm": ARM.name,
        "target": "host",
        "timing": {"period_s": PERIOD_S, "horizon": HORIZON, "d_max": D_MAX},
        "channels": [_channel(i) for i in range(N)],
        "state": [{"name": s.name, "unit": s.unit} for s in ARM.state],
        "cameras": [vars(CAMERA)],
        "observations": 1,
        "text": {"kind": "words", "max_tokens": TOKENS},
        "stages": [{**stage, "outputs": _tensors({"chunk": CHUNK})}],
        "float_stages": [],
        "start_low": list(ARM.start_low),
        "start_high": list(ARM.start_high),
        "teacher": {"name": "none", "sha256": digest, "parameters": 1},
        "student": {"name": "random", "sha256": digest, "parameters": 1},
        "recipe": {"note": "random weights, to try the commands with"},
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }


def _channel(index: int) -> dict[str, Any]:
    channel = ARM.channels[index]
    return {
        "name": channel.name,
        "kind": "absolute",
        "space": "joint",
        "frame": "base",
        "unit": channel.unit,
        "scale": float(REACH[index]),
        "offset": float(MIDDLE[index]),
        "minimum": channel.minimum,
        "maximum": channel.maximum,
    }


def _tensors(kinds: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in kinds.items()]


def _graph() -> bytes:
    """chunk = prefix where its mask is 1, else tanh(image, state and words, each times random weights)."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> NDArray[np.float32]:
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    constants = {
        "looks": weight(3, N),
        "feels": weight(N, N),
        "hears": weight(len(WORDS) + 1, N),
        "sway": np.sin(np.arange(HORIZON) / 5).reshape(1, HORIZON, 1).astype(np.float32),
        "pixels": np.array([1, 2, 3], np.int64),
        "rows": np.array([1], np.int64),
        "one": np.array(1.0, np.float32),
    }
    steps = [
        ("ReduceMean", ["image", "pixels"], "colour", {"keepdims": 0}),
        ("MatMul", ["colour", "looks"], "seen", {}),
        ("MatMul", ["state", "feels"], "felt", {}),
        ("Gather", ["hears", "tokens"], "spoken", {}),
        ("ReduceMean", ["spoken", "rows"], "heard", {"keepdims": 0}),
        ("Sum", ["seen", "felt", "heard"], "all", {}),
        ("Unsqueeze", ["all", "rows"], "row", {}),
        ("Add", ["row", "sway"], "swaying", {}),
        ("Tanh", ["swaying"], "free", {}),
        ("Sub", ["one", "prefix_mask"], "open", {}),
        ("Mul", ["free", "open"], "own", {}),
        ("Mul", ["prefix", "prefix_mask"], "given", {}),
        ("Add", ["own", "given"], "chunk", {}),
    ]
    nodes = [helper.make_node(kind, inputs, [output], **how) for kind, inputs, output, how in steps]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inputs = [_value(name, *kind) for name, kind in INPUTS.items()]
    graph = helper.make_graph(nodes, "policy", inputs, [_value("chunk", *CHUNK)], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, dtype: str, shape: list[int]) -> Any:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    return helper.make_tensor_value_info(name, kinds[dtype], shape)


def _golden(graph: bytes, picture: NDArray[np.uint8]) -> Golden:
    """The first inference, recorded: with it every later reader of the bundle proves its own arithmetic."""
    state = MIDDLE.astype(np.float32)
    tokens = np.zeros((1, TOKENS), np.int64)
    tokens[0, : len(WORDS)] = range(1, len(WORDS) + 1)
    feeds = {
        "image": image_tensor(picture, CAMERA)[None],
        "state": state_tensor(state, MIDDLE.astype(np.float32), REACH.astype(np.float32)),
        "tokens": tokens,
        "prefix": np.zeros((1, HORIZON, N), np.float32),
        "prefix_mask": np.zeros((1, HORIZON, 1), np.float32),
    }
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    chunk = np.asarray(session.run(None, feeds)[0])
    outputs = {"policy.chunk": sampled(chunk)}
    return Golden({"front": picture}, state, SENTENCE, np.zeros((0, N), np.float32), outputs, chunk[0], 1e-4)


def main() -> int:
    """The folder is the one argument."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m examples.virtual_so101 FOLDER", file=sys.stderr)
        return 2
    bundle, picture = write(Path(sys.argv[1]))
    arm, *others = (shlex.join(line) for line in lines(bundle.path, picture))
    print(f"in one terminal; it prints the port of the virtual arm:\n\n    {arm}\n")
    print("in another, with that port in place of PORT:\n\n" + "\n".join(f"    {line}" for line in others))
    return 0


if __name__ == "__main__":
    sys.exit(main())
