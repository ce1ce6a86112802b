"""SmolVLA by LeRobot itself, for tests and for the comparison: made from a local config, with random weights.

Runs in LeRobot's own environment (it imports neither edgevla nor export):

    PYTHON -m bench.smolvla.library make FOLDER [--cameras N] [--image SIDE]     a policy folder with random weights
    PYTHON -m bench.smolvla.library serve FOLDER --inputs FILE [--bf16] [--steps N]   one inference per line of stdin
                                                                                    (`save FILE`: its last chunk)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SPECIAL = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", "<|im_start|>", "<|im_end|>")
WORDS = ("push", "the", "red", "cube", "open", "door", "pick", "up", "and", "place", "it", "in", "box")

# SmolVLM2-500M: what its config.json says. The sizes are the public model's, the weights are not.
VLM = {
    "model_type": "smolvlm",
    "architectures": ["SmolVLMForConditionalGeneration"],
    "image_token_id": 49190,
    "scale_factor": 4,
    "pad_token_id": 2,
    "vocab_size": 49280,
    "text_config": {
        "model_type": "llama",
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": 49280,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000,
        "max_position_embeddings": 8192,
    },
    "vision_config": {
        "model_type": "smolvlm_vision",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    },
}


def tiny(vlm: dict[str, Any] = VLM) -> dict[str, Any]:
    """The same architecture with little in it, for tests: still grouped queries, pixel shuffle, several layers."""
    small = json.loads(json.dumps(vlm))
    small["vocab_size"], small["image_token_id"] = 64, 10
    small["text_config"].update(hidden_size=24, intermediate_size=48, num_hidden_layers=6, vocab_size=64)
    small["text_config"].update(num_attention_heads=6, num_key_value_heads=2, head_dim=4)
    small["vision_config"].update(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    small["vision_config"].update(image_size=64, patch_size=4)
    return dict(small)


def declare_torchvision_ops() -> None:
    """The index has no torchvision built for this torch; without the schemas of its ops the import fails."""
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return  # declared before, by us or by the tests
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[Any] = []  # a library's definitions go when it is collected


def write_vlm(folder: Path, vlm: dict[str, Any]) -> None:
    """A local stand-in for the hub's folder: config, a word tokenizer with the special tokens, processor settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(vlm, indent=1))
    names = ["<pad>", "<unk>", "\n", *WORDS]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "extra_special_tokens": {
            "fake_image_token": SPECIAL[0],
            "image_token": SPECIAL[1],
            "global_image_token": SPECIAL[2],
            "end_of_utterance_token": SPECIAL[3],
        },
        "processor_class": "SmolVLMProcessor",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    images = {"image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    video = {"video_processor_type": "SmolVLMVideoProcessor", "processor_class": "SmolVLMProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "SmolVLMProcessor"}))


def make_policy(vlm_folder: Path, cameras: int, image: int, state: int = 6, actions: int = 6, **config: Any) -> Any:
    """SmolVLAPolicy with random weights (seed 0), on the CPU. `config` overrides fields of SmolVLAConfig."""
    declare_torchvision_ops()
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    inputs = {
        f"observation.images.camera{i + 1}": PolicyFeature(FeatureType.VISUAL, (3, image, image))
        for i in range(cameras)
    }
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (state,))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (actions,))}
    torch.manual_seed(0)
    settings = {"load_vlm_weights": False, "device": "cpu", "pad_language_to": "max_length", **config}
    return SmolVLAPolicy(
        SmolVLAConfig(input_features=inputs, output_features=outputs, vlm_model_name=str(vlm_folder), **settings)
    ).eval()


def save_policy(policy: Any, folder: Path) -> None:
    """`save_pretrained` of the policy and of its processors, with statistics drawn from seed 0."""
    import torch
    from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

    generator = torch.Generator().manual_seed(0)
    features = {**policy.config.input_features, **policy.config.output_features}
    stats = {
        name: {
            "mean": torch.randn(feature.shape, generator=generator),
            "std": torch.rand(feature.shape, generator=generator) + 0.5,
        }
        for name, feature in features.items()
        if len(feature.shape) == 1
    }
    for part in (policy, *make_smolvla_pre_post_processors(policy.config, stats)):
        part.save_pretrained(folder)


def batch_of(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch as the policy takes it, from what `edgevla` feeds: image (B, N, h, w, 3) in [-1, 1], tokens, state."""
    import torch

    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    pictures = (tensors["image"].permute(1, 0, 4, 2, 3) + 1) / 2
    batch = {f"observation.images.camera{i + 1}": picture for i, picture in enumerate(pictures)}
    for i, mask in enumerate(tensors["camera_mask"].T):
        batch[f"observation.images.camera{i + 1}_padding_mask"] = mask > 0
    batch["observation.language.tokens"] = tensors["tokens"]
    batch["observation.language.attention_mask"] = tensors["token_mask"] > 0
    batch["observation.state"] = tensors["state"]
    return batch


def resident_mb() -> dict[str, float]:
    """VmRSS and VmHWM of this process, MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Vm")}
    return {"rss_mb": found["VmRSS"], "peak_mb": found["VmHWM"]}


def serve(policy: Any, inputs: dict[str, Any], answer: Any) -> None:
    """For each line of stdin one inference: its time in ns and the memory as a line of JSON. `save FILE`: the chunk."""
    import numpy as np
    import torch

    noise = torch.as_tensor(inputs["noise"])
    chunk = np.zeros(0, np.float32)
    print(json.dumps({"ready": True, **resident_mb()}), file=answer, flush=True)
    for line in sys.stdin:
        if line.startswith("save "):
            np.save(line[5:].strip(), chunk)
            print(json.dumps({"saved": True, **resident_mb()}), file=answer, flush=True)
            continue
        batch = batch_of(inputs)
        start = time.monotonic_ns()
        chunk = policy.predict_action_chunk(batch, noise=noise).float().numpy()
        took = time.monotonic_ns() - start
        print(json.dumps({"ns": took, **resident_mb()}), file=answer, flush=True)


def main() -> None:
    arguments = _arguments()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints; the answers have a line of their own
    if arguments.do == "make":
        write_vlm(arguments.folder / "vlm", VLM)
        policy = make_policy(arguments.folder / "vlm", arguments.cameras, arguments.image)
        save_policy(policy, arguments.folder / ".policy.part")
        os.replace(arguments.folder / ".policy.part", arguments.folder / "policy")
        print(json.dumps({"made": True, **resident_mb()}), file=answer, flush=True)
        return
    policy, inputs = _loaded(arguments)
    serve(policy, inputs, answer)


def _loaded(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    declare_torchvision_ops()
    import numpy as np
    import torch
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    torch.set_num_threads(1)
    policy = SmolVLAPolicy.from_pretrained(arguments.folder / "policy").eval()
    policy.config.num_steps = arguments.steps
    if arguments.bf16:
        policy.model.vlm_with_expert.vlm.to(torch.bfloat16)  # as when it is loaded from the hub
    with np.load(arguments.inputs) as file:
        return policy, dict(file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("make", "serve"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--image", type=int, default=512)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
