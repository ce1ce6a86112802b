"""What the tensors of a RoboVLMs checkpoint are called in our family. Pure: names in, names out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

_TOP = "model."  # what its trainer puts before everything; older files lack it
_WORDS_OUT = {"kosmos-2": ("text_model.lm_head.",), "paligemma": ("language_model.lm_head.", "lm_head.")}
_MOVED = {"paligemma": (("language_model.model.", "language_model."), ("model.", ""))}  # by later transformers
_TRAINING = ("fwd_head.", "clip_norm_head.", "static_image_tokens", "hand_image_tokens")  # nothing at run time reads
_MASKS = re.compile(r"act_head\.gpt\.h\.\d+\.attn\.(masked_)?bias")  # constants that its code kept as buffers
_PARTS = (
    ("act_head.rnn.", "history.rnn."),
    ("act_head.gpt.", "history.gpt."),
    ("act_head.fc.", "history.fc."),
    ("act_head.actions.", "head.actions."),
    ("act_head.gripper.", "head.gripper."),
    ("act_head.mlp.", "head.mlp."),
)


@dataclass(frozen=True)
class Renamed:
    """Tensors by our names; those that only training reads; those that nobody knows."""

    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]


def renamed(state: Mapping[str, Tensor], family: str, latents: int, known: Iterable[str]) -> Renamed:
    """family: of the backbone. latents: how often its one action token asks. known: our names."""
    ours, found, left, unknown = set(known), {}, [], []
    words = [f"backbone.{said}" for said in _WORDS_OUT.get(family, ())]
    for name, tensor in state.items():
        short = name.removeprefix(_TOP)
        if short.startswith((*_TRAINING, *words)) or _MASKS.fullmatch(short):
            left.append(name)
        elif short == "action_token":
            found["asking"] = tensor[None].expand(latents, -1).contiguous()
        elif (our := _our_name(short, family)) in ours:
            found[our] = tensor
        else:
            unknown.append(name)
    return Renamed(found, tuple(left), tuple(unknown))


def _our_name(short: str, family: str) -> str:
    for theirs, our in _PARTS:
        if short.startswith(theirs):
            return our + short.removeprefix(theirs)
    inside = short.removeprefix("backbone.")
    for old, new in _MOVED.get(family, ()):
        if inside.startswith(old):
            inside = new + inside.removeprefix(old)
            break
    return f"backbone.model.{inside}" if short.startswith("backbone.") else short
