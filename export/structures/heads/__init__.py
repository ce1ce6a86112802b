"""Which head stands behind which name."""

from __future__ import annotations

from export.structures.config import StructureConfig
from export.structures.heads.diffusion import Diffusion
from export.structures.heads.discrete import Discrete, Values
from export.structures.heads.flow import Flow, OnePass
from export.structures.heads.head import Head, Trunk
from export.structures.heads.quantized import Quantized
from export.structures.heads.regression import Mlp

REGRESSED = ("mlp", "lstm", "gpt")  # they differ in what they make of the history


def make_head(config: StructureConfig, tokens: int) -> Head:
    """The head of a config over contexts of so many tokens."""
    c = config
    if c.head in REGRESSED:
        return Mlp(tokens, c.width, c.horizon, c.actions, c.d_max)
    answers = c.head not in ("discrete", "vector-quantized")
    trunk = Trunk(c.horizon, c.actions, c.ticks_per_token, c.width, c.heads, c.layers, answers)
    if c.head == "flow":
        return Flow(trunk, c.width, c.steps)
    if c.head == "flow-one-pass":
        return OnePass(trunk)
    if c.head == "diffusion":
        return Diffusion(trunk, c.width, c.steps)
    if c.head == "vector-quantized":
        return Quantized(trunk, c.width, c.ticks_per_token, c.actions, c.codes)
    return Discrete(trunk, c.width, c.ticks_per_token, c.actions, Values(c.bins, c.bound))
