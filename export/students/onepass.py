"""The one-pass student: wide, shallow, made of matrix products, so that int8 pays on a CPU.

It answers in one pass what the teacher answers in ten flow steps. The noise z the teacher started from is an input:
without it the student could only learn the mean over all noise. Three stages, exported as one ONNX graph each:

    text    tokens int64 (B, L)                                   -> text    (B, 1, W)      once per instruction
    vision  image float32 (B, 96, 96, 3) in [-1, 1]               -> vision  (B, N, W)
    head    vision, text, state (B, S), noise, prefix (B, H, A),
            prefix_mask (B, H, 1)                                 -> chunk   (B, H, A)      rows under the mask = prefix
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from export.students.layers import ActionTokens, DecoderBlock, EncoderBlock, PatchStem, TextEncoder, blocks


@dataclass(frozen=True)
class StudentConfig:
    """Sizes of the student. `horizon` and `d_max` in ticks, `patch` in pixels."""

    vocabulary: int
    max_tokens: int = 16
    image_size: int = 96
    patch: int = 16
    state: int = 4
    actions: int = 4
    horizon: int = 32
    d_max: int = 8
    ticks_per_token: int = 4
    width: int = 320
    heads: int = 5
    encoder_layers: int = 1
    head_layers: int = 1
    head_mlp_ratio: int = 3
    noise_input: bool = True

    def to_dict(self) -> dict[str, int | bool]:
        return asdict(self)


class OnePassStudent(nn.Module):
    """Observation, noise and prefix in, action chunk out, one pass.

    Shaped like the teacher's first flow step, with a patch stem and fewer layers: the chunk is the noise plus a
    displacement, so the teacher's own weights are a start (`export.distill.start`).
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = PatchStem(config.image_size, config.patch, width)
        self.position = nn.Parameter(torch.zeros((config.image_size // config.patch) ** 2, width))
        self.text = TextEncoder(config.vocabulary, config.max_tokens, width)
        self.state = nn.Sequential(nn.Linear(config.state, width), nn.GELU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(
            EncoderBlock(width, config.heads, 4, nn.GELU) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.tokens = ActionTokens(config.horizon, config.actions, config.ticks_per_token, width)
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = nn.ModuleList(
            DecoderBlock(width, config.heads, config.head_mlp_ratio, nn.GELU) for _ in range(config.head_layers)
        )
        # z of the bundle, float32 (H, A): travels with the weights, is an input of the graph
        self.register_buffer("fixed_noise", torch.zeros(config.horizon, config.actions))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Stage `text`."""
        text: Tensor = self.text(tokens)
        return text

    def encode_image(self, image: Tensor) -> Tensor:
        """Stage `vision`."""
        vision: Tensor = self.stem(image) + self.position
        return vision

    def observe(self, vision: Tensor, text: Tensor, body: Tensor) -> Tensor:
        """Observation tokens (B, N + 2, W), normalised."""
        x = torch.cat([vision, text, body], dim=1)
        for block in self.encoder:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def decode(
        self, observation: Tensor, condition: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        """Chunk (B, H, A) from observation tokens; `condition` (B, 1, W) is words plus state."""
        keep = 1.0 - prefix_mask
        start = noise * keep if self.config.noise_input else noise * 0.0
        x = self.tokens(start + prefix * prefix_mask, prefix_mask) + condition + self.bias
        for block in blocks(self.head):
            x = block(x, block.cross_attention.keys_values(observation))
        return (start + self.tokens.back(x)) * keep + prefix * prefix_mask

    def act(
        self, vision: Tensor, text: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        """Stage `head`."""
        body = self.state(state)[:, None]
        return self.decode(self.observe(vision, text, body), text + body, noise, prefix, prefix_mask)

    def forward(
        self, image: Tensor, tokens: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        return self.act(self.encode_image(image), self.encode_text(tokens), state, noise, prefix, prefix_mask)
