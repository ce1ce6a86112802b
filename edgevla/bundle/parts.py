"""What lies beside the graphs: statistics, words, cameras, noise, golden vectors. Each is parsed strictly.

Every part has a reader (bytes -> value, BadInput naming the file) and a writer (value -> bytes) side by side.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from edgevla.bundle.arrays import Array, expect, load_npy, load_npz, npz_bytes
from edgevla.bundle.manifest import Camera, Manifest
from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORD = re.compile(r"[^\s\x00-\x1f]{1,64}")


@dataclass(frozen=True)
class Stats:
    """Normalisation. state_n = (state - mean) / std; set-point change = action * action_scale."""

    state_mean: Array  # float32 (S,)
    state_std: Array  # float32 (S,), > 0
    action_scale: Array  # float32 (A,), the `scale` of the channels
    units: Mapping[str, Any]


@dataclass(frozen=True)
class KnownWords:
    """The words the policy knows. The id of `tokens[i]` is i + 1; 0 pads (`edgevla.policy.tokens`)."""

    tokens: tuple[str, ...]
    max_tokens: int
    known_instructions: Mapping[str, Any]  # task -> instructions it was trained with


@dataclass(frozen=True)
class CameraFile:
    """cameras.toml: the camera, and one training frame to compare a mounted one with."""

    camera: Camera
    frame: str | None  # relative path of a .png


@dataclass(frozen=True)
class Golden:
    """One recorded input and what every stage must answer, within `tolerance` (absolute, model units)."""

    image: Array  # uint8 (h, w, 3): raw camera bytes
    state: Array  # float32 (S,): raw, in the units of the manifest
    instruction: str
    prefix: Array  # float32 (d, A), 0 <= d <= d_max, normalised
    text: Array  # float32, output of stage `text`
    vision: Array  # float32, output of stage `vision`
    chunk: Array  # float32 (H, A), normalised
    tolerance: float

    def to_bytes(self) -> bytes:
        """Bytes of the .npz file."""
        values = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        values["tolerance"] = np.asarray(self.tolerance, np.float32)
        return npz_bytes(values)


def read_stats(raw: bytes, manifest: Manifest, where: str = "stats.json") -> Stats:
    table = JsonTable(where, parse_json(raw, where))
    state, actions = len(manifest.state), len(manifest.channels)
    stats = Stats(
        state_mean=np.asarray(table.numbers("state_mean", state), np.float32),
        state_std=np.asarray(table.numbers("state_std", state), np.float32),
        action_scale=np.asarray(table.numbers("action_scale", actions), np.float32),
        units=table.mapping("units"),
    )
    table.nothing_left()
    if not (stats.state_std > 0).all():
        table.fail("state_std", "numbers above 0", stats.state_std.tolist())
    scales = [channel.scale for channel in manifest.channels]
    if not np.allclose(stats.action_scale, scales, rtol=1e-6, atol=0):
        table.fail("action_scale", f"the scales of the channels, {scales}", stats.action_scale.tolist())
    return stats


def stats_bytes(state_mean: Array, state_std: Array, action_scale: Array, units: Mapping[str, Any]) -> bytes:
    """Values of `Stats` -> bytes of stats.json."""
    arrays = {"state_mean": state_mean, "state_std": state_std, "action_scale": action_scale}
    return json_bytes({**{k: np.asarray(v, float).tolist() for k, v in arrays.items()}, "units": dict(units)})


def read_vocabulary(raw: bytes, manifest: Manifest, where: str = "text/vocab.json") -> KnownWords:
    table = JsonTable(where, parse_json(raw, where))
    expected = manifest.stage("text").inputs[0].shape[-1]
    words = KnownWords(table.texts("tokens"), table.whole("max_tokens", 1, 4096), table.mapping("known_instructions"))
    table.nothing_left()
    if words.max_tokens != expected:
        table.fail("max_tokens", f"{expected}, the length of the text stage's input", words.max_tokens)
    if len(set(words.tokens)) != len(words.tokens) or not all(map(_WORD.fullmatch, words.tokens)):
        table.fail("tokens", "words that differ, without blanks", "doubled or blank words")
    return words


def vocabulary_bytes(tokens: list[str], max_tokens: int, known_instructions: Mapping[str, Any]) -> bytes:
    """Values of `KnownWords` -> bytes of text/vocab.json."""
    return json_bytes({"tokens": tokens, "max_tokens": max_tokens, "known_instructions": dict(known_instructions)})


def read_camera(raw: bytes, manifest: Manifest, where: str = "cameras.toml") -> CameraFile:
    try:
        data = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise BadInput(explain(f"{where} is not valid TOML", "TOML", error, JsonTable.todo)) from error
    table = JsonTable(where, data)
    (found,) = table.each("camera", _camera_file, most=1)
    table.nothing_left()
    if found.camera != manifest.camera:
        table.fail("camera", f"the camera of the manifest, {manifest.camera}", found.camera)
    if found.frame is not None and found.frame not in manifest.files:
        table.fail("frame", "a file of this bundle", found.frame)
    return found


def _camera_file(table: JsonTable) -> CameraFile:
    frame = table.text("frame") if "frame" in table.keys() else None  # noqa: SIM118
    camera = Camera(
        name=table.name("name"),
        width=table.whole("width", 8, 8192),
        height=table.whole("height", 8, 8192),
        channels=3,
        colour=table.text("colour", ("rgb",)),
        rate_hz=table.number("rate_hz", 0.1, 1000.0),
    )
    return CameraFile(camera, frame)


def camera_bytes(camera: Camera, frame: str | None = None) -> bytes:
    """Camera -> bytes of cameras.toml. `frame`: relative path of one training frame, a .png."""
    lines = [
        "[[camera]]",
        f'name = "{camera.name}"',
        f"width = {camera.width}",
        f"height = {camera.height}",
        f'colour = "{camera.colour}"',
        f"rate_hz = {camera.rate_hz}",
    ]
    if frame is not None:
        lines.append(f'frame = "{frame}"')
    return ("\n".join(lines) + "\n").encode()


def check_frame(raw: bytes, manifest: Manifest, where: str) -> None:
    """Raises BadInput unless `raw` begins as a PNG of the camera's width and height."""
    camera = manifest.camera
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", camera.width, camera.height)
    if not raw.startswith(head):
        expected = f"a PNG of {camera.width} x {camera.height}, the camera of the manifest"
        raise BadInput(explain(f"{where} is wrong", expected, _image(raw, head), JsonTable.todo))


def _image(raw: bytes, head: bytes) -> str:
    """What `raw` is instead; the last 8 bytes of `head` are width and height."""
    if raw[:16] != head[:16] or len(raw) < len(head):
        return f"{len(raw)} bytes that are no PNG"
    width, height = struct.unpack(">II", raw[16:24])
    return f"{width} x {height}"


def read_noise(raw: bytes, manifest: Manifest, where: str = "noise.npy") -> Array:
    """The fixed noise z, float32 (H, A)."""
    return expect(load_npy(raw, where), where, "float32", (manifest.timing.horizon, len(manifest.channels)))


def read_golden(raw: bytes, manifest: Manifest, where: str) -> Golden:
    arrays = load_npz(raw, where)
    names = {field.name for field in fields(Golden)}
    if set(arrays) != names:
        raise BadInput(explain(f"{where} is wrong", sorted(names), sorted(arrays), JsonTable.todo))
    camera, actions = manifest.camera, len(manifest.channels)
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "image": ("uint8", (camera.height, camera.width, 3)),
        "state": ("float32", (len(manifest.state),)),
        "prefix": ("float32", (None, actions)),
        "text": ("float32", manifest.stage("text").outputs[0].shape),
        "vision": ("float32", manifest.stage("vision").outputs[0].shape),
        "chunk": ("float32", (manifest.timing.horizon, actions)),
        "tolerance": ("float32", ()),
    }
    for name, (dtype, shape) in shapes.items():
        expect(arrays[name], f"{where}:{name}", dtype, shape)
    if len(arrays["prefix"]) > manifest.timing.d_max or arrays["instruction"].dtype.kind != "U":
        raise BadInput(
            explain(
                f"{where} is wrong",
                f"a prefix of {manifest.timing.d_max} rows at most, and text",
                f"{len(arrays['prefix'])} rows, {arrays['instruction'].dtype}",
                JsonTable.todo,
            )
        )
    scalars = {"instruction": str(arrays["instruction"]), "tolerance": float(arrays["tolerance"])}
    values: dict[str, Any] = {**arrays, **scalars}
    return Golden(**values)


def json_bytes(value: Any) -> bytes:
    """Value -> JSON as every file of a bundle has it: UTF-8, indented, sorted, no NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
