"""The original's network, written small: the same names of tensors and the same order of a sequence.

It keeps its history in lists and runs the LSTM or the GPT-2 over the whole window again, as its authors' does. The
GPT-2 is that of transformers, whose names its authors kept.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tests.export.structures.tiny import config_of

HIDDEN, CHUNK, LAYERS = 16, 3, 2
GPT = {"n_layer": 8, "n_head": 8}
LSTM, GPT2, PLAIN = "LSTMDecoder", "GPTDecoder", "FCDecoder"


class _Mlp(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        sizes = (width, 1024, 512, 256)
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(256, out))


class _Head(nn.Module):
    def __init__(self, width: int, window: int, kind: str) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.window, self.kind, self.history = window, kind, []
        if kind == LSTM:
            self.rnn = nn.LSTM(width, HIDDEN, LAYERS, batch_first=True)
        elif kind == GPT2:
            self.fc = nn.Linear(width, HIDDEN)
            self.gpt = GPT2Model(GPT2Config(vocab_size=1, n_embd=HIDDEN, n_positions=window, **GPT)).eval()
        else:
            self.mlp = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, HIDDEN))
        self.actions, self.gripper = _Mlp(HIDDEN, CHUNK * 6), _Mlp(HIDDEN, CHUNK)

    def forward(self, feature: Tensor) -> Tensor:
        """One moment (1, D) to a chunk (CHUNK, 7): pose, and 0 or 1 of the gripper."""
        if self.kind == LSTM:
            self.history = [*self.history, feature][-self.window :]
            x = self.rnn(torch.stack(self.history, dim=1))[0][:, -1]
        elif self.kind == GPT2:
            self.history = [*self.history, self.fc(feature)][-self.window :]
            x = self.gpt(inputs_embeds=torch.stack(self.history, dim=1)).last_hidden_state[:, -1]
        else:
            x = self.mlp(feature)
        pose = torch.tanh(self.actions.mlp(x)).reshape(CHUNK, 6)
        closes = (torch.sigmoid(self.gripper.mlp(x)) > 0.5).float().reshape(CHUNK, 1)
        return torch.cat([pose, closes], dim=1)


class Original(nn.Module):
    """`model.` of its trainer: backbone, action_token, act_head. kosmos-2 or paligemma."""

    def __init__(self, family: str, window: int, head: str = LSTM, history: str = "post") -> None:
        super().__init__()
        import transformers as t

        made: dict[str, Any] = {
            "kosmos-2": t.Kosmos2ForConditionalGeneration, "paligemma": t.PaliGemmaForConditionalGeneration
        }  # fmt: skip
        self.family, self.window, self.kind, self.past = family, window, history, []
        self.backbone = made[family](config_of(family)).eval()
        self.action_token = nn.Parameter(torch.randn(self.width))
        self.act_head = _Head(self.width, window, head)

    @property
    def width(self) -> int:
        return int(self.backbone.get_input_embeddings().embedding_dim)

    @torch.no_grad()
    def forward(self, pixels: list[Tensor], words: Tensor) -> Tensor:
        """Pixels (1, 3, h, w) of each camera, hand first, and ids (1, L) to a chunk: its action token is put before
        the last id."""
        embedded = self.backbone.get_input_embeddings()(words)
        pictures = torch.cat([self._pictures(p) for p in pixels], dim=1)
        action = self.action_token.expand(1, 1, -1)
        sequence = torch.cat([embedded[:, :1], pictures, embedded[:, 1:-1], action, embedded[:, -1:]], dim=1)
        if self.kind == "pre":
            self.past = [*self.past, sequence][-self.window :]
            sequence = torch.cat(self.past, dim=1)
        return self.act_head(self._hidden(sequence)[:, -2])

    def _pictures(self, pixels: Tensor) -> Tensor:
        model = self.backbone
        if self.family == "paligemma":
            return model.model.get_image_features(pixels)
        found = model.vision_model.model.post_layernorm(model.vision_model(pixels)[0])
        return model.image_to_text_projection(nn.functional.normalize(found, dim=-1))[0]

    def _hidden(self, sequence: Tensor) -> Tensor:
        inner = self.backbone.model.language_model if self.family == "paligemma" else self.backbone.text_model.model
        there = torch.ones(sequence.shape[:2], dtype=torch.long)
        return inner(inputs_embeds=sequence, attention_mask=there, use_cache=False).last_hidden_state

    def checkpoint(self) -> dict[str, Tensor]:
        """Tensors by the names that the trainer of its day gave them: transformers has moved PaliGemma's since."""
        old = {}
        for name, tensor in self.state_dict().items():
            if self.family == "paligemma" and name.startswith("backbone.model.language_model."):
                name = name.replace("backbone.model.language_model.", "backbone.language_model.model.")
            elif self.family == "paligemma" and name.startswith("backbone.model."):
                name = name.replace("backbone.model.", "backbone.")
            elif self.family == "paligemma" and name == "backbone.lm_head.weight":
                name = "backbone.language_model.lm_head.weight"
            if not name.endswith("gpt.wte.weight"):  # its authors took it out
                old[f"model.{name}"] = tensor
        if self.act_head.kind == GPT2:
            for layer in range(GPT["n_layer"]):  # and kept the causal mask as tensors
                old[f"model.act_head.gpt.h.{layer}.attn.bias"] = torch.ones(1, 1, HIDDEN, HIDDEN, dtype=torch.uint8)
                old[f"model.act_head.gpt.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        return old
