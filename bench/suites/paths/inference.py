"""One inference from raw camera bytes to the chunk, and the pieces around it."""

from __future__ import annotations

from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
INSTRUCTION = "open the drawer"


def engine_of(place: Place, float_model: bool = False) -> Any:
    """The policy of `place.bundle` on one thread, told an instruction that it knows."""
    from edgevla.bundle import open_bundle
    from edgevla.policy.engine import PolicyEngine

    engine = PolicyEngine(open_bundle(place.bundle), threads=1, float_model=float_model)
    engine.set_instruction(INSTRUCTION)
    return engine


def observation(engine: Any, place: Place, prefix_ticks: int) -> tuple[Any, Any, Any]:
    """Pictures by camera, state, prefix: of the sizes that the bundle asks for."""
    import numpy as np

    from edgevla.bundle import open_bundle

    bundle = open_bundle(place.bundle)
    rng = np.random.default_rng(0)
    cameras = bundle.manifest.cameras
    images = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in cameras}
    state = np.asarray(bundle.stats.state_offset, np.float32)
    return images, state, np.zeros((prefix_ticks, len(bundle.manifest.channels)), np.float32)


def finite(chunk: object) -> bool:
    """A chunk of at least one row without NaN."""
    import numpy as np

    return isinstance(chunk, np.ndarray) and chunk.ndim == 2 and bool(np.isfinite(chunk).all())


def _chunk(place: Place, float_model: bool, prefix_ticks: int) -> Made:
    engine = engine_of(place, float_model)
    images, state, prefix = observation(engine, place, prefix_ticks)
    return Made(lambda: engine.infer(images, state, prefix), finite)


@PATHS.add("inference/artifact, prefix 0")
def _artifact_start(place: Place) -> Made:
    return _chunk(place, float_model=False, prefix_ticks=0)


@PATHS.add("inference/artifact, prefix 2")
def _artifact(place: Place) -> Made:
    """Prefix 2: the host profile's d."""
    return _chunk(place, float_model=False, prefix_ticks=2)


@PATHS.add("inference/artifact, prefix 8")
def _artifact_deep(place: Place) -> Made:
    """Prefix 8: d_max of the reference policy."""
    return _chunk(place, float_model=False, prefix_ticks=8)


@PATHS.add("inference/float, prefix 2")
def _float(place: Place) -> Made:
    from edgevla.bundle import open_bundle

    if not open_bundle(place.bundle).manifest.float_stages:  # a bundle that ships its artifact alone
        raise LookupError(f"{place.bundle.name} has no FP32 graphs")
    return _chunk(place, float_model=True, prefix_ticks=2)


def _stage(place: Place, name: str) -> Made:
    engine = engine_of(place)
    sessions = engine.stages()
    if name not in sessions:
        raise LookupError(f"{place.bundle.name} has no stage {name}")
    values = engine.trace(*observation(engine, place, 2))
    session = sessions[name]
    feeds = {tensor.name: values[tensor.name] for tensor in session.get_inputs()}
    return Made(lambda: session.run(None, feeds), lambda answers: isinstance(answers, list) and len(answers) > 0)


@PATHS.add("inference/stage text")
def _text(place: Place) -> Made:
    return _stage(place, "text")


@PATHS.add("inference/stage vision")
def _vision(place: Place) -> Made:
    return _stage(place, "vision")


@PATHS.add("inference/stage head")
def _head(place: Place) -> Made:
    return _stage(place, "head")


def _preprocess(height: int, width: int) -> Made:
    import numpy as np

    from edgevla.bundle.manifest import Camera
    from edgevla.policy.preprocess import pictures

    fit = "exact" if (height, width) == (96, 96) else "stretch"
    camera = Camera("corner", width, height, 3, "rgb", 40.0, 96, 96, fit, "refuse")
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Made(
        lambda: pictures(image, [camera]),
        lambda found: isinstance(found, tuple) and found[0].shape == (1, 96, 96, 3) and abs(found[0]).max() <= 1.0,
    )


@PATHS.add("inference/preprocess 96 x 96")
def _preprocess_exact(place: Place) -> Made:
    return _preprocess(96, 96)


@PATHS.add("inference/preprocess 480 x 640 to 96 x 96")
def _preprocess_resized(place: Place) -> Made:
    return _preprocess(480, 640)


@PATHS.add("inference/prefix and mask")
def _prefix(place: Place) -> Made:
    import numpy as np

    from edgevla.policy.preprocess import prefix_tensors

    prefix = np.zeros((2, 4), np.float32)
    return Made(
        lambda: prefix_tensors(prefix, 32, 8), lambda found: isinstance(found, tuple) and float(found[1].sum()) == 2.0
    )


@PATHS.add("inference/set-points of a chunk")
def _setpoints(place: Place) -> Made:
    import numpy as np

    from edgevla.bundle import open_bundle

    engine = engine_of(place)
    manifest = open_bundle(place.bundle).manifest
    chunk = np.zeros((manifest.timing.horizon, len(manifest.channels)), np.float32)
    anchor = np.zeros(len(manifest.channels), np.float32)
    return Made(lambda: engine.to_setpoints(chunk, anchor, 2), finite)
