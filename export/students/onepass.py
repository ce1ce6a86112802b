"""The one-pass student: wide, shallow, made of matrix products, so that int8 pays on a CPU.

It answers in one pass what the teacher answers in many flow or diffusion steps. The noise z the teacher started from
is an input: without it the student could only learn the mean over all noise. P pictures (cameras times observations),
all of one size. Up to three stages, exported as one ONNX graph each:

    text    tokens int64 (B, L)                                   -> text    (B, 1, W)      once per instruction
    vision  image float32 (B, P, h, w, 3) in [-1, 1]              -> vision  (B, P * N, W)
    head    vision, text, state (B, S), noise (B, H, Z),
            prefix (B, H, A), prefix_mask (B, H, 1)               -> chunk   (B, H, A)      rows under the mask = prefix

Without words there is no stage `text` and no such input; without noise (Z = 0) no input `noise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.onnx.stages import StageSpec
from export.students.interface import Method, Student
from export.students.layers import ActionTokens, DecoderBlock, EncoderBlock, PatchStem, TextEncoder, blocks
from export.teachers.interface import Inputs


@dataclass(frozen=True)
class StudentConfig:
    """Sizes of the student. `horizon` and `d_max` in ticks, pictures and `patch` in pixels."""

    vocabulary: int = 0  # words and the padding; 0: it hears nothing
    max_tokens: int = 16
    pictures: int = 1
    picture_height: int = 96
    picture_width: int = 96
    patch: int = 16
    state: int = 4  # numbers of all observations
    actions: int = 4
    noise: int = 4  # Z; its first numbers are taken as a first guess of the actions
    horizon: int = 32
    d_max: int = 8
    ticks_per_token: int = 4
    width: int = 320
    heads: int = 5
    encoder_layers: int = 1
    head_layers: int = 1
    head_mlp_ratio: int = 3
    noise_input: bool = True  # False, the control: the graph takes the noise and does not look at it

    def to_dict(self) -> dict[str, int | bool]:
        return asdict(self)


class OnePassStudent(Student):
    """Observation, noise and prefix in, action chunk out, one pass.

    Shaped like a flow teacher's first step, with a patch stem and few layers: the chunk is the noise plus a
    displacement, so the reference teacher's own weights are a start (`export.distill.start`).
    """

    kind = "one-pass"

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.horizon, self.d_max, self.noise = config.horizon, config.d_max, config.noise
        width, size = config.width, (config.picture_height, config.picture_width)
        self.stem = PatchStem(size, config.patch, width, config.pictures)
        patches = (config.picture_height // config.patch) * (config.picture_width // config.patch)
        self.position = nn.Parameter(torch.zeros(config.pictures * patches, width))  # which camera, where in it
        if config.vocabulary:
            self.text = TextEncoder(config.vocabulary, config.max_tokens, width)
        self.state = nn.Sequential(nn.Linear(config.state, width), nn.GELU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(
            EncoderBlock(width, config.heads, 4, nn.GELU) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.numbers = max(config.noise, config.actions)  # of a row that goes into the head
        self.tokens = ActionTokens(config.horizon, config.actions, config.ticks_per_token, width, self.numbers)
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = nn.ModuleList(
            DecoderBlock(width, config.heads, config.head_mlp_ratio, nn.GELU) for _ in range(config.head_layers)
        )
        self.register_buffer("fixed_noise", torch.zeros(config.horizon, config.noise))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Stage `text`."""
        text: Tensor = self.text(tokens)
        return text

    def encode_image(self, image: Tensor) -> Tensor:
        """Stage `vision`."""
        vision: Tensor = self.stem(image.flatten(0, 1)) + self.position
        return vision

    def observe(self, vision: Tensor, text: Tensor | None, body: Tensor) -> Tensor:
        """Observation tokens (B, P * N + 2 or + 1, W), normalised."""
        x = torch.cat([vision, body] if text is None else [vision, text, body], dim=1)
        for block in self.encoder:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def decode(
        self, observation: Tensor, condition: Tensor, noise: Tensor | None, prefix: Tensor, prefix_mask: Tensor
    ) -> Tensor:
        """Chunk (B, H, A) from observation tokens; `condition` (B, 1, W) is words plus state."""
        keep = 1.0 - prefix_mask
        start = self._start(noise, prefix) * keep
        x = self.tokens(start + self._widen(prefix) * prefix_mask, prefix_mask) + condition + self.bias
        for block in blocks(self.head):
            x = block(x, block.cross_attention.keys_values(observation))
        return (start[..., : self.config.actions] + self.tokens.back(x)) * keep + prefix * prefix_mask

    def _start(self, noise: Tensor | None, prefix: Tensor) -> Tensor:
        """What the rows after the prefix start from, (B, H, numbers)."""
        if noise is None or not self.noise:
            return self._widen(prefix * 0.0)
        return self._widen(noise if self.config.noise_input else noise * 0.0)

    def _widen(self, rows: Tensor) -> Tensor:
        """Zeros behind rows that hold fewer numbers than the head takes."""
        missing = self.numbers - rows.shape[-1]
        return nn.functional.pad(rows, (0, missing)) if missing else rows

    def act(
        self,
        vision: Tensor,
        text: Tensor | None,
        state: Tensor,
        noise: Tensor | None,
        prefix: Tensor,
        prefix_mask: Tensor,
    ) -> Tensor:
        """Stage `head`."""
        chunk, _ = self._act(vision, text, state, noise, prefix, prefix_mask)
        return chunk

    def _act(
        self,
        vision: Tensor,
        text: Tensor | None,
        state: Tensor,
        noise: Tensor | None,
        prefix: Tensor,
        prefix_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        body = self.state(state)[:, None]
        observation = self.observe(vision, text, body)
        condition = body if text is None else text + body
        return self.decode(observation, condition, noise, prefix, prefix_mask), observation

    def forward(self, inputs: Inputs, noise: Tensor, prefix: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Chunk and observation tokens from image (B, P, h, w, 3), state, and tokens where there are words."""
        text = self.encode_text(inputs["tokens"]) if self.config.vocabulary else None
        vision = self.encode_image(inputs["image"])
        return self._act(vision, text, inputs["state"], noise, prefix, mask)

    def float_layers(self) -> frozenset[str]:
        """The words are encoded once per instruction: int8 would save nothing there."""
        return frozenset(name for name, _ in self.named_modules() if name.startswith("text."))

    def to_config(self) -> dict[str, Any]:
        return self.config.to_dict()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OnePassStudent:
        return cls(StudentConfig(**config))

    def stages(self) -> list[StageSpec]:
        """`text` where there are words, `vision`, `head`, with inputs of the shapes that the robot will feed."""
        config, generator = self.config, torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        head = {
            "vision": normal(1, len(self.position), config.width),
            "text": normal(1, 1, config.width) if config.vocabulary else None,
            "state": normal(1, config.state),
            "noise": normal(1, config.horizon, config.noise) if config.noise else None,
            "prefix": normal(1, config.horizon, config.actions),
            "prefix_mask": (torch.arange(config.horizon) < min(2, config.d_max)).float()[None, :, None],
        }
        given = {name: value for name, value in head.items() if value is not None}
        pictures = {"image": normal(1, config.pictures, config.picture_height, config.picture_width, 3)}
        stages = [
            StageSpec("vision", Method(self, "encode_image"), pictures, ("vision",)),
            StageSpec("head", _Head(self, tuple(given)), given, ("chunk",)),
        ]
        if not config.vocabulary:
            return stages
        tokens = {"tokens": torch.randint(1, config.vocabulary, (1, config.max_tokens), generator=generator)}
        return [StageSpec("text", Method(self, "encode_text"), tokens, ("text",)), *stages]


class _Head(nn.Module):
    """Stage `head` with the inputs that this student has."""

    def __init__(self, student: OnePassStudent, names: tuple[str, ...]) -> None:
        super().__init__()
        self.student, self.names = student, names

    def forward(self, *values: Tensor) -> Tensor:
        given: dict[str, Tensor | None] = {"text": None, "noise": None, **dict(zip(self.names, values, strict=True))}
        return self.student.act(**given)  # type: ignore[arg-type]
