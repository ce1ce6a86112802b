"""A policy folder of LeRobot: `config.json`, safetensors, and the processors with their statistics.

Opened once, it tells everything that an adapter needs to build the network and to feed it. Raw pictures count from 0
to 1 for `image_stats`, whatever the adapter takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.teachers.interface import Affine
from export.teachers.lerobot.peft import CONFIG as ADAPTER_CONFIG
from export.teachers.lerobot.peft import Adapter, read_adapter
from export.teachers.lerobot.processors import PREPROCESSOR, Processors, is_statistic, read_processors
from export.teachers.lerobot.weights import Rename, Weights, load_tensors, open_weights, renamed, sha256_of

CONFIG = "config.json"
STATE, ACTION = "observation.state", "action"
T = TypeVar("T")


@dataclass(frozen=True)
class PolicyFolder:
    """What a folder says. Sizes in numbers, pictures in pixels (height, width)."""

    path: Path
    type: str  # act, diffusion, smolvla, pi0, ...
    config: Mapping[str, Any]
    sha256: str  # of everything that decides its answers: config, processors, statistics, weights
    cameras: tuple[str, ...]  # as the dataset names them, in the order the policy takes them
    image_shapes: Mapping[str, tuple[int, int]]  # by camera
    image_stats: Mapping[str, Affine]  # by camera, of three channels in [0, 1]
    robot_state_size: int  # observation.state
    env_state_size: int  # what stands around the robot, for simulators; 0 on most robots
    state_stats: Affine  # of the robot's state, then that of the environment
    action_size: int
    action_stats: Affine
    steps: Mapping[str, Mapping[str, Any]]  # of the preprocessor, by registered name
    weights: Weights
    adapter: Adapter | None

    @property
    def state_size(self) -> int:
        return self.robot_state_size + self.env_state_size

    @property
    def state_names(self) -> tuple[str, ...]:
        robot = tuple(f"state_{i}" for i in range(self.robot_state_size))
        return robot + tuple(f"environment_{i}" for i in range(self.env_state_size))

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"action_{i}" for i in range(self.action_size))

    @property
    def tokenizer_name(self) -> str | None:
        """Of the hub, from the tokenizer step; None: the policy hears no words, or its folder does not say."""
        name = self.steps.get("tokenizer_processor", {}).get("tokenizer_name")
        return None if name is None else str(name)

    @property
    def max_tokens(self) -> int:
        """Length that words are padded to; 0: the policy hears none."""
        length = self.steps.get("tokenizer_processor", {}).get("max_length", self.config.get("tokenizer_max_length", 0))
        return int(length)

    def setting(self, name: str, default: T) -> T:
        """An entry of config.json, of the type of its default. Raises BadInput: another type."""
        value = self.config.get(name, default)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default):
            raise BadInput(
                explain(f"{name} in {CONFIG}", f"{type(default).__name__}, such as {default!r}", f"{value!r}", "see it")
            )
        return value

    def tensors(self, rename: Rename = lambda key: key) -> Iterator[tuple[str, Tensor]]:
        """The weights one by one, adapter merged, without statistics, under the names that `rename` gives them."""
        base = ((key, self.weights[key]) for key in self.weights.files)
        source = base if self.adapter is None else self.adapter.merged(self.weights)
        return renamed(((_plain(key), tensor) for key, tensor in source if not is_statistic(key)), rename)

    def load_into(self, module: nn.Module, rename: Rename = lambda key: key) -> None:
        """Fills the module with the weights, strictly. Parameters on `meta` get memory of their own.

        Args:
            module: what to fill; every parameter and persistent buffer of it.
            rename: key of the checkpoint to that of the module, or None to leave the tensor out.

        Raises:
            BadInput: a tensor missing, not expected, of another shape, not finite.
        """
        load_tensors(module, self.tensors(rename), f"weights of {self.type} in {self.weights.names}")


def open_folder(path: Path) -> PolicyFolder:
    """Reads a policy folder; of the weights only where they are.

    Raises:
        BadInput: something is missing, damaged, a pickle, or does not agree; the sentence names it.
    """
    adapter = read_adapter(path)
    base = path if adapter is None else adapter.base
    home = path if (path / CONFIG).is_file() else base
    config = _read_config(home)
    weights = open_weights(base)
    said = home if (home / PREPROCESSOR).is_file() else base
    processors = read_processors(said, config, weights)
    inputs, outputs = _features(config, "input_features"), _features(config, "output_features")
    files = [home / CONFIG, *processors.files, *set(weights.files.values())]
    if adapter is not None:
        files += [path / ADAPTER_CONFIG, *set(adapter.weights.files.values())]
    return PolicyFolder(
        path=path,
        type=str(config["type"]),
        config=config,
        sha256=sha256_of(files),
        steps=processors.steps,
        weights=weights,
        adapter=adapter,
        **_pictures(inputs, processors),
        **_numbers(inputs, outputs, processors),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise BadInput(explain("policy folder", CONFIG, f"{folder}: {error}", "check the path")) from error
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        got = "no type" if isinstance(config, dict) else type(config).__name__
        raise BadInput(explain(CONFIG, "a table with type, such as act", got, "give a folder of LeRobot"))
    for name in ("input_features", "output_features"):
        if not isinstance(config.get(name), dict):
            todo = "migrate it with the library that made it"
            raise BadInput(explain(f"{name} in {CONFIG}", "a table of features", f"{config.get(name)!r}", todo))
    return config


def _features(config: Mapping[str, Any], name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each feature, in their order."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for key, feature in config[name].items():
        try:
            shape = tuple(int(size) for size in feature["shape"])
            found[key] = (str(feature["type"]), shape)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                explain(f"{name} in {CONFIG}", f"{key} with type and shape", f"{feature!r}", "save it again")
            ) from error
        if not shape or min(shape) < 1:
            raise BadInput(explain(f"{key} in {CONFIG}", "sizes above 0", f"{list(shape)}", "save it again"))
    return found


def _pictures(inputs: Mapping[str, tuple[str, tuple[int, ...]]], processors: Processors) -> dict[str, Any]:
    names = {policy: dataset for dataset, policy in processors.renames.items()}
    shapes: dict[str, tuple[int, int]] = {}
    stats: dict[str, Affine] = {}
    for key, (kind, shape) in inputs.items():
        if kind != "VISUAL":
            continue
        if len(shape) != 3 or shape[0] != 3:
            raise BadInput(explain(f"{key} in {CONFIG}", "shape [3, height, width]", f"{list(shape)}", "use RGB"))
        camera = _camera(str(names.get(key, key)))
        shapes[camera] = (shape[1], shape[2])
        stats[camera] = processors.inputs.affine(key, kind, 3)
    return {"cameras": tuple(shapes), "image_shapes": shapes, "image_stats": stats}


def _camera(key: str) -> str:
    return key.removeprefix("observation.images.").removeprefix("observation.")


def _numbers(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    outputs: Mapping[str, tuple[str, tuple[int, ...]]],
    processors: Processors,
) -> dict[str, Any]:
    if ACTION not in outputs:
        raise BadInput(explain(f"output_features in {CONFIG}", ACTION, f"{[*outputs]}", "give a policy that acts"))
    robot = [(key, kind, shape[0]) for key, (kind, shape) in inputs.items() if key == STATE]
    around = [(key, kind, shape[0]) for key, (kind, shape) in inputs.items() if kind == "ENV"][:1]
    states = [processors.inputs.affine(key, kind, size) for key, kind, size in robot + around]
    action = outputs[ACTION][1][0]
    return {
        "robot_state_size": sum(size for *_, size in robot),
        "env_state_size": sum(size for *_, size in around),
        "state_stats": Affine(
            np.concatenate([np.zeros(0, np.float32), *(s.offset for s in states)]),
            np.concatenate([np.zeros(0, np.float32), *(s.scale for s in states)]),
        ),
        "action_size": action,
        "action_stats": processors.outputs.affine(ACTION, "ACTION", action, inverse=True),
    }


def _plain(key: str) -> str:
    """Without the name that torch.compile puts between."""
    return key.replace("._orig_mod", "")
