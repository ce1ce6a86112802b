"""From scratch: a stem of patches or convolutions, an embedding of words, a causal transformer over both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.structures.backbone import Backbone, causal
from export.students.layers import ConvStem, EncoderBlock, PatchStem

STEMS = ("patch", "conv")


@dataclass(frozen=True)
class OwnSizes:
    """Sizes of a model from scratch; pictures and `patch` in pixels."""

    vocabulary: int  # words and the padding
    picture: tuple[int, int] = (96, 96)
    patch: int = 16
    width: int = 192
    heads: int = 4
    layers: int = 2
    longest: int = 1024  # tokens of a sequence
    stem: str = "patch"  # or "conv", for small things in the picture

    def __post_init__(self) -> None:
        height, width = self.picture
        if height % self.patch or width % self.patch or not height * width:
            expected = f"sides that are multiples of patch = {self.patch} pixels"
            raise BadInput(explain("picture", expected, f"{height} x {width}", "choose another picture or patch"))
        if self.stem not in STEMS or (self.stem == "conv" and self.patch not in ConvStem.STRIDES):
            expected = f"{' or '.join(STEMS)}; conv with patch = {' or '.join(map(str, ConvStem.STRIDES))}"
            raise BadInput(explain("stem", expected, f"{self.stem} with patch = {self.patch}", "choose another"))
        if self.width % self.heads:
            expected = f"a multiple of heads = {self.heads}"
            raise BadInput(explain("width of the backbone", expected, self.width, "choose another"))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class OwnModel(nn.Module):
    """The parts, as a family of transformers would hold them."""

    def __init__(self, sizes: OwnSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.stem: PatchStem | ConvStem = (
            ConvStem(sizes.picture, sizes.patch, sizes.width)
            if sizes.stem == "conv"
            else PatchStem(sizes.picture, sizes.patch, sizes.width)
        )
        self.words = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position = nn.Parameter(0.02 * torch.randn(sizes.longest, sizes.width))
        self.layers = nn.ModuleList(EncoderBlock(sizes.width, sizes.heads, 4, nn.GELU) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words


class Ours(Backbone):
    """A model of `OwnSizes`."""

    family = "ours"

    @property
    def vision(self) -> Any:
        return self.model.stem

    @property
    def language(self) -> Any:
        return self.model

    def see(self, image: Tensor) -> Tensor:
        return self.model.stem(image)

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        if x.shape[1] > len(self.model.position):
            got, todo = f"{x.shape[1]} tokens", "take fewer moments, resample the pictures, or raise `longest`"
            raise BadInput(explain("a sequence of the model from scratch", f"{len(self.model.position)}", got, todo))
        x, mask = x + self.model.position[positions], causal(present)
        for layer in self.model.layers:
            x = layer(x, mask)
        return self.model.norm(x)
