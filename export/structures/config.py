"""Which of the four structures, with which head: names and sizes, as a file of a policy holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgevla.errors import BadInput, explain

ONE_STEP, INTERLEAVED, POLICY_HEAD = "one-step", "interleaved", "policy-head"
STRUCTURES = (ONE_STEP, INTERLEAVED, POLICY_HEAD)
SEQUENTIAL = "discrete-sequential"
HEADS = ("mlp", "lstm", "gpt", "flow-one-pass", "flow", "diffusion", "discrete", SEQUENTIAL, "vector-quantized")
LONGEST = 16  # moments of a window
_BOUNDS = {  # of whole numbers, both ends allowed
    "window": (1, LONGEST), "stride": (1, 100_000), "pictures": (1, 64), "state": (1, 4096), "actions": (1, 1024),
    "horizon": (1, 4096), "d_max": (0, 4095), "width": (8, 16_384), "layers": (1, 128), "heads": (1, 256),
    "ticks_per_token": (1, 4096), "latents": (1, 1024), "resampled": (0, 4096), "recurrent_layers": (1, 64),
    "told": (0, 4096), "steps": (1, 1000), "bins": (2, 1 << 20), "codes": (2, 1 << 20),
}  # fmt: skip


@dataclass(frozen=True)
class StructureConfig:
    """What stands behind the backbone. `horizon`, `d_max` and `stride` in ticks.

    The four structures of RoboVLMs: `one-step` with a discrete head, `one-step` with any other, `interleaved`, and
    `policy-head`. With `one-step` the window is 1.
    """

    structure: str
    head: str
    window: int  # moments that an answer depends on
    stride: int  # ticks between two of them: what is re-planned at
    pictures: int  # cameras
    state: int
    actions: int
    horizon: int
    d_max: int = 0
    width: int = 192  # of what stands behind the backbone
    layers: int = 1  # of heads that are transformers
    heads: int = 4
    ticks_per_token: int = 4
    latents: int = 1  # tokens that ask the backbone for an action
    resampled: int = 0  # tokens that a Perceiver leaves of a picture; 0: all of them
    told: int = 0  # numbers of places that the head is told instead of what was seen; 0: what was seen
    recurrent_layers: int = 2
    steps: int = 10  # of a flow or a diffusion
    bins: int = 256  # values of a discrete number
    bound: float = 1.0  # largest of them, normalised
    codes: int = 128  # of a vector-quantized head

    def __post_init__(self) -> None:
        _one_of("structure", self.structure, STRUCTURES)
        _one_of("head", self.head, HEADS)
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise BadInput(explain(name, f"a whole number from {low} to {high}", repr(value), "choose another"))
        if isinstance(self.bound, bool) or not isinstance(self.bound, int | float) or not 0.0 < self.bound < 1e6:
            raise BadInput(explain("bound", "a number above 0", repr(self.bound), "choose another"))
        if self.d_max >= self.horizon:
            expected = f"less than the horizon, {self.horizon} ticks"
            raise BadInput(explain("d_max", expected, self.d_max, "choose a shorter prefix or a longer horizon"))
        if self.width % self.heads:
            raise BadInput(explain("width", f"a multiple of heads = {self.heads}", self.width, "choose another"))
        if not 1 <= self.window <= LONGEST or (self.structure == ONE_STEP and self.window != 1):
            expected = "1 with one-step" if self.structure == ONE_STEP else f"1 to {LONGEST} moments"
            raise BadInput(explain("window", expected, self.window, "choose another window, or another structure"))
        if self.horizon % self.ticks_per_token:
            expected = f"a multiple of ticks_per_token = {self.ticks_per_token}"
            raise BadInput(explain("horizon", expected, self.horizon, "choose another"))
        if self.told >= self.width or (self.told and self.head == SEQUENTIAL):
            expected = f"less than width = {self.width}, with a head of its own"
            raise BadInput(explain("told", expected, f"{self.told} with head {self.head}", "choose a wider policy"))
        if self.head == SEQUENTIAL and self.structure != ONE_STEP:
            todo = "take head discrete, which answers all at once"
            raise BadInput(explain(f"head {SEQUENTIAL}", f"structure {ONE_STEP}", self.structure, todo))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> StructureConfig:
        """Raises BadInput: a key that is not known or missing."""
        known = {field.name for field in fields(StructureConfig)}
        if unknown := sorted(set(values) - known):
            todo = "update edgevla, or take a file of this version"
            raise BadInput(explain("structure", ", ".join(sorted(known)), ", ".join(unknown), todo))
        try:
            return StructureConfig(**values)
        except TypeError as error:
            raise BadInput(explain("structure", "all sizes", error, "take the whole file")) from None


def _one_of(what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise BadInput(explain(what, ", ".join(known), repr(got), "choose one of them"))
