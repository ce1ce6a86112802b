"""Small pi0 and pi05 of LeRobot 0.4.4, and the shim that lets them run on transformers 4.57.

LeRobot asks for a patched transformers that no index has. The shim satisfies its check and does what the patch does,
with the parts of transformers that are the same in both (rotary positions, attention, MLP, SigLIP):

- Gemma does not scale its input embeddings; it may attend to a cache without growing it;
- PaliGemma's picture features are not scaled down;
- norms of pi05's expert are scaled, shifted and gated by a condition;
- sizes are small, and the tokenizer is a local one of a few words.

So what is proved is our reading of LeRobot's own code (masks, tokens, state, time, flow), not of the patch.

    PYTHON -m tests_lerobot.pi0_fixture          writes tests/export/teachers/lerobot/fixtures/{pi0,pi05} again
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from bench.smolvla.library import batch_of, tiny, write_vlm
from export.teachers.lerobot.decoder import DecoderSizes
from export.teachers.lerobot.siglip import VisionSizes
from tests_lerobot.build import features, prepare_library, statistics
from tests_lerobot.smolvla_fixture import enliven

prepare_library()
RECORDED = Path(__file__).parents[1] / "tests/export/teachers/lerobot/fixtures"
# The same numbers stand in tests/export/teachers/lerobot/test_pi0.py, in place of our full sizes.
VARIANTS = {
    "gemma_2b": DecoderSizes(32, mlp=64, layers=3, heads=4, kv_heads=1, head=16, eps=1e-6, gemma=True),
    "gemma_300m": DecoderSizes(24, mlp=48, layers=3, heads=4, kv_heads=1, head=16, eps=1e-6, gemma=True),
}
VISION = VisionSizes(width=32, mlp=64, layers=2, heads=4, image=28, patch=7)
VOCABULARY = 64
ROWS, TOKENS = 6, 8


class AdaptiveNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.dense, self.eps = nn.Linear(width, 3 * width), eps

    def forward(self, x: Any, condition: Any) -> Any:
        scale, shift, gate = self.dense(condition)[:, None].chunk(3, dim=-1)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1 + scale) + shift, gate


def normed(norm: Any, x: Any, condition: Any) -> tuple[Any, Any]:
    return norm(x, condition) if isinstance(norm, AdaptiveNorm) else (norm(x), 1.0)


def gemma_forward(
    self: Any,
    inputs_embeds: Any,
    attention_mask: Any,
    position_ids: Any,
    past_key_values: Any = None,
    use_cache: bool = False,
    adarms_cond: Any = None,
) -> Any:
    """What the patched GemmaModel answers, from the layers of the stock one."""
    from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb, eager_attention_forward

    x, cache = inputs_embeds, []
    cos, sin = self.rotary_emb(x, position_ids)
    for i, layer in enumerate(self.layers):
        attention = layer.self_attn
        y, gate = normed(layer.input_layernorm, x, adarms_cond)
        q, k, v = (
            projection(y).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        cache.append((k, v))
        if past_key_values is not None:
            k, v = (torch.cat([old, new], 2) for old, new in zip(past_key_values[i], (k, v), strict=True))
        found, _ = eager_attention_forward(attention, q, k, v, attention_mask, attention.scaling)
        x = x + attention.o_proj(found.flatten(2)) * gate
        y, gate = normed(layer.post_attention_layernorm, x, adarms_cond)
        x = x + layer.mlp(y) * gate
    return SimpleNamespace(
        last_hidden_state=normed(self.norm, x, adarms_cond)[0], past_key_values=cache if use_cache else None
    )


def patched_gemma(model: Any, config: Any) -> None:
    if getattr(config, "use_adarms", False):
        for layer in model.layers:
            layer.input_layernorm = AdaptiveNorm(config.hidden_size, config.rms_norm_eps)
            layer.post_attention_layernorm = AdaptiveNorm(config.hidden_size, config.rms_norm_eps)
        model.norm = AdaptiveNorm(config.hidden_size, config.rms_norm_eps)
    model.forward = types.MethodType(gemma_forward, model)


def small_paligemma(config: Any) -> Any:
    from transformers import PaliGemmaForConditionalGeneration

    text, vision = config.text_config, config.vision_config
    text.vocab_size = config._vocab_size = VOCABULARY
    config.image_token_index = config.image_token_id = VOCABULARY - 1
    config.projection_dim = vision.projection_dim = text.hidden_size
    vision.hidden_size, vision.intermediate_size = VISION.width, VISION.mlp
    vision.num_hidden_layers, vision.num_attention_heads = VISION.layers, VISION.heads
    vision.patch_size = VISION.patch
    model = PaliGemmaForConditionalGeneration(config)
    patched_gemma(model.model.language_model, text)
    inner = model.model
    inner.get_image_features = lambda image: inner.multi_modal_projector(inner.vision_tower(image).last_hidden_state)
    return model


def small_gemma(config: Any) -> Any:
    from transformers import GemmaForCausalLM

    config.vocab_size = VOCABULARY
    model = GemmaForCausalLM(config)
    patched_gemma(model.model, config)
    return model


def small_config(variant: str) -> Any:
    sizes = VARIANTS[variant]
    return SimpleNamespace(
        width=sizes.width,
        depth=sizes.layers,
        mlp_dim=sizes.mlp,
        num_heads=sizes.heads,
        num_kv_heads=sizes.kv_heads,
        head_dim=sizes.head,
    )


def make(kind: str, folder: Path, image: tuple[int, int] = (28, 28), cameras: int = 2, **settings: Any) -> Any:
    """A small policy of `kind` (pi0 or pi05) with its processors in `folder`/policy, a tokenizer in `folder`/vlm."""
    library = importlib.import_module(f"lerobot.policies.{kind}.modeling_{kind}")
    from lerobot.policies.factory import get_policy_class, make_policy_config

    write_vlm(folder / "vlm", tiny())
    check = types.ModuleType("transformers.models.siglip.check")
    check.check_whether_transformers_replace_is_installed_correctly = lambda: True  # type: ignore[attr-defined]
    sys.modules[check.__name__] = check
    patches = {
        "get_gemma_config": small_config,
        "PaliGemmaForConditionalGeneration": small_paligemma,
        "GemmaForCausalLM": small_gemma,
    }
    inputs, outputs = features({f"camera{i + 1}": image for i in range(cameras)}, 6, 0, 6)
    config = make_policy_config(
        kind,
        input_features=inputs,
        output_features=outputs,
        device="cpu",
        **{
            "chunk_size": ROWS,
            "n_action_steps": ROWS,
            "tokenizer_max_length": TOKENS,
            "image_resolution": (VISION.image, VISION.image),
            **settings,
        },
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with mock.patch.multiple(library, **patches):
        policy = get_policy_class(kind)(config)
    enliven(policy)
    policy.eval().save_pretrained(folder / "policy")
    for processor in processors(kind, folder, config, statistics({**inputs, **outputs})):
        processor.save_pretrained(folder / "policy")
    return policy


def processors(kind: str, folder: Path, config: Any, stats: Any) -> Any:
    from lerobot.processor import tokenizer_processor
    from transformers import AutoTokenizer

    local = AutoTokenizer.from_pretrained(folder / "vlm")
    made = importlib.import_module(f"lerobot.policies.{kind}.processor_{kind}")
    with mock.patch.object(tokenizer_processor, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda _: local)):
        return getattr(made, f"make_{kind}_pre_post_processors")(config, stats)


def observations(image: tuple[int, int] = (28, 28), cameras: int = 2) -> dict[str, np.ndarray]:
    """Three frames with full and short instructions. Pictures of whole bytes."""
    rng = np.random.default_rng(2)
    return {
        "image": (rng.integers(0, 256, (3, cameras, *image, 3)) / 127.5 - 1).astype(np.float32),
        "camera_mask": np.ones((3, cameras), np.float32),
        "tokens": rng.integers(3, 16, (3, TOKENS)).astype(np.int64),
        "token_mask": (np.arange(TOKENS) < np.array([[TOKENS], [5], [3]])).astype(np.float32),
        "state": rng.standard_normal((3, 6)).astype(np.float32),
        "noise": rng.standard_normal((3, ROWS, 32)).astype(np.float32),
    }


def answer(policy: Any, inputs: dict[str, np.ndarray], steps: int, present: int | None = None) -> np.ndarray:
    """Normalised actions (3, H, A) of the library, which sees the first `present` cameras."""
    policy.config.num_inference_steps = steps
    batch = {key: value for key, value in batch_of(inputs).items() if not key.endswith("padding_mask")}
    for i in range(inputs["image"].shape[1] if present is None else present, inputs["image"].shape[1]):
        del batch[f"observation.images.camera{i + 1}"]
    chunk = policy.predict_action_chunk(batch, noise=torch.from_numpy(inputs["noise"]))
    return np.asarray(chunk.float().numpy())


def record(kind: str) -> None:
    target = RECORDED / kind
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        policy, inputs = make(kind, folder), observations()
        arrays = {**inputs, "ten": answer(policy, inputs, 10), "one": answer(policy, inputs, 1)}
        arrays["image"] = np.round((inputs["image"] + 1) * 127.5).astype(np.uint8)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "policy", target / "policy", copy_function=shutil.copyfile)
        (target / "vlm").mkdir()
        shutil.copyfile(folder / "vlm/tokenizer.json", target / "vlm/tokenizer.json")
        np.savez_compressed(target / "recorded.npz", **arrays)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    for each in ("pi0", "pi05"):
        record(each)
