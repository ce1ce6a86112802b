"""SmolVLA of LeRobot as a teacher, or as its own one-pass student.

A released policy knows no prefix. The network takes a time per row, so a student can be trained with committed rows
held clean: `as_student` gives such a policy, with one flow step.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.errors import BadInput, Refused, explain
from export.onnx.stages import StageSpec
from export.teachers.interface import CameraSpec, Inputs, TeacherPolicy, TeacherSpec
from export.teachers.lerobot.decoder import DecoderSizes
from export.teachers.lerobot.filling import fill
from export.teachers.lerobot.flow import integrate, pad_last
from export.teachers.lerobot.flow_stages import flow_stages
from export.teachers.lerobot.folder import PolicyFolder
from export.teachers.lerobot.siglip import VisionSizes
from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes, VlmSizes
from export.teachers.lerobot.words import Words, find_tokenizer

VLM_500M = ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "HuggingFaceTB/SmolVLM2-500M-Instruct")
UNREAD = ("vlm_with_expert.vlm.lm_head.weight", "vlm_with_expert.vlm.model.text_model.norm.weight")


class SmolVlaPolicy(TeacherPolicy):
    """Observation in, chunk out, in `flow_steps` steps."""

    def __init__(self, net: SmolVla, spec: TeacherSpec, words: Words, sha256: str, flow_steps: int) -> None:
        super().__init__()
        self.net, self.spec, self.words, self.sha256, self.flow_steps = net, spec, words, sha256, flow_steps

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Keys and values (B, n, P, K, D) of the scene and which of its tokens are there (B, P)."""
        vision = self.net.see(inputs["image"])
        rest = (inputs[name] for name in ("camera_mask", "tokens", "token_mask", "state"))
        return self.net.remember(vision, *rest)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        keys, values, present = context
        rows, mask = pad_last(prefix, noise.shape[-1]), mask if self.spec.d_max else torch.zeros_like(mask)

        def velocity(x: Tensor, times: Tensor) -> Tensor:
            return self.net.velocity(x, times, (keys, values, present))

        return integrate(velocity, noise, self.flow_steps, rows, mask)[..., : len(self.spec.actions)]

    def features(self, context: tuple[Tensor, ...]) -> Tensor:
        """The last values that the expert reads, (B, P, K * D); zero where no token is."""
        _, values, present = context
        return values[:, -1].flatten(2) * present[..., None]

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        return self.words.encode(text if text.endswith("\n") else f"{text}\n")

    def as_student(self, d_max: int, flow_steps: int = 1) -> SmolVlaPolicy:
        """A copy that starts from these weights, flows in fewer steps and is to be trained with prefixes."""
        spec = replace(self.spec, d_max=d_max)
        return SmolVlaPolicy(copy.deepcopy(self.net), spec, self.words, self.sha256, flow_steps)

    def stages(self) -> list[StageSpec]:
        return flow_stages(self, self.net, self.flow_steps)


def build(
    folder: PolicyFolder, tokenizer: Path | None = None, precision: str = "fp32", steps: int | None = None
) -> SmolVlaPolicy:
    """The policy of a folder of type smolvla.

    Args:
        folder: what it says.
        tokenizer: folder with tokenizer.json (and the config.json of a language model other than the 500M one).
        precision: of the weights, see `export.teachers.precision`.
        steps: of the flow; None: as the folder says.

    Raises:
        BadInput: a setting that does not agree with the weights, or weights that do not agree with the config.
        Refused: a setting that this adapter does not know.
    """
    _refuse_unknown(folder)
    sizes = sizes_of(folder, tokenizer)
    with torch.device("meta"):
        net = SmolVla(sizes)
    restore_buffers(net)
    fill(net, folder, rename, precision)
    name = folder.tokenizer_name or folder.setting("vlm_model_name", "")
    words = Words(find_tokenizer(tokenizer, name), name, folder.max_tokens, sizes.vlm.vocabulary)
    flow_steps = folder.setting("num_steps", 10) if steps is None else steps
    return SmolVlaPolicy(net.eval(), spec_of(folder, sizes), words, folder.sha256, flow_steps)


def rename(key: str) -> str | None:
    """Key of LeRobot's checkpoint to ours; None: nobody reads that tensor."""
    key = key.removeprefix("model.")
    if key in UNREAD:
        return None
    return key.replace("vlm_with_expert.vlm.model.", "vlm.").replace("vlm_with_expert.lm_expert.", "expert.")


def restore_buffers(net: SmolVla) -> None:
    """Rows of the position table, which no checkpoint holds, after the module was made on `meta`."""
    embeddings = net.vlm.vision_model.embeddings
    embeddings.places = net.sizes.places()


def spec_of(folder: PolicyFolder, sizes: SmolVlaSizes) -> TeacherSpec:
    empty = {f"empty_camera_{i}" for i in range(folder.setting("empty_cameras", 0))}
    side = sizes.image_side
    cameras = tuple(
        CameraSpec(name, side, side, fit="pad", when_missing="blank" if empty else "refuse")
        for name in (*folder.cameras, *sorted(empty - {*folder.cameras}))
    )
    if not cameras:
        raise BadInput(explain("cameras in config.json", "at least one", "none", "save the policy with its features"))
    return TeacherSpec(
        name="smolvla",
        cameras=cameras,
        state=folder.state_names,
        actions=folder.action_names,
        horizon=sizes.chunk_size,
        d_max=0,
        max_tokens=folder.max_tokens,
        noise=sizes.max_action_dim,
        state_stats=folder.state_stats,
        action_stats=folder.action_stats,
    )


def sizes_of(folder: PolicyFolder, tokenizer: Path | None = None) -> SmolVlaSizes:
    """Sizes by config.json of the policy and of its language model."""
    get = folder.setting
    sizes = SmolVlaSizes(
        vlm=_vlm_sizes(get("vlm_model_name", VLM_500M[0]), tokenizer),
        num_vlm_layers=get("num_vlm_layers", 16),
        num_expert_layers=get("num_expert_layers", -1),
        self_attn_every_n_layers=get("self_attn_every_n_layers", 2),
        cross_attention="cross" in get("attention_mode", "cross_attn"),
        expert_width_multiplier=get("expert_width_multiplier", 0.75),
        image_side=_image_side(folder),
        max_state_dim=get("max_state_dim", 32),
        max_action_dim=get("max_action_dim", 32),
        chunk_size=get("chunk_size", 50),
        min_period=get("min_period", 4e-3),
        max_period=get("max_period", 4.0),
        prefix_length=get("prefix_length", -1),
        bfloat16_tower=get("load_vlm_weights", False),
    )
    _check(sizes, folder)
    return sizes


def _image_side(folder: PolicyFolder) -> int:
    size = folder.config.get("resize_imgs_with_padding", [512, 512])
    if not isinstance(size, list) or len(size) != 2 or size[0] != size[1] or not isinstance(size[0], int):
        todo = "train it with one square size"
        raise Refused(
            explain("resize_imgs_with_padding in config.json", "a square, such as [512, 512]", f"{size}", todo)
        )
    return size[0]


def _vlm_sizes(name: str, tokenizer: Path | None) -> VlmSizes:
    """Of the 500M model, or from the config.json in the tokenizer's folder or in the folder that the policy names."""
    for folder in (tokenizer, Path(name)):
        if folder is not None and (folder / "config.json").is_file():
            return _read_vlm(folder / "config.json")
    if name in VLM_500M:
        return VlmSizes()
    todo = "put config.json of that model beside its tokenizer.json and give the folder by --tokenizer"
    raise BadInput(explain("vlm_model_name in config.json", f"{VLM_500M[0]}", name, todo))


def _read_vlm(path: Path) -> VlmSizes:
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        text, vision = config["text_config"], config["vision_config"]
        heads = text["num_attention_heads"]
        return VlmSizes(
            vision=VisionSizes(
                width=vision["hidden_size"],
                mlp=vision["intermediate_size"],
                layers=vision.get("num_hidden_layers", 12),
                heads=vision["num_attention_heads"],
                image=vision["image_size"],
                patch=vision["patch_size"],
                eps=vision.get("layer_norm_eps", 1e-6),
            ),
            text=DecoderSizes(
                width=text["hidden_size"],
                mlp=text["intermediate_size"],
                layers=text["num_hidden_layers"],
                heads=heads,
                kv_heads=text.get("num_key_value_heads", heads),
                head=text.get("head_dim") or text["hidden_size"] // heads,
                eps=text.get("rms_norm_eps", 1e-6),
            ),
            vocabulary=text["vocab_size"],
            pixel_shuffle=config["scale_factor"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = f"{path.parent.name}: {error!r}"
        raise BadInput(
            explain("config.json of the language model", "SmolVLM's sizes", got, "fetch it again")
        ) from error


def _refuse_unknown(folder: PolicyFolder) -> None:
    """Settings that change the answers and that no released policy uses."""
    for name in ("adapt_to_pi_aloha", "use_delta_joint_actions_aloha", "add_image_special_tokens"):
        if folder.setting(name, False):
            raise Refused(explain(f"{name} in config.json", "false", "true", "this adapter does not know it"))
    for camera, stats in folder.image_stats.items():
        if stats.offset.any() or (stats.scale != 1).any():
            todo = "train it with VISUAL: IDENTITY, as SmolVLA is meant to be"
            raise Refused(explain(f"normalisation of {camera}", "none", "statistics of its own", todo))


def _check(sizes: SmolVlaSizes, folder: PolicyFolder) -> None:
    layers, expert = sizes.text.layers, sizes.expert.layers
    square = sizes.vlm.vision.patch * sizes.vlm.pixel_shuffle
    problems = [
        (layers % expert != 0, f"num_expert_layers that divides {layers}", f"{expert}"),
        (
            any(sizes.crosses(i) != sizes.crosses(j) for j, i in enumerate(sizes.pairs)),
            "expert layers that cross where their language layers do",
            f"{expert} for {layers}, self-attention every {sizes.self_attn_every_n_layers}",
        ),
        (sizes.image_side % square != 0, f"pictures whose side is a multiple of {square}", f"{sizes.image_side}"),
        (folder.state_size > sizes.max_state_dim, f"a state of at most {sizes.max_state_dim}", f"{folder.state_size}"),
        (folder.action_size > sizes.max_action_dim, f"at most {sizes.max_action_dim} actions", f"{folder.action_size}"),
    ]
    for wrong, expected, got in problems:
        if wrong:
            raise BadInput(explain("config.json of smolvla", expected, got, "check the folder"))
