"""TensorRT's engines: built once by a deploy, on the device, and found again by GPU, model and library version.

    python -m edgevla.policy.engines --bundle BUNDLE --target TARGET    (builds them; one JSON object on stdout)

An engine is valid for one GPU, one graph, one TensorRT and one set of options; all of them are in the name of its
folder, so that another one is never taken for it. `run` only reads: what was never built is refused, not built, as that
takes minutes. The timing cache, which only makes building faster, is shared by the graphs of one GPU and one TensorRT.

Nothing of this has run on a GPU yet: keys, refusals and records are tested, TensorRT itself is not.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import Refused, explain
from edgevla.policy.providers import RunsOn, option_texts
from profiles import Target
from profiles.providers import TENSORRT

_KEY_DIGITS = 16
_BUILT = "built.json"
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.11", "libnvinfer.so.8", "libnvinfer.so")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h


@dataclass(frozen=True)
class Gpu:
    """The device an engine is for."""

    name: str  # 'Orin'
    capability: str  # '8.7'


@dataclass(frozen=True)
class Libraries:
    """What builds and reads an engine."""

    tensorrt: int  # getInferLibVersion: 100300
    onnxruntime: str


@dataclass(frozen=True)
class Cache:
    """Where the engines of one graph lie, and what lay there before the session was opened."""

    stage: str
    folder: Path
    timing: Path
    before: tuple[str, ...]
    build: bool  # may build what is missing

    def options(self) -> dict[str, str]:
        """What TensorRT is told of it."""
        engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self.folder)}
        timing = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(self.timing)}
        return engines | (timing if self.build else {})

    def opened(self) -> None:
        """The session is open: what was built is marked as complete. Raises Refused where nothing was to be built."""
        if self.build:
            _mark(self.folder)
            return
        added = sorted(set(engine_files(self.folder)) - set(self.before))
        if added:
            raise _no_engine(self.stage, self.folder, f"one that was built now: {', '.join(added)}")


def engine_key(gpu: Gpu, libraries: Libraries, graph: bytes, options: Mapping[str, str]) -> str:
    """The name of an engine's folder: another GPU, graph, library or option makes another one."""
    parts = (gpu.name, gpu.capability, libraries.tensorrt, libraries.onnxruntime, sorted(options.items()))
    said = json.dumps([*parts, hashlib.sha256(graph).hexdigest()]).encode()
    return hashlib.sha256(said).hexdigest()[:_KEY_DIGITS]


def timing_key(gpu: Gpu, libraries: Libraries) -> str:
    """The name of a timing cache's folder."""
    said = json.dumps([gpu.name, gpu.capability, libraries.tensorrt]).encode()
    return f"timing-{hashlib.sha256(said).hexdigest()[:_KEY_DIGITS]}"


def engines_of(bundle: Path) -> Path:
    """Where a release keeps the engines of its bundle: beside it, as they are of the robot and not of the bundle."""
    return bundle.parent / "engines"


def engine_files(folder: Path) -> list[str]:
    """Names of the engines in a folder, sorted; none where it does not exist."""
    return sorted(path.name for path in folder.glob("*.engine"))


def engine_cache(graph: bytes, stage: str, runs_on: RunsOn) -> Cache:
    """The cache of a graph on this device. Raises Refused without GPU or TensorRT, or without the engine to read."""
    return cache_at(graph, stage, runs_on, this_gpu(), these_libraries())


def cache_at(graph: bytes, stage: str, runs_on: RunsOn, gpu: Gpu, libraries: Libraries) -> Cache:
    """`engine_cache` of a known device. Makes the folders where it may build. Raises Refused."""
    options = option_texts(runs_on.options.get(TENSORRT, {}))
    root = Path(runs_on.engines)
    folder, timing = root / engine_key(gpu, libraries, graph, options), root / timing_key(gpu, libraries)
    if runs_on.build:
        folder.mkdir(parents=True, exist_ok=True)
        timing.mkdir(parents=True, exist_ok=True)
    if not runs_on.build and (not runs_on.engines or not (folder / _BUILT).exists()):
        raise _no_engine(stage, folder, f"none for {gpu.name} {gpu.capability}, TensorRT {libraries.tensorrt}")
    return Cache(stage, folder, timing, tuple(engine_files(folder)), runs_on.build)


def _mark(folder: Path) -> None:
    """The engines are whole, also where a graph needs none: a folder without this mark is one that was cut short."""
    beside = folder / f"{_BUILT}.part"
    with beside.open("w") as file:
        file.write(json.dumps(engine_files(folder)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / _BUILT)


def _no_engine(stage: str, folder: Path, got: str) -> Refused:
    todo = "`edgevla deploy` builds engines on the device; `run` never does"
    return Refused(explain(f"stage {stage} has no TensorRT engine", f"one in {folder}", got, todo))


def this_gpu() -> Gpu:
    """The first GPU, asked of the CUDA driver. Raises Refused where there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_gpu(str(error)) from error
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    numbers = {attribute: ctypes.c_int() for attribute in (_MAJOR, _MINOR)}
    asked = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDeviceGetName(name, 256, device)]
    asked += [cuda.cuDeviceGetAttribute(ctypes.byref(to), which, device) for which, to in numbers.items()]
    if any(asked):
        raise _no_gpu(f"CUDA error {next(filter(None, asked))}")
    return Gpu(name.value.decode(errors="replace"), ".".join(str(to.value) for to in numbers.values()))


def _no_gpu(got: str) -> Refused:
    todo = "run on the device, with its driver; or take a target with CPUExecutionProvider"
    return Refused(explain("TensorRT needs a GPU", "one that the CUDA driver knows", got, todo))


def these_libraries() -> Libraries:
    """The installed TensorRT and ONNX Runtime. Raises Refused without TensorRT."""
    import onnxruntime

    for name in _TENSORRT_LIBRARIES:
        try:
            return Libraries(int(ctypes.CDLL(name).getInferLibVersion()), onnxruntime.__version__)
        except (OSError, AttributeError):
            continue
    todo = "install TensorRT of this JetPack: sudo apt install nvidia-jetpack"
    raise Refused(explain("TensorRT is not installed", _TENSORRT_LIBRARIES[0], "none of its libraries", todo))


def runs_on_of(target: Target, bundle: Path, build: bool = False) -> RunsOn:
    """How a bundle's graphs run on a target."""
    return RunsOn(
        target.providers, target.provider_options, target.policy_spinning, str(engines_of(bundle)), build=build
    )


def build_engines(bundle_path: Path, target: Target) -> dict[str, str]:
    """Builds what is missing; sha256 of each engine by its path below `engines/`. Nothing for a CPU target.

    Raises Refused, BadInput.
    """
    from edgevla.bundle.reader import open_bundle
    from edgevla.policy.engine import PolicyEngine

    if TENSORRT not in target.providers:
        return {}
    PolicyEngine(open_bundle(bundle_path), threads=target.policy_threads, runs_on=runs_on_of(target, bundle_path, True))
    root = engines_of(bundle_path)
    found = sorted(path for path in root.rglob("*.engine") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and {"engines": {path: sha256}}, or one error event as the other children print it."""
    import profiles

    parser = argparse.ArgumentParser(prog="python -m edgevla.policy.engines")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--target", required=True, help="name or .toml")
    asked = parser.parse_args(argv)
    engines = build_engines(asked.bundle, profiles.load_target(asked.target))
    sys.stdout.write(json.dumps({"engines": engines}) + "\n")
    return 0


if __name__ == "__main__":
    from edgevla.control.child import guarded

    sys.exit(guarded(main))
