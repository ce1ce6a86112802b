"""The schema of `manifest.json`, as values that are sound once built.

`parse_manifest` takes the bytes of the file and returns a `Manifest`, or raises one BadInput naming the key.
Nothing here touches the disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain

SCHEMA = "edgevla.bundle/1"
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"  # `sha256sum -c manifest.sha256` checks it without edgevla
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_FILES = 4096
MAX_FILE_BYTES = 8 * 1024**3
MAX_TOTAL_BYTES = 16 * 1024**3
MAX_IR_VERSION = 10  # the robot's ONNX Runtime 1.23 refuses IR above 11; design section 4 says 10
ARTIFACTS = ("cpu-dynamic-s8", "fp32")
STAGES = ("text", "vision", "head")
REQUIRED_FILES = ("stats.json", "noise.npy", "cameras.toml", "text/vocab.json")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Timing:
    """What the policy was trained with; the bundle owns these three."""

    period_s: float  # T: control period
    horizon: int  # H: ticks in a chunk
    d_max: int  # longest prefix the policy was trained with, ticks


@dataclass(frozen=True)
class ActionChannel:
    """Meaning of one number of an action. value = normalised action * scale, in `unit`."""

    name: str
    kind: str  # absolute | delta | velocity
    space: str  # cartesian | joint | gripper
    frame: str
    unit: str
    scale: float
    minimum: float  # of the absolute set-point, in `unit`
    maximum: float


@dataclass(frozen=True)
class StateChannel:
    """Meaning of one number of the state."""

    name: str
    unit: str


@dataclass(frozen=True)
class Camera:
    """The camera the policy was trained with."""

    name: str
    width: int
    height: int
    channels: int
    colour: str
    rate_hz: float


@dataclass(frozen=True)
class Tensor:
    """Name, NumPy dtype and static shape of one graph input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """One ONNX graph."""

    name: str
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Model:
    """Where weights came from."""

    name: str
    sha256: str
    parameters: int


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The whole of manifest.json."""

    name: str
    created_with: str
    artifact: str
    arm: str
    target: str
    timing: Timing
    channels: tuple[ActionChannel, ...]
    state: tuple[StateChannel, ...]
    camera: Camera
    stages: tuple[Stage, ...]
    float_stages: tuple[Stage, ...]
    start_low: tuple[float, ...]
    start_high: tuple[float, ...]
    teacher: Model
    student: Model
    recipe: Mapping[str, Any]
    opset: int
    ir_version: int
    files: Mapping[str, FileEntry]

    def stage(self, name: str, float_model: bool = False) -> Stage:
        """The stage of that name. Raises BadInput."""
        for stage in self.float_stages if float_model else self.stages:
            if stage.name == name:
                return stage
        raise BadInput(explain(f"no stage {name!r} in the bundle", ", ".join(STAGES), name, "export again"))


def parse_manifest(raw: bytes) -> Manifest:
    """Bytes of manifest.json -> Manifest. Raises BadInput naming the key that is wrong."""
    data = parse_json(raw, MANIFEST)
    table = JsonTable(MANIFEST, data)
    schema = table.text("schema")
    if schema != SCHEMA:
        table.fail("schema", SCHEMA, schema, "use the edgevla version that wrote this bundle, or export again")
    manifest = _manifest(table)
    table.nothing_left()
    _check(table, manifest)
    return manifest


def _manifest(table: JsonTable) -> Manifest:
    channels = table.each("channels", _channel)
    return Manifest(
        name=table.name("name"),
        created_with=table.text("created_with"),
        artifact=table.text("artifact", ARTIFACTS),
        arm=table.name("arm"),
        target=table.name("target"),
        timing=table.one("timing", _timing),
        channels=channels,
        state=table.each("state", _state),
        camera=table.one("camera", _camera),
        stages=table.each("stages", _stage),
        float_stages=table.each("float_stages", _stage),
        start_low=table.numbers("start_low", len(channels)),
        start_high=table.numbers("start_high", len(channels)),
        teacher=table.one("teacher", _model),
        student=table.one("student", _model),
        recipe=table.mapping("recipe"),
        opset=table.whole("opset", 13, 20),
        ir_version=table.whole("ir_version", 7, MAX_IR_VERSION),
        files=_files(table),
    )


def _timing(table: JsonTable) -> Timing:
    horizon = table.whole("horizon", 2, 10_000)
    return Timing(
        period_s=table.number("period_s", 1e-4, 10.0),
        horizon=horizon,
        d_max=table.whole("d_max", 1, horizon - 1),
    )


def _channel(table: JsonTable) -> ActionChannel:
    minimum = table.number("minimum")
    return ActionChannel(
        name=table.name("name"),
        kind=table.text("kind", ("absolute", "delta", "velocity")),
        space=table.text("space", ("cartesian", "joint", "gripper")),
        frame=table.text("frame"),
        unit=table.text("unit"),
        scale=table.number("scale", 1e-12),
        minimum=minimum,
        maximum=table.number("maximum", math.nextafter(minimum, math.inf)),
    )


def _state(table: JsonTable) -> StateChannel:
    return StateChannel(name=table.name("name"), unit=table.text("unit"))


def _camera(table: JsonTable) -> Camera:
    return Camera(
        name=table.name("name"),
        width=table.whole("width", 8, 8192),
        height=table.whole("height", 8, 8192),
        channels=table.whole("channels", 3, 3),
        colour=table.text("colour", ("rgb",)),
        rate_hz=table.number("rate_hz", 0.1, 1000.0),
    )


def _tensor(table: JsonTable) -> Tensor:
    shape = table.raw("shape", "a list of whole numbers")
    sound = isinstance(shape, list) and 0 < len(shape) <= 8
    if not sound or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**24 for n in shape):
        table.fail("shape", "a static shape: a list of positive whole numbers", shape)
    return Tensor(table.name("name"), table.text("dtype", ("float32", "int64")), tuple(shape))


def _stage(table: JsonTable) -> Stage:
    return Stage(
        name=table.text("name", STAGES),
        file=table.text("file"),
        inputs=table.each("inputs", _tensor),
        outputs=table.each("outputs", _tensor),
    )


def _model(table: JsonTable) -> Model:
    return Model(table.name("name"), table.sha256("sha256"), table.whole("parameters", 1, 10**13))


def _files(table: JsonTable) -> dict[str, FileEntry]:
    inside = JsonTable(f"{table.where}: files", table.mapping("files"))
    paths = inside.keys()
    if not 0 < len(paths) <= MAX_FILES:
        table.fail("files", f"1 to {MAX_FILES} files", len(paths))
    files = {check_path(path): inside.one(path, _entry) for path in paths}
    total = sum(entry.bytes for entry in files.values())
    if total > MAX_TOTAL_BYTES:
        table.fail("files", f"{MAX_TOTAL_BYTES} bytes in all at most", total)
    return files


def _entry(table: JsonTable) -> FileEntry:
    return FileEntry(table.sha256("sha256"), table.whole("bytes", 0, MAX_FILE_BYTES))


def check_path(path: str) -> str:
    """A plain relative path inside the bundle, or BadInput: no '..', no root, no odd characters."""
    parts = path.split("/")
    plain = 0 < len(path) <= 255 and all(_PART.fullmatch(part) for part in parts) and len(parts) <= 8
    if not plain or str(PurePosixPath(path)) != path or path in (MANIFEST, MANIFEST_SUM):
        raise BadInput(
            explain(
                f"{MANIFEST}: a file's path is not allowed",
                "a relative path of plain names inside the bundle",
                repr(path[:200]),
                "do not use this bundle; get it again from where it was made",
            )
        )
    return path


def _check(table: JsonTable, manifest: Manifest) -> None:
    for path in REQUIRED_FILES:
        if path not in manifest.files:
            table.fail("files", f"an entry for {path}", "none")
    for key, stages in (("stages", manifest.stages), ("float_stages", manifest.float_stages)):
        _check_stages(table, key, stages, manifest)
    rows = zip(manifest.channels, manifest.start_low, manifest.start_high, strict=True)
    for channel, low, high in rows:
        if not channel.minimum <= low <= high <= channel.maximum:
            bounds = f"[{channel.minimum:g}, {channel.maximum:g}]"
            table.fail("start_low", f"{channel.name}: start_low <= start_high, both in {bounds}", (low, high))


def _check_stages(table: JsonTable, key: str, stages: tuple[Stage, ...], manifest: Manifest) -> None:
    if sorted(stage.name for stage in stages) != sorted(STAGES):
        table.fail(key, f"the stages {', '.join(STAGES)}", [stage.name for stage in stages])
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        if stage.file not in manifest.files:
            table.fail(key, f"{stage.name}: a file listed in `files`", stage.file)
    for name, side, expected in _expected(by_name, manifest):
        got = {t.name: (t.dtype, t.shape) for t in getattr(by_name[name], side)}
        if got != expected:
            table.fail(key, f"{name} {side} {_show(expected)}", _show(got))


def _expected(
    by_name: Mapping[str, Stage], manifest: Manifest
) -> list[tuple[str, str, dict[str, tuple[str, tuple[int, ...]]]]]:
    """The interface the engine relies on. Free are only the token counts and the width."""
    horizon, actions, camera = manifest.timing.horizon, len(manifest.channels), manifest.camera
    text, vision = by_name["text"], by_name["vision"]
    chunk = (1, horizon, actions)
    tokens = text.inputs[0].shape[-1]
    text_shape, vision_shape = text.outputs[0].shape, vision.outputs[0].shape
    head = {
        "vision": ("float32", vision_shape),
        "text": ("float32", text_shape),
        "state": ("float32", (1, len(manifest.state))),
        "noise": ("float32", chunk),
        "prefix": ("float32", chunk),
        "prefix_mask": ("float32", (1, horizon, 1)),
    }
    image = ("float32", (1, camera.height, camera.width, camera.channels))
    return [
        ("text", "inputs", {"tokens": ("int64", (1, tokens))}),
        ("text", "outputs", {"text": ("float32", text_shape)}),
        ("vision", "inputs", {"image": image}),
        ("vision", "outputs", {"vision": ("float32", vision_shape)}),
        ("head", "inputs", head),
        ("head", "outputs", {"chunk": ("float32", chunk)}),
    ]


def _show(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in sorted(tensors.items()))
