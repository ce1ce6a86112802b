"""What lies beside the graphs: statistics, words, cameras, noise, golden vectors. Each is parsed strictly.

Every part has a reader (bytes -> value, BadInput naming the file) and a writer (value -> bytes) side by side.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from edgevla.bundle.arrays import Array, expect, load_npy, load_npz, npz_bytes
from edgevla.bundle.manifest import Camera, Manifest, camera_of
from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORD = re.compile(r"[^\s\x00-\x1f]{1,64}")
_CAMERA, _STAGE = "camera.", "stage."  # prefixes of the arrays of a golden vector
SAMPLES = 4096
TOKENIZER_FILE = "text/tokenizer.json"


@dataclass(frozen=True)
class Stats:
    """Normalisation. state_n = (state - offset) / scale; action = action_n * scale + offset."""

    state_offset: Array  # float32 (S,)
    state_scale: Array  # float32 (S,), > 0
    action_offset: Array  # float32 (A,), the `offset` of the channels
    action_scale: Array  # float32 (A,), their `scale`
    units: Mapping[str, Any]


@dataclass(frozen=True)
class KnownWords:
    """The words the policy knows. The id of `tokens[i]` is i + 1; 0 pads (`edgevla.policy.tokens`)."""

    tokens: tuple[str, ...]
    max_tokens: int
    known_instructions: Mapping[str, Any]  # task -> instructions it was trained with


@dataclass(frozen=True)
class KnownTokens:
    """Token ids of the known instructions, and what to do with others (`tokenizer`: its file, or None)."""

    known: Mapping[str, tuple[int, ...]]
    pad: int
    suffix: str  # put behind an instruction before it is cut into tokens
    tokenizer: bytes | None


@dataclass(frozen=True)
class CameraFile:
    """One camera of cameras.toml, and one training frame to compare a mounted one with."""

    camera: Camera
    frame: str | None  # relative path of a .png


@dataclass(frozen=True)
class Golden:
    """One recorded first inference and what every stage must answer, within `tolerance` (absolute, model units)."""

    images: Mapping[str, Array]  # camera -> uint8 (h, w, 3), raw camera bytes; an absent camera is left out
    state: Array  # float32 (S,): raw, in the units of the manifest
    instruction: str
    prefix: Array  # float32 (d, A), 0 <= d <= d_max, normalised
    outputs: Mapping[str, Array]  # STAGE.OUTPUT -> float32 (n,), see `sampled`
    chunk: Array  # float32 (H, A), normalised
    tolerance: float

    def to_bytes(self) -> bytes:
        """Bytes of the .npz file."""
        values = {
            "state": self.state,
            "instruction": np.asarray(self.instruction),
            "prefix": self.prefix,
            "chunk": self.chunk,
            "tolerance": np.asarray(self.tolerance, np.float32),
        }
        values |= {_CAMERA + name: image for name, image in self.images.items()}
        values |= {_STAGE + name: output for name, output in self.outputs.items()}
        return npz_bytes(values)


def sampled(output: Array) -> Array:
    """At most some `SAMPLES` numbers, evenly picked, of what a stage answered: a key cache has millions."""
    flat = np.asarray(output, np.float32).reshape(-1)
    return np.ascontiguousarray(flat[:: max(1, len(flat) // SAMPLES)])


def read_stats(raw: bytes, manifest: Manifest, where: str = "stats.json") -> Stats:
    table = JsonTable(where, parse_json(raw, where))
    state, actions = len(manifest.state), len(manifest.channels)
    names = (("state_offset", state), ("state_scale", state), ("action_offset", actions), ("action_scale", actions))
    arrays = {name: np.asarray(table.numbers(name, size), np.float32) for name, size in names}
    stats = Stats(**arrays, units=table.mapping("units"))
    table.nothing_left()
    if not (stats.state_scale > 0).all():
        table.fail("state_scale", "numbers above 0", stats.state_scale.tolist())
    for key in ("scale", "offset"):
        told, meant = arrays[f"action_{key}"], [getattr(channel, key) for channel in manifest.channels]
        if not np.allclose(told, meant, rtol=1e-6, atol=0):
            table.fail(f"action_{key}", f"the {key}s of the channels, {meant}", told.tolist())
    return stats


def stats_bytes(stats: Stats) -> bytes:
    """Values of `Stats` -> bytes of stats.json."""
    arrays = {field.name: getattr(stats, field.name) for field in fields(Stats) if field.name != "units"}
    return json_bytes({**{k: np.asarray(v, float).tolist() for k, v in arrays.items()}, "units": dict(stats.units)})


def read_vocabulary(raw: bytes, manifest: Manifest, where: str = "text/vocab.json") -> KnownWords:
    table = JsonTable(where, parse_json(raw, where))
    expected = manifest.text.max_tokens
    words = KnownWords(table.texts("tokens"), table.whole("max_tokens", 1, 4096), table.mapping("known_instructions"))
    table.nothing_left()
    if words.max_tokens != expected:
        table.fail("max_tokens", f"{expected}, that of the manifest", words.max_tokens)
    if len(set(words.tokens)) != len(words.tokens) or not all(map(_WORD.fullmatch, words.tokens)):
        table.fail("tokens", "words that differ, without blanks", "doubled or blank words")
    return words


def vocabulary_bytes(tokens: list[str], max_tokens: int, known_instructions: Mapping[str, Any]) -> bytes:
    """Values of `KnownWords` -> bytes of text/vocab.json."""
    return json_bytes({"tokens": tokens, "max_tokens": max_tokens, "known_instructions": dict(known_instructions)})


def read_tokens(
    raw: bytes, tokenizer: bytes | None, manifest: Manifest, where: str = "text/tokens.json"
) -> KnownTokens:
    table = JsonTable(where, parse_json(raw, where))
    found = KnownTokens(
        known={text: tuple(ids) for text, ids in table.mapping("known").items() if isinstance(ids, list)},
        pad=table.whole("pad", 0, 2**31),
        suffix=table.text("suffix") if table.raw("suffix", "text") else "",
        tokenizer=tokenizer,
    )
    table.nothing_left()
    most = manifest.text.max_tokens
    for text, ids in found.known.items():
        whole = all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in ids)
        if not whole or len(ids) > most or (most and not ids):
            table.fail("known", f"{text!r}: up to {most} token ids", list(ids)[:20])
    if not found.known and tokenizer is None:
        table.fail("known", "the tokens of one instruction or more, or a tokenizer", "none")
    return found


def tokens_bytes(known: Mapping[str, Sequence[int]], pad: int = 0, suffix: str = "") -> bytes:
    """Values of `KnownTokens` -> bytes of text/tokens.json."""
    return json_bytes(
        {"known": {text: [int(i) for i in ids] for text, ids in known.items()}, "pad": pad, "suffix": suffix}
    )


def read_cameras(raw: bytes, manifest: Manifest, where: str = "cameras.toml") -> tuple[CameraFile, ...]:
    try:
        data = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise BadInput(explain(f"{where} is not valid TOML", "TOML", error, JsonTable.todo)) from error
    table = JsonTable(where, data)
    found = table.each("camera", _camera_file, most=16)
    table.nothing_left()
    if (cameras := tuple(one.camera for one in found)) != manifest.cameras:
        table.fail("camera", f"the cameras of the manifest, {manifest.cameras}", cameras)
    for one in found:
        if one.frame is not None and one.frame not in manifest.files:
            table.fail("frame", "a file of this bundle", one.frame)
    return found


def _camera_file(table: JsonTable) -> CameraFile:
    frame = table.text("frame") if "frame" in table.keys() else None  # noqa: SIM118
    return CameraFile(camera_of(table), frame)


def cameras_bytes(cameras: Sequence[CameraFile]) -> bytes:
    """Cameras -> bytes of cameras.toml. `frame`: relative path of one training frame, a .png."""
    lines = []
    for one in cameras:
        values = {**asdict(one.camera), **({"frame": one.frame} if one.frame else {})}
        lines += ["[[camera]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return ("\n".join(lines)).encode()


def check_frame(raw: bytes, camera: Camera, where: str) -> None:
    """Raises BadInput unless `raw` begins as a PNG of the camera's width and height."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", camera.width, camera.height)
    if not raw.startswith(head):
        expected = f"a PNG of {camera.width} x {camera.height}, the camera {camera.name} of the manifest"
        raise BadInput(explain(f"{where} is wrong", expected, _image(raw, head), JsonTable.todo))


def _image(raw: bytes, head: bytes) -> str:
    """What `raw` is instead; the last 8 bytes of `head` are width and height."""
    if raw[:16] != head[:16] or len(raw) < len(head):
        return f"{len(raw)} bytes that are no PNG"
    width, height = struct.unpack(">II", raw[16:24])
    return f"{width} x {height}"


def read_noise(raw: bytes, manifest: Manifest, where: str = "noise.npy") -> Array:
    """The fixed noise z, float32 (H, Z)."""
    return expect(load_npy(raw, where), where, "float32", manifest.noise_shape or (0, 0))


def read_golden(raw: bytes, manifest: Manifest, where: str) -> Golden:
    arrays = load_npz(raw, where)
    images = _named(arrays, _CAMERA)
    outputs = _named(arrays, _STAGE)
    _check_golden(arrays, images, outputs, manifest, where)
    return Golden(
        images=images,
        state=arrays["state"],
        instruction=str(arrays["instruction"]),
        prefix=arrays["prefix"],
        outputs=outputs,
        chunk=arrays["chunk"],
        tolerance=float(arrays["tolerance"]),
    )


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check_golden(
    arrays: Mapping[str, Array],
    images: Mapping[str, Array],
    outputs: Mapping[str, Array],
    manifest: Manifest,
    where: str,
) -> None:
    """Raises BadInput unless the vector has the sizes of the manifest."""
    actions, cameras = len(manifest.channels), {camera.name: camera for camera in manifest.cameras}
    absent = [name for name, camera in cameras.items() if name not in images and camera.when_missing == "refuse"]
    expected = {"state", "instruction", "prefix", "chunk", "tolerance"}
    expected |= {_CAMERA + name for name in (images if set(images) <= set(cameras) and not absent else cameras)}
    expected |= {_STAGE + f"{stage.name}.{tensor.name}" for stage in manifest.stages for tensor in stage.outputs}
    if set(arrays) != expected:
        raise BadInput(explain(f"{where} is wrong", sorted(expected), sorted(arrays), JsonTable.todo))
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "state": ("float32", (len(manifest.state),)),
        "prefix": ("float32", (None, actions)),
        "chunk": ("float32", (manifest.timing.horizon, actions)),
        "tolerance": ("float32", ()),
        **{_CAMERA + name: ("uint8", (cameras[name].height, cameras[name].width, 3)) for name in images},
        **{_STAGE + name: ("float32", (None,)) for name in outputs},
    }
    for name, (dtype, shape) in shapes.items():
        expect(arrays[name], f"{where}:{name}", dtype, shape)
    if len(arrays["prefix"]) > manifest.timing.d_max or arrays["instruction"].dtype.kind != "U":
        got = f"{len(arrays['prefix'])} rows, {arrays['instruction'].dtype}"
        wanted = f"a prefix of {manifest.timing.d_max} rows at most, and text"
        raise BadInput(explain(f"{where} is wrong", wanted, got, JsonTable.todo))


def json_bytes(value: Any) -> bytes:
    """Value -> JSON as every file of a bundle has it: UTF-8, indented, sorted, no NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
