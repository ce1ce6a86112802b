"""How the graphs of a bundle fit together: the names that the engine feeds, and what each stage takes from the others.

Stages run in order. An input is one of the raw ones below or an output of a stage before it, of the same dtype and
shape; stages that depend on words alone run once per instruction. The last stage answers `chunk`. With `times` it is
one step of a flow: it takes `noisy`, the noise first and then its own chunk, and the time `t`, and runs once per time.

    image        float32 (1, T * N, h, w, 3) in [-1, 1]  pictures of all N cameras, oldest of T observations first
    camera_mask  float32 (1, T * N)                    1 where the camera is there
    state        float32 (1, T * S)                    normalised
    tokens       int64   (1, L), token_mask float32 (1, L)
    noise        float32 (1, H, Z)                     from the bundle
    prefix       float32 (1, H, A), prefix_mask float32 (1, H, 1)

A policy with a memory takes it as inputs of any other name: what a stage answered as NAME_next is NAME of the next
inference, zeros for the first one after a start, an arming or a new instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgevla.bundle.manifest import Manifest, Stage

Kind = tuple[str, tuple[int, ...]]
WORDS = ("tokens", "token_mask")
NEXT = "_next"  # behind the name of what is remembered


def wiring_fault(stages: Sequence[Stage], manifest: Manifest) -> tuple[str, str] | None:
    """(expected, got) of the first thing that does not fit, or None. No stages at all fit."""
    if not stages:
        return None
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        return "stages of different names", ", ".join(names)
    if any(stage.times for stage in stages[:-1]):
        return "times on the last stage only", ", ".join(stage.name for stage in stages[:-1] if stage.times)
    known = _raw(stages, manifest)
    for stage in stages:
        fault = _inputs_fault(stage, known, manifest)
        if fault:
            return fault
        for tensor in stage.outputs:
            if tensor.name in known and not (tensor.name == "chunk" and stage is stages[-1]):
                return f"{stage.name}: an output of a new name", tensor.name
            known[tensor.name] = (tensor.dtype, tensor.shape)
    return _answer_fault(stages, manifest)


def once_per_instruction(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages whose answer depends on the words alone."""
    known, found = set(WORDS), []
    for stage in stages:
        if {tensor.name for tensor in stage.inputs} <= known:
            known |= {tensor.name for tensor in stage.outputs}
            found.append(stage)
    return tuple(found)


def remembered(stages: Sequence[Stage]) -> dict[str, Kind]:
    """What an inference hands to the next: the inputs that some stage answers anew, with the type of that answer."""
    answered = {tensor.name: (tensor.dtype, tensor.shape) for stage in stages for tensor in stage.outputs}
    names = {tensor.name for stage in stages for tensor in stage.inputs} - set(answered)
    return {name: answered[name + NEXT] for name in sorted(names) if name + NEXT in answered}


def _raw(stages: Sequence[Stage], manifest: Manifest) -> dict[str, Kind]:
    """What the engine feeds. Z is what the graph asks for, at least A."""
    horizon, actions, past = manifest.timing.horizon, len(manifest.channels), manifest.observations
    pictures, (first, *_) = past * len(manifest.cameras), manifest.cameras
    kinds: dict[str, Kind] = {
        **remembered(stages),
        "image": ("float32", (1, pictures, first.input_height, first.input_width, 3)),
        "camera_mask": ("float32", (1, pictures)),
        "state": ("float32", (1, past * len(manifest.state))),
        "prefix": ("float32", (1, horizon, actions)),
        "prefix_mask": ("float32", (1, horizon, 1)),
    }
    if manifest.text.max_tokens:
        kinds["tokens"] = ("int64", (1, manifest.text.max_tokens))
        kinds["token_mask"] = ("float32", (1, manifest.text.max_tokens))
    noise = manifest.noise_shape
    if noise is not None and noise[-1] >= actions:
        kinds["noise"] = ("float32", (1, horizon, noise[-1]))
        if stages[-1].times:
            kinds |= {"noisy": kinds["noise"], "t": ("float32", (1,))}
    return kinds


def _inputs_fault(stage: Stage, known: dict[str, Kind], manifest: Manifest) -> tuple[str, str] | None:
    for tensor in stage.inputs:
        kind = known.get(tensor.name)
        if kind is None:
            return f"{stage.name}: inputs among {', '.join(sorted(known))}", tensor.name
        if kind != (tensor.dtype, tensor.shape):
            return f"{stage.name} inputs {_show(tensor.name, kind)}", _show(tensor.name, (tensor.dtype, tensor.shape))
    sizes = {(camera.input_height, camera.input_width) for camera in manifest.cameras}
    if len(sizes) > 1 and any(tensor.name == "image" for tensor in stage.inputs):
        return f"{stage.name}: cameras of one input size", f"{sorted(sizes)}"
    return None


def _answer_fault(stages: Sequence[Stage], manifest: Manifest) -> tuple[str, str] | None:
    last, horizon, actions = stages[-1], manifest.timing.horizon, len(manifest.channels)
    noise = manifest.noise_shape
    width = noise[-1] if last.times and noise else actions
    expected = ("float32", (1, horizon, width))
    got = {tensor.name: (tensor.dtype, tensor.shape) for tensor in last.outputs}
    if got != {"chunk": expected}:
        return f"{last.name} outputs {_show('chunk', expected)}", ", ".join(_show(*item) for item in got.items())
    inputs = {tensor.name for stage in stages for tensor in stage.inputs}
    if last.times and not {"noisy", "t"} <= inputs:
        return f"{last.name} inputs noisy and t, as it has times", ", ".join(sorted(inputs))
    memory, ticks = remembered(stages), manifest.timing.memory_ticks
    if bool(memory) != bool(ticks):
        return "timing.memory_ticks exactly where a policy remembers", f"{ticks}, memory: {', '.join(memory) or 'none'}"
    if memory and manifest.observations > 1:
        return "observations 1 of a policy that remembers: the rest is its memory", f"{manifest.observations}"
    needs = {"prefix", "prefix_mask"}
    if bool(manifest.timing.d_max) != (needs <= inputs):
        return "prefix and prefix_mask among the inputs exactly where d_max is above 0", ", ".join(
            sorted(inputs & needs)
        )
    if manifest.text.max_tokens and "tokens" not in inputs:
        return "tokens among the inputs, as max_tokens is above 0", "none"
    return None


def _show(name: str, kind: Kind) -> str:
    return f"{name} {kind[0]}{list(kind[1])}"
