"""The schema of `manifest.json`, as values that are sound once built.

`parse_manifest` takes the bytes of the file and returns a `Manifest`, or raises one BadInput naming the key.
Nothing here touches the disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import (
    MANIFEST,
    SCHEMA_OF_POLICY,
    SCHEMA_OF_RELEASE,
    Envelope,
    FileEntry,
    Release,
    parse_envelope,
)

SCHEMA = f"edgevla.bundle/{SCHEMA_OF_POLICY}"  # a policy
RELEASE_SCHEMA = f"edgevla.bundle/{SCHEMA_OF_RELEASE}"  # a policy with what a robot needs to run it, and `release`
MAX_IR_VERSION = 10  # the robot's ONNX Runtime 1.23 refuses IR above 11; design section 4 says 10
ARTIFACTS = ("cpu-dynamic-s8", "cpu-static-qdq", "cpu-nbits8", "cpu-nbits4", "trt-qdq", "fp16", "fp32")
WORDS_FILE = {"words": "text/vocab.json", "tokens": "text/tokens.json"}  # kind of text -> its file
FITS = ("exact", "pad", "stretch")
WHEN_MISSING = ("refuse", "blank")
OF_A_RELEASE = ("profiles/target.toml", "profiles/arm.toml", "sbom.cdx.json")  # files that every release has


@dataclass(frozen=True)
class Timing:
    """What the policy was trained with; the bundle owns these."""

    period_s: float  # T: control period
    horizon: int  # H: ticks in a chunk
    d_max: int  # longest prefix the policy was trained with, ticks
    memory_ticks: int = 0  # between two inferences, of a policy that remembers (`edgevla.bundle.wiring`); 0: of none


@dataclass(frozen=True)
class ActionChannel:
    """Meaning of one number of an action. value = normalised action * scale + offset, in `unit`."""

    name: str
    kind: str  # absolute | delta | velocity
    space: str  # cartesian | joint | gripper
    frame: str
    unit: str
    scale: float
    offset: float
    minimum: float  # of the absolute set-point, in `unit`
    maximum: float


@dataclass(frozen=True)
class StateChannel:
    """Meaning of one number of the state."""

    name: str
    unit: str


@dataclass(frozen=True)
class Camera:
    """A camera the policy was trained with, and how its picture becomes the one that the graphs take."""

    name: str
    width: int  # of the raw picture, pixels
    height: int
    channels: int
    colour: str
    rate_hz: float
    input_width: int  # of the picture that the graphs take
    input_height: int
    fit: str  # exact: they are the same | pad: aspect kept, padded at the top left | stretch
    when_missing: str  # refuse | blank: the policy was trained with it absent, shown as -1 and masked


@dataclass(frozen=True)
class Text:
    """How instructions become numbers. `words`: text/vocab.json; `tokens`: text/tokens.json, a tokenizer beside it."""

    kind: str
    max_tokens: int  # 0: the policy hears no words, an instruction only names a known task


@dataclass(frozen=True)
class Tensor:
    """Name, NumPy dtype and static shape of one graph input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """One ONNX graph. With `times` it is one step of a flow and runs once for each (`edgevla.bundle.wiring`)."""

    name: str
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """Where weights came from."""

    name: str
    sha256: str
    parameters: int


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
    cameras: tuple[Camera, ...]
    observations: int  # how many the policy looks at, the newest and those before it
    text: Text
    stages: tuple[Stage, ...]  # in the order they run
    float_stages: tuple[Stage, ...]  # the same in FP32, for comparison; may be left out
    start_low: tuple[float, ...]
    start_high: tuple[float, ...]
    teacher: Model
    student: Model
    recipe: Mapping[str, Any]
    opset: int
    ir_version: int
    files: Mapping[str, FileEntry]
    release: Release | None  # None: schema 2, a policy alone

    def stage(self, name: str, float_model: bool = False) -> Stage:
        """The stage of that name. Raises BadInput."""
        for stage in self.float_stages if float_model else self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise BadInput(explain(f"no stage {name!r} in the bundle", known, name, "export again"))

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """(H, Z) of the noise that the action head starts from; None for a policy without."""
        shapes = [t.shape for stage in self.stages for t in stage.inputs if t.name in ("noise", "noisy")]
        return (self.timing.horizon, shapes[0][-1]) if shapes else None


def parse_manifest(raw: bytes) -> Manifest:
    """Bytes of manifest.json -> Manifest. Raises BadInput naming the key that is wrong."""
    envelope = parse_envelope(raw)
    table = JsonTable(MANIFEST, parse_json(raw, MANIFEST))
    schema = table.text("schema")
    if schema not in (SCHEMA, RELEASE_SCHEMA):
        todo = "update this edgevla, or use the one that wrote this bundle"
        table.fail("schema", f"{SCHEMA} or {RELEASE_SCHEMA}", f"{schema}: written by a newer edgevla", todo)
    manifest = _manifest(table, envelope)
    _check_known_keys(table)
    table.nothing_left()
    _check(table, manifest)
    return manifest


def _manifest(table: JsonTable, envelope: Envelope) -> Manifest:
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
        cameras=table.each("cameras", camera_of, most=16),
        observations=table.whole("observations", 1, 64),
        text=table.one("text", _text),
        stages=table.each("stages", _stage),
        float_stages=table.each("float_stages", _stage, least=0),
        start_low=table.numbers("start_low", len(channels)),
        start_high=table.numbers("start_high", len(channels)),
        teacher=table.one("teacher", _model),
        student=table.one("student", _model),
        recipe=table.mapping("recipe"),
        opset=table.whole("opset", 13, 20),
        ir_version=table.whole("ir_version", 7, MAX_IR_VERSION),
        files=envelope.files,
        release=envelope.release,
    )


def _timing(table: JsonTable) -> Timing:
    horizon = table.whole("horizon", 2, 10_000)
    return Timing(
        period_s=table.number("period_s", 1e-4, 10.0),
        horizon=horizon,
        d_max=table.whole("d_max", 0, horizon - 1),
        memory_ticks=table.whole("memory_ticks", 1, 10_000) if table.has("memory_ticks") else 0,
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
        offset=table.number("offset"),
        minimum=minimum,
        maximum=table.number("maximum", math.nextafter(minimum, math.inf)),
    )


def _state(table: JsonTable) -> StateChannel:
    return StateChannel(name=table.name("name"), unit=table.text("unit"))


def camera_of(table: JsonTable) -> Camera:
    """A camera from its table, here or in cameras.toml."""
    width, height = table.whole("width", 8, 8192), table.whole("height", 8, 8192)
    return Camera(
        name=table.name("name"),
        width=width,
        height=height,
        channels=table.whole("channels", 3, 3),
        colour=table.text("colour", ("rgb",)),
        rate_hz=table.number("rate_hz", 0.1, 1000.0),
        input_width=table.whole("input_width", 8, 8192),
        input_height=table.whole("input_height", 8, 8192),
        fit=table.text("fit", FITS),
        when_missing=table.text("when_missing", WHEN_MISSING),
    )


def _text(table: JsonTable) -> Text:
    return Text(table.text("kind", tuple(WORDS_FILE)), table.whole("max_tokens", 0, 4096))


def _tensor(table: JsonTable) -> Tensor:
    shape = table.raw("shape", "a list of whole numbers")
    sound = isinstance(shape, list) and 0 < len(shape) <= 8
    if not sound or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**24 for n in shape):
        table.fail("shape", "a static shape: a list of positive whole numbers", shape)
    return Tensor(table.name("name"), table.text("dtype", ("float32", "int64")), tuple(shape))


def _stage(table: JsonTable) -> Stage:
    return Stage(
        name=table.name("name"),
        file=table.text("file"),
        inputs=table.each("inputs", _tensor),
        outputs=table.each("outputs", _tensor),
        times=_times(table),
    )


def _times(table: JsonTable) -> tuple[float, ...]:
    times = table.raw("times", "a list of numbers, empty for a stage that runs once")
    if not isinstance(times, list) or len(times) > 1000:
        table.fail("times", "a list of 1000 numbers at most", times)
    return table.numbers("times", len(times))


def _model(table: JsonTable) -> Model:
    return Model(table.name("name"), table.sha256("sha256"), table.whole("parameters", 1, 10**13))


def _check_known_keys(table: JsonTable) -> None:
    """Nothing unknown in the two tables that the envelope reads loosely, for bundles still to be written."""
    for path, entry in table.mapping("files").items():
        if unknown := sorted(set(entry) - {field.name for field in fields(FileEntry)}):
            table.fail("files", f"{path}: sha256 and bytes alone", unknown[0])
    if table.has("release") and (unknown := sorted(set(table.mapping("release")) - {f.name for f in fields(Release)})):
        table.fail("release", "only keys of this schema", unknown[0])


def _check(table: JsonTable, manifest: Manifest) -> None:
    words = WORDS_FILE[manifest.text.kind]
    noise = ("noise.npy",) if manifest.noise_shape else ()
    release = OF_A_RELEASE if manifest.release else ()
    for path in ("stats.json", "cameras.toml", words, *noise, *release):
        if path not in manifest.files:
            table.fail("files", f"an entry for {path}", "none")
    if manifest.release and manifest.release.target != manifest.target:
        table.fail("target", f"{manifest.release.target}, as in `release`", manifest.target)
    for camera in manifest.cameras:
        raw, fitted = (camera.width, camera.height), (camera.input_width, camera.input_height)
        if camera.fit == "exact" and raw != fitted:
            table.fail("cameras", f"{camera.name}: input size = size where fit is exact, {raw}", fitted)
    for key, stages in (("stages", manifest.stages), ("float_stages", manifest.float_stages)):
        check_wiring(table, key, stages, manifest)
    rows = zip(manifest.channels, manifest.start_low, manifest.start_high, strict=True)
    for channel, low, high in rows:
        if not channel.minimum <= low <= high <= channel.maximum:
            bounds = f"[{channel.minimum:g}, {channel.maximum:g}]"
            table.fail("start_low", f"{channel.name}: start_low <= start_high, both in {bounds}", (low, high))


def check_wiring(table: JsonTable, key: str, stages: tuple[Stage, ...], manifest: Manifest) -> None:
    """The stages fit each other and what the engine feeds. Raises BadInput."""
    from edgevla.bundle.wiring import wiring_fault  # it reads the types above

    for stage in stages:
        if stage.file not in manifest.files:
            table.fail(key, f"{stage.name}: a file listed in `files`", stage.file)
    fault = wiring_fault(stages, manifest)
    if fault:
        table.fail(key, *fault)
