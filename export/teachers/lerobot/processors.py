"""Statistics and text settings of a policy folder: the steps of its processors, or buffers inside older weights.

`policy_preprocessor.json` and `policy_postprocessor.json` list steps; the two that normalise keep their statistics in
a state file with keys `<feature>.<stat>`. What the steps say holds, not `config.json`, as in the library. Checkpoints
from before the processors keep them as `normalize_inputs.buffer_<feature>.<stat>` inside the weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from export.teachers.interface import Affine
from export.teachers.lerobot.weights import Weights, keys_of

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
EPSILON = 1e-8
MODES = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
# Steps whose work is done elsewhere here (batch, device) or by the adapter of the architecture (words, new lines).
KNOWN_STEPS = {
    "rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor",
    "unnormalizer_processor", "tokenizer_processor", "smolvla_new_line_processor", "pi0_new_line_processor",
    "pi05_prepare_state_tokenizer_processor_step",
}  # fmt: skip
_OLD = re.compile(r"(un)?normalize_(inputs|outputs|targets)\.")
_OLD_OUTPUTS = ("unnormalize_outputs", "normalize_targets")
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Normalization:
    """One normalising step. Without a step there are no modes and everything is left as it is."""

    modes: Mapping[str, str] = field(default_factory=dict)  # by type of feature: STATE, ACTION, VISUAL, ENV
    stats: Mapping[str, Mapping[str, Float64]] = field(default_factory=dict)  # by feature, then by name
    epsilon: float = EPSILON
    file: str = ""
    only: frozenset[str] | None = None  # features that are normalised; None: all

    def affine(self, feature: str, kind: str, size: int, inverse: bool = False) -> Affine:
        """How `feature` of `size` numbers is normalised; `inverse` where the step takes normalisation back.

        Raises:
            BadInput: a mode we do not know; statistics missing, of another size, not finite, or without any spread.
        """
        mode = self.modes.get(kind, "IDENTITY")
        if mode == "IDENTITY" or (self.only is not None and feature not in self.only and kind != "ACTION"):
            return Affine(np.zeros(size, np.float32), np.ones(size, np.float32))
        if mode not in MODES:
            raise BadInput(explain(f"normalisation of {feature}", f"one of {[*MODES]}", mode, "see its processors"))
        low, high = (self._statistic(feature, name, size) for name in MODES[mode])
        if mode == "MEAN_STD":
            # The library adds epsilon on the way in only, so that a round trip is not quite the identity.
            offset, scale = low, high if inverse else high + self.epsilon
            spread = high
        else:
            offset, scale = (low + high) / 2, (high - low) / 2
            spread = high - low
        self._require_spread(feature, mode, spread)
        return Affine(offset.astype(np.float32), scale.astype(np.float32))

    def _statistic(self, feature: str, name: str, size: int) -> Float64:
        values = self.stats.get(feature, {}).get(name)
        if values is None:
            there = sorted(f"{key}.{stat}" for key, stats in self.stats.items() for stat in stats)
            got = f"{there[:6]} in {self.file}" if there else f"none in {self.file}"
            todo = "save the policy with the statistics of its dataset"
            raise BadInput(explain("statistics", f"{feature}.{name}", got, todo))
        if values.size != size or not np.isfinite(values).all():
            got = f"{values.size} numbers: {values.reshape(-1)[:8].tolist()}"
            raise BadInput(
                explain(f"{feature}.{name} in {self.file}", f"{size} finite numbers", got, "use another checkpoint")
            )
        return values.reshape(size)

    def _require_spread(self, feature: str, mode: str, spread: Float64) -> None:
        # In float32 a spread below this is no spread any more.
        still = np.flatnonzero(~(spread > np.finfo(np.float32).tiny))
        if len(still):
            low, high = MODES[mode]
            what = f"a positive {feature}.{high}" if mode == "MEAN_STD" else f"{feature}.{high} above {feature}.{low}"
            got = f"{spread[still[0]]:g} in channel {still[0]}"
            todo = "that channel never moved in the data: train without it, or give it a spread"
            raise BadInput(explain(f"statistics in {self.file}", what, got, todo))


@dataclass(frozen=True)
class Processors:
    """What the processors of a policy say."""

    inputs: Normalization
    outputs: Normalization
    renames: Mapping[str, str] = field(default_factory=dict)  # key of the dataset -> key of the policy
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the preprocessor: name -> config
    files: tuple[Path, ...] = ()


def is_statistic(key: str) -> bool:
    """A tensor of an old checkpoint that holds statistics, not weights."""
    return _OLD.search(key) is not None


def read_processors(folder: Path, config: Mapping[str, Any], weights: Weights) -> Processors:
    """From the two JSON files if they are there, else from buffers in the weights.

    Raises:
        BadInput: a file is damaged, a step is not one of ours, or statistics are nowhere.
    """
    if (folder / PREPROCESSOR).is_file():
        before, after = _read_steps(folder, PREPROCESSOR), _read_steps(folder, POSTPROCESSOR)
        inputs, outputs = before.get("normalizer_processor"), after.get("unnormalizer_processor")
        states = [step["state_file"] for step in (inputs, outputs) if step and "state_file" in step]
        return Processors(
            inputs=_normalization(folder, PREPROCESSOR, inputs),
            outputs=_normalization(folder, POSTPROCESSOR, outputs),
            renames=_table(before.get("rename_observations_processor", {}), "rename_map"),
            steps={name: _table(step, "config") for name, step in before.items()},
            files=tuple(folder / name for name in (PREPROCESSOR, POSTPROCESSOR, *states)),
        )
    modes = config.get("normalization_mapping")
    features = [*config["input_features"], *config["output_features"]]
    identity = isinstance(modes, dict) and all(mode == "IDENTITY" for mode in modes.values())
    if not isinstance(modes, dict) or not (identity or any(is_statistic(key) for key in weights.files)):
        expected = f"{PREPROCESSOR}, or normalize_inputs buffers in the weights"
        raise BadInput(explain("statistics", expected, f"neither in {folder.name}", "save it with its processors"))
    return Processors(
        inputs=Normalization(modes, _buffers(weights, ("normalize_inputs",), features), file=weights.names),
        outputs=Normalization(modes, _buffers(weights, _OLD_OUTPUTS, features), file=weights.names),
    )


def _read_steps(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """The steps of one file by registered name, in their order."""
    try:
        steps = json.loads((folder / name).read_text())["steps"]
        found = {str(step.get("registry_name") or step["class"].rsplit(".", 1)[-1]): dict(step) for step in steps}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(explain(name, "a list of steps", f"{folder.name}: {error!r}", "save it again")) from error
    if len(found) != len(steps):
        raise BadInput(explain(name, "each step once", f"{len(steps)} steps, {len(found)} names", "save it again"))
    unknown = [step for step in found if step not in KNOWN_STEPS]
    if unknown:
        raise BadInput(explain(f"step of {name}", f"one of {sorted(KNOWN_STEPS)}", unknown[0], "write an adapter"))
    dtype = _table(found.get("device_processor", {}), "config").get("float_dtype")
    if dtype not in (None, "float32"):
        raise BadInput(explain(f"device_processor of {name}", "float_dtype null or float32", f"{dtype!r}", "set it so"))
    return found


def _table(step: Mapping[str, Any], key: str) -> dict[str, Any]:
    """step["config"], or step["config"][key]; empty where it is not given."""
    config = step.get("config") or {}
    value = config if key == "config" else config.get(key) or {}
    if not isinstance(config, dict) or not isinstance(value, dict):
        raise BadInput(explain(f"{key} of a processor step", "a table", f"{value!r}", "save the policy again"))
    return value


def _normalization(folder: Path, file: str, step: Mapping[str, Any] | None) -> Normalization:
    if step is None:
        return Normalization(file=file)
    config, state = _table(step, "config"), str(step.get("state_file", ""))
    only = config.get("normalize_observation_keys")
    features = frozenset(_table(step, "features")) if only is None else frozenset(only)
    return Normalization(
        modes=_table(step, "norm_map"),
        stats=_state(folder, state) if state else {},
        epsilon=float(config.get("eps", EPSILON)),
        file=state or file,
        only=features,
    )


def _state(folder: Path, name: str) -> dict[str, dict[str, Float64]]:
    if Path(name).name != name or not (folder / name).is_file():
        raise BadInput(explain("state file of a processor", f"{name} in {folder.name}", "not there", "fetch it again"))
    weights = Weights(dict.fromkeys(keys_of(folder / name), folder / name))
    return _grouped({key: weights[key].double().numpy() for key in weights.files if "." in key})


def _grouped(flat: Mapping[str, Float64]) -> dict[str, dict[str, Float64]]:
    """`observation.state.mean` -> ["observation.state"]["mean"]."""
    stats: dict[str, dict[str, Float64]] = {}
    for key, values in flat.items():
        feature, name = key.rsplit(".", 1)
        stats.setdefault(feature, {})[name] = values
    return stats


def _buffers(weights: Weights, owners: tuple[str, ...], features: list[str]) -> dict[str, dict[str, Float64]]:
    """Old buffers by feature, whose dots were written as underscores; the first owner that has one counts."""
    stats: dict[str, dict[str, Float64]] = {}
    for owner in owners:
        for feature in features:
            prefix = f"{owner}.buffer_{feature.replace('.', '_')}."
            for key in (key for key in weights.files if key.startswith(prefix)):
                stats.setdefault(feature, {}).setdefault(key.removeprefix(prefix), weights[key].double().numpy())
    return stats
