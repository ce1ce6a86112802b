"""`*-project.json`, the configuration of a RoboVLMs checkpoint, with what it inherits. Nothing is executed.

A file may name a `parent`, whose values it overrides key by key, nested tables too; a nested table that says
`"__override__": true` replaces that of the parent whole. A parent is named from the folder its authors called from, so
it is looked for beside the file, and then in each folder above.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain

HEADS = ("FCDecoder", "DiscreteDecoder", "LSTMDecoder", "GPTDecoder")
HISTORIES = ("pre", "post", "video")
_OVERRIDE = "__override__"
_DEEPEST = 8


@dataclass(frozen=True)
class Project:
    """What decides the answers of a checkpoint; `raw` holds every key of the files."""

    backbone: str  # `robovlm_name`
    window: int  # observations that a prediction sees
    chunk: int  # `fwd_pred_next_n`: actions of one prediction
    head: str  # of HEADS
    hidden: int  # of the head, for each latent
    layers: int  # of its LSTM
    latents: int  # action tokens
    history: str  # of HISTORIES: interleaved in the language model, or in a policy head
    discrete: bool
    hand_camera: bool
    resampler: bool
    image_px: int
    normalised: tuple[float, float] | None  # `norm_min`, `norm_max`; None: actions are not normalised
    mu: float | None  # of the mu-law; None: not companded
    raw: Mapping[str, Any]

    @property
    def structure(self) -> str:
        """One of the four: one-step discrete, one-step continuous, interleaved continuous, policy head continuous."""
        if self.discrete:
            return "one-step discrete"
        if self.history == "pre":
            return "interleaved continuous" if self.window > 1 else "one-step continuous"
        return "policy head continuous" if self.head in ("LSTMDecoder", "GPTDecoder") else "one-step continuous"


def read_project(path: Path) -> Project:
    """Raises BadInput: no such file or parent, no JSON, a circle of parents, or a key missing or wrong."""
    raw = _inherited(path, ())
    head = _table(raw, "act_head", path)
    kind = _one_of(head, "act_head.type", "type", HEADS, path)
    space = str(head.get("action_space", "continuous"))
    normalised = (float(raw.get("norm_min", -1)), float(raw.get("norm_max", 1))) if raw.get("norm_action") else None
    if normalised and not normalised[0] < normalised[1]:
        todo = "take the file that was saved with the checkpoint"
        raise BadInput(explain(f"{path}: norm_min, norm_max", "the smaller one first", normalised, todo))
    return Project(
        backbone=str(_value(raw, "robovlm_name", path)),
        window=_count(raw, "window_size", path),
        chunk=_count(raw, "fwd_pred_next_n", path),
        head=kind,
        hidden=_count(head, "hidden_size", path, 1024),
        layers=_count(head, "num_layers", path, 4),
        latents=_count(head, "latent", path, 1),
        history=_one_of(head, "act_head.history_type", "history_type", HISTORIES, path, "post"),
        discrete=space == "discrete" or kind == "DiscreteDecoder",
        hand_camera=bool(raw.get("use_hand_rgb", False)),
        resampler=bool(raw.get("use_vision_resampler", False)),
        image_px=_count(raw, "image_size", path),
        normalised=normalised,
        mu=float(raw.get("mu_val", 255)) if raw.get("use_mu_law") else None,
        raw=raw,
    )


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by `over`, nested tables key by key. Pure."""
    found = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping):
            inner = {k: v for k, v in value.items() if k != _OVERRIDE}
            old = found.get(key)
            found[key] = inner if value.get(_OVERRIDE) or not isinstance(old, Mapping) else merged(old, inner)
        else:
            found[key] = value
    return found


def _inherited(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in chain or len(chain) >= _DEEPEST:
        names = " -> ".join(str(p.name) for p in (*chain, path))
        raise BadInput(explain("the project files inherit in a circle", "a first one", names, "mend a `parent`"))
    try:
        own = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        todo = "pass the *-project.json that lies beside the checkpoint"
        raise BadInput(explain(f"{path}", "a RoboVLMs project file", error, todo)) from None
    if not isinstance(own, dict):
        raise BadInput(explain(f"{path}", "a JSON object", type(own).__name__, "pass the *-project.json"))
    parent = own.get("parent")
    if not parent:
        return merged({}, own)
    return merged(_inherited(_found(path, str(parent)), (*chain, path.resolve())), own)


def _found(path: Path, parent: str) -> Path:
    for folder in path.resolve().parents:
        if (folder / parent).is_file():
            return folder / parent
    todo = f"put it beside {path.name}, or into a folder above under that name"
    raise BadInput(explain(f"{path}: parent", f"the file {parent}", "not there", todo))


def _value(table: Mapping[str, Any], name: str, path: Path) -> Any:
    if table.get(name) is None:
        todo = "take the file that was saved with the checkpoint"
        raise BadInput(explain(f"{path}: {name}", "a value", "none", todo))
    return table[name]


def _table(table: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = _value(table, name, path)
    if not isinstance(value, Mapping):
        raise BadInput(explain(f"{path}: {name}", "a table", type(value).__name__, "mend the file"))
    return value


def _count(table: Mapping[str, Any], name: str, path: Path, default: int | None = None) -> int:
    value = _value(table, name, path) if default is None else table.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(explain(f"{path}: {name}", "a whole number above 0", repr(value), "mend the file"))
    return value


def _one_of(
    table: Mapping[str, Any], label: str, name: str, known: tuple[str, ...], path: Path, default: str = ""
) -> str:
    value = str(table.get(name) or default)
    if value not in known:
        raise BadInput(explain(f"{path}: {label}", ", ".join(known), repr(value), "this head is not carried"))
    return value
