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

from export.students.layers import DecoderBlock, EncoderBlock, TextEncoder, blocks


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
    noise_input: bool = True

    def to_dict(self) -> dict[str, int | bool]:
        return asdict(self)


class PatchStem(nn.Module):
    """Image (B, S, S, 3) to (B, N, W): cut into patches, two linear layers. No convolution: int8 makes those slower."""

    def __init__(self, image_size: int, patch: int, width: int) -> None:
        super().__init__()
        self.rows, self.patch = image_size // patch, patch
        self.embed = nn.Linear(patch * patch * 3, width)
        self.mix = nn.Linear(width, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.rows**2, width))

    def forward(self, image: Tensor) -> Tensor:
        rows, patch = self.rows, self.patch
        cut = image.reshape(-1, rows, patch, rows, patch * 3).transpose(2, 3)  # (B, rows, rows, patch, patch * 3)
        x = self.embed(cut.reshape(-1, rows * rows, patch * patch * 3)) + self.position
        return x + self.mix(torch.relu(x))


class OnePassStudent(nn.Module):
    """Observation, noise and prefix in, action chunk out, one pass."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = PatchStem(config.image_size, config.patch, width)
        self.text = TextEncoder(config.vocabulary, config.max_tokens, width)
        self.state = nn.Sequential(nn.Linear(config.state, width), nn.ReLU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(
            EncoderBlock(width, config.heads, 4, nn.ReLU) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.embed = nn.Linear(config.ticks_per_token * (2 * config.actions + 1), width)
        self.position = nn.Parameter(0.02 * torch.randn(config.horizon // config.ticks_per_token, width))
        self.head = nn.ModuleList(DecoderBlock(width, config.heads, 4, nn.ReLU) for _ in range(config.head_layers))
        self.head_norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, config.ticks_per_token * config.actions)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Stage `text`."""
        return self.text(tokens)

    def encode_image(self, image: Tensor) -> Tensor:
        """Stage `vision`."""
        return self.stem(image)

    def observe(self, vision: Tensor, text: Tensor, body: Tensor) -> Tensor:
        """Observation tokens (B, N + 2, W), normalised."""
        x = torch.cat([vision, text, body], dim=1)
        for block in self.encoder:
            x = block(x)
        return self.norm(x)

    def act(
        self, vision: Tensor, text: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        """Stage `head`."""
        body = self.state(state)[:, None]
        observation = self.observe(vision, text, body)
        keep = 1.0 - prefix_mask
        noise = noise if self.config.noise_input else noise * 0.0
        stacked = torch.cat([noise * keep, prefix * prefix_mask, prefix_mask], dim=-1)
        ticks = self.config.ticks_per_token
        x = self.embed(stacked.unflatten(1, (-1, ticks)).flatten(2)) + self.position + text + body
        for block in blocks(self.head):
            x = block(x, block.cross_attention.keys_values(observation))
        chunk = self.unembed(self.head_norm(x)).unflatten(2, (ticks, self.config.actions)).flatten(1, 2)
        return chunk * keep + prefix * prefix_mask

    def forward(
        self, image: Tensor, tokens: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        return self.act(self.encode_image(image), self.encode_text(tokens), state, noise, prefix, prefix_mask)
