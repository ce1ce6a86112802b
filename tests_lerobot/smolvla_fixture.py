"""Tiny SmolVLA folders made and answered by LeRobot, for the tests here and, recorded, for `make test`.

PYTHON -m tests_lerobot.smolvla_fixture          writes tests/export/teachers/lerobot/fixtures/smolvla again
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.smolvla.library import batch_of, make_policy, save_policy, tiny, write_vlm
from tests_lerobot.build import prepare_library

prepare_library()

RECORDED = Path(__file__).parents[1] / "tests/export/teachers/lerobot/fixtures/smolvla"
VLM_NAME = "local/tiny-smolvlm"  # in place of the folder that it was made in
SMALL: dict[str, Any] = {
    "num_vlm_layers": 4,
    "chunk_size": 6,
    "n_action_steps": 6,
    "tokenizer_max_length": 8,
    "resize_imgs_with_padding": (64, 64),
}
TEXT = "push the red cube"


def make(folder: Path, cameras: int = 2, **settings: Any) -> Any:
    """A tiny policy in `folder`/policy, its language model's config and tokenizer in `folder`/vlm."""
    write_vlm(folder / "vlm", tiny())
    policy = make_policy(folder / "vlm", cameras, 64, **{**SMALL, **settings})
    enliven(policy)
    save_policy(policy, folder / "policy")
    return policy


def enliven(policy: Any) -> None:
    """Random weights of a size at which attention, norms and biases all matter. Fresh ones are nearly linear."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            if tensor.ndim == 1:
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype))
            else:
                tensor.mul_(3)


def observations(cameras: int = 2, rows: int = 6, tokens: int = 8) -> dict[str, np.ndarray]:
    """Three frames: full and short instructions, one with a camera that is not there. Pictures of whole bytes."""
    rng = np.random.default_rng(2)
    camera_mask = np.ones((3, cameras), np.float32)
    camera_mask[1, -1] = cameras == 1
    return {
        "image": (rng.integers(0, 256, (3, cameras, 64, 64, 3)) / 127.5 - 1).astype(np.float32),
        "camera_mask": camera_mask,
        "tokens": rng.integers(3, 16, (3, tokens)).astype(np.int64),
        "token_mask": (np.arange(tokens) < np.array([[tokens], [5], [3]])).astype(np.float32),
        "state": rng.standard_normal((3, 6)).astype(np.float32),
        "noise": rng.standard_normal((3, rows, 32)).astype(np.float32),
    }


def answer(policy: Any, inputs: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Normalised actions (3, H, A) of the library."""
    policy.config.num_steps = steps
    chunk = policy.predict_action_chunk(batch_of(inputs), noise=torch.from_numpy(inputs["noise"]))
    return np.asarray(chunk.float().numpy())


def processed(folder: Path, policy: Any, state: np.ndarray, action: np.ndarray) -> dict[str, np.ndarray]:
    """What the library's own processors make of an instruction, a raw state (6,) and a normalised action (6,)."""
    from lerobot.policies.factory import make_pre_post_processors

    before, after = make_pre_post_processors(policy.config, pretrained_path=str(folder / "policy"))
    ready = before({"observation.state": torch.from_numpy(state), "task": TEXT})
    return {
        "text_tokens": ready["observation.language.tokens"].numpy()[0],
        "text_mask": ready["observation.language.attention_mask"].numpy()[0].astype(np.float32),
        "raw_state": state,
        "normalised_state": ready["observation.state"].numpy()[0],
        "normalised_action": action,
        "raw_action": after(torch.from_numpy(action)[None]).numpy()[0],
    }


def record(target: Path) -> None:
    """The folder, the library's answers in ten steps and one, without a path of this machine."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        policy = make(folder)
        inputs = observations()
        rng = np.random.default_rng(3)
        drawn = [rng.standard_normal(6).astype(np.float32) for _ in range(2)]
        inputs["image"] = np.round((inputs["image"] + 1) * 127.5) / 127.5 - 1
        inputs["image"] = inputs["image"].astype(np.float32)
        arrays = {**inputs, "ten": answer(policy, inputs, 10), "one": answer(policy, inputs, 1)}
        arrays["image"] = np.round((arrays["image"] + 1) * 127.5).astype(np.uint8)
        arrays.update(processed(folder, policy, *drawn))
        for name in ("config.json", "policy_preprocessor.json"):
            path = folder / "policy" / name
            path.write_text(path.read_text().replace(str(folder / "vlm"), VLM_NAME))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "policy", target / "policy", copy_function=shutil.copyfile)
        (target / "vlm").mkdir()
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(folder / "vlm" / name, target / "vlm" / name)
        np.savez_compressed(target / "recorded.npz", **arrays)
        print(json.dumps({path.name: path.stat().st_size for path in sorted(target.rglob("*.*"))}))


if __name__ == "__main__":
    record(RECORDED)
