"""The teacher as ONNX FP32: one graph that encodes, one flow step that is called ten times. A baseline for latency."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevla.policy.engine import open_session
from edgevla.policy.preprocess import Float32
from export.onnx.stages import StageSpec, export_stage
from export.teachers.reference import FlowTeacher


class _Encode(nn.Module):
    """image, tokens, state -> observation tokens, with the condition token behind them."""

    def __init__(self, teacher: FlowTeacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, image: Tensor, tokens: Tensor, state: Tensor) -> Tensor:
        observation, condition = self.teacher.encode(image, tokens, state)
        cache = [torch.cat([k, v], dim=1) for k, v in self.teacher.keys_values(observation)]
        flat = torch.stack(cache).transpose(0, 1).flatten(1)
        return torch.cat([condition.flatten(1), flat], dim=1)


class _Step(nn.Module):
    """One Euler step of the flow."""

    def __init__(self, teacher: FlowTeacher, tokens: int) -> None:
        super().__init__()
        self.teacher, self.tokens = teacher, tokens

    def forward(self, encoded: Tensor, x: Tensor, t: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        config = self.teacher.config
        condition, flat = encoded[:, : config.width, None].transpose(1, 2), encoded[:, config.width :]
        shape = (-1, config.head_layers, 2 * config.heads, self.tokens, config.width // config.heads)
        cache = flat.reshape(shape)
        heads = config.heads
        pairs = [(cache[:, i, :heads], cache[:, i, heads:]) for i in range(config.head_layers)]
        x = prefix * mask + x * (1 - mask)
        x = x + self.teacher.velocity(x, t, mask, condition, pairs) / config.flow_steps
        return prefix * mask + x * (1 - mask)


class OnnxTeacher:
    """Observation in, chunk out, by ONNX Runtime FP32 on one thread; the observation is encoded once."""

    def __init__(self, teacher: FlowTeacher) -> None:
        config, generator = teacher.config, torch.Generator().manual_seed(0)
        self._steps = config.flow_steps
        tokens = (config.image_size // 16) ** 2 + 2
        observation = {
            "image": torch.randn((1, config.image_size, config.image_size, 3), generator=generator),
            "tokens": torch.ones((1, config.max_tokens), dtype=torch.int64),
            "state": torch.randn((1, config.state), generator=generator),
        }
        encode = StageSpec("encode", _Encode(teacher), observation, ("encoded",))
        with torch.inference_mode():
            encoded = encode.module(*observation.values())
        chunk = torch.randn((1, config.horizon, config.actions), generator=generator)
        mask = torch.zeros((1, config.horizon, 1))
        inputs = {"encoded": encoded, "x": chunk, "t": torch.zeros(1), "prefix": chunk.clone(), "mask": mask}
        step = StageSpec("step", _Step(teacher, tokens), inputs, ("next",))
        self.graphs = {"encode": export_stage(encode), "step": export_stage(step)}
        self._encode = open_session(self.graphs["encode"], "teacher encode")
        self._step = open_session(self.graphs["step"], "teacher step")

    def infer(self, feeds: dict[str, Any], noise: Float32, prefix: Float32, mask: Float32) -> Float32:
        """Chunk (1, H, A) from image, tokens, state, noise (1, H, A), prefix (1, H, A), mask (1, H, 1)."""
        encoded = self._encode.run(None, feeds)[0]
        x = noise
        for step in range(self._steps):
            t = np.array([step / self._steps], np.float32)
            x = self._step.run(None, {"encoded": encoded, "x": x, "t": t, "prefix": prefix, "mask": mask})[0]
        return np.asarray(x, np.float32)
