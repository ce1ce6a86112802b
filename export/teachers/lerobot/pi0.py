"""pi0 and pi05 of LeRobot as teachers.

LeRobot 0.4.4 runs them on a patched transformers that the index does not have. What the patch changes is built in
here: no scaling of embeddings inside Gemma, picture features not scaled down, norms that time conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
from export.teachers.lerobot.pi0_net import Pi, PiSizes
from export.teachers.lerobot.siglip import VisionSizes
from export.teachers.lerobot.words import Words, find_tokenizer

VARIANTS = {
    "gemma_300m": DecoderSizes(1024, mlp=4096, layers=18, heads=8, kv_heads=1, head=256, eps=1e-6, gemma=True),
    "gemma_2b": DecoderSizes(2048, mlp=16384, layers=18, heads=8, kv_heads=1, head=256, eps=1e-6, gemma=True),
}
VISION = VisionSizes(width=1152, mlp=4304, layers=27, heads=16, image=224, patch=14)
VOCABULARY = 257152
TOKENIZER = "google/paligemma-3b-pt-224"
BOS = 2  # PaliGemma's tokenizer puts it first; its tokenizer.json does not say so
BINS = 256  # of a number of the state in pi05's words, over [-1, 1]


class PiPolicy(TeacherPolicy):
    """Observation in, chunk out, in `flow_steps` steps."""

    def __init__(self, net: Pi, spec: TeacherSpec, words: Words, sha256: str, flow_steps: int) -> None:
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
        """Raises Refused for pi05: its words hold the state, see `tokenize_with_state`."""
        if self.net.sizes.five:
            todo = "call tokenize_with_state(text, normalised state) at every observation"
            raise Refused(explain("words of pi05", "an instruction and a state", "an instruction alone", todo))
        return self.words.encode(text if text.endswith("\n") else f"{text}\n")

    def tokenize_with_state(
        self, text: str, state: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Token ids (L,) and mask (L,) of pi05's prompt for a normalised state (S,)."""
        return self.words.encode(prompt_of(text, state, self.net.sizes.max_state_dim))

    def stages(self) -> list[StageSpec]:
        return flow_stages(self, self.net, self.flow_steps)


def prompt_of(text: str, state: npt.NDArray[np.float32], size: int) -> str:
    """What pi05 reads: the instruction, and each number of the padded state as one of 256 bins over [-1, 1]."""
    padded = np.zeros(size, np.float32)
    padded[: len(state)] = state
    bins = np.digitize(padded, np.linspace(-1, 1, BINS + 1)[:-1]) - 1
    task = text.strip().replace("_", " ").replace("\n", " ")
    return f"Task: {task}, State: {' '.join(map(str, bins))};\nAction: "


def build(
    folder: PolicyFolder, tokenizer: Path | None = None, precision: str = "fp32", steps: int | None = None
) -> PiPolicy:
    """The policy of a folder of type pi0 or pi05; arguments as `export.teachers.load.load_policy`.

    Raises:
        BadInput: a setting that does not agree with the weights, or weights that do not agree with the config.
        Refused: a setting that this adapter does not know.
    """
    sizes = sizes_of(folder)
    with torch.device("meta"):
        net = Pi(sizes)
    fill(net, folder, renaming(folder, sizes.five), precision)
    words = Words(find_tokenizer(tokenizer, TOKENIZER), TOKENIZER, folder.max_tokens, sizes.vocabulary, first=BOS)
    flow_steps = folder.setting("num_inference_steps", 10) if steps is None else steps
    return PiPolicy(net.eval(), spec_of(folder, sizes), words, folder.sha256, flow_steps)


def renaming(folder: PolicyFolder, five: bool) -> Callable[[str], str | None]:
    """Key of LeRobot's checkpoint to ours; None: nobody reads that tensor.

    The table of words may be saved under the name of the language head that it is tied to.
    """
    pali, table = "paligemma_with_expert.paligemma.", "language_model.embed_tokens.weight"
    has_table = any(key.endswith(table) for key in folder.weights.files)
    parts = {
        f"{pali}model.vision_tower.vision_model.": "vlm.vision_model.",
        f"{pali}model.multi_modal_projector.linear.": "vlm.projector.",
        f"{pali}model.language_model.": "vlm.",
        "paligemma_with_expert.gemma_expert.model.": "expert.",
        "action_time_mlp_": "time_mlp_",
    }

    def rename(key: str) -> str | None:
        key = key.removeprefix("model.")
        if key == f"{pali}lm_head.weight" and not has_table:
            return "vlm.embed_tokens.weight"
        unread = (f"{pali}lm_head.", f"{pali}model.language_model.norm.", "paligemma_with_expert.gemma_expert.lm_head.")
        if key.startswith(unread) or (five and key.startswith("state_proj.")):
            return None
        for theirs, ours in parts.items():
            if key.startswith(theirs):
                return ours + key.removeprefix(theirs)
        return key

    return rename


def sizes_of(folder: PolicyFolder) -> PiSizes:
    get = folder.setting
    names = get("paligemma_variant", "gemma_2b"), get("action_expert_variant", "gemma_300m")
    if any(name not in VARIANTS for name in names):
        raise BadInput(explain("Gemma variants in config.json", f"of {[*VARIANTS]}", f"{names}", "check the folder"))
    text, expert = (VARIANTS[name] for name in names)
    resolution = folder.config.get("image_resolution", [VISION.image, VISION.image])
    if resolution != [VISION.image, VISION.image]:
        expected = f"[{VISION.image}, {VISION.image}]"
        raise Refused(explain("image_resolution in config.json", expected, f"{resolution}", "use the released size"))
    sizes = PiSizes(
        vision=VISION,
        text=text,
        expert=expert,
        vocabulary=VOCABULARY,
        five=folder.type == "pi05",
        max_state_dim=get("max_state_dim", 32),
        max_action_dim=get("max_action_dim", 32),
        chunk_size=get("chunk_size", 50),
        min_period=get("min_period", 4e-3),
        max_period=get("max_period", 4.0),
    )
    if folder.state_size > sizes.max_state_dim or folder.action_size > sizes.max_action_dim:
        expected = f"at most {sizes.max_state_dim} numbers of state and {sizes.max_action_dim} of action"
        got = f"{folder.state_size} and {folder.action_size}"
        raise BadInput(explain(f"config.json of {folder.type}", expected, got, "check the folder"))
    return sizes


def spec_of(folder: PolicyFolder, sizes: PiSizes) -> TeacherSpec:
    """Pictures come as the cameras give them, all of one size: the network fits them itself (it pads with -3)."""
    empty = {f"empty_camera_{i}" for i in range(folder.setting("empty_cameras", 0))}
    shapes = {folder.image_shapes[name] for name in folder.cameras if name not in empty}
    if len(shapes) != 1:
        got = f"{folder.image_shapes}"
        raise BadInput(explain(f"cameras of {folder.type}", "pictures of one size", got, "record them so"))
    height, width = shapes.pop()
    for camera, stats in folder.image_stats.items():
        if stats.offset.any() or (stats.scale != 1).any():
            raise Refused(
                explain(f"normalisation of {camera}", "none", "statistics of its own", "use VISUAL: IDENTITY")
            )
    return TeacherSpec(
        name=folder.type,
        # The library blanks whatever camera is missing.
        cameras=tuple(CameraSpec(name, height, width, when_missing="blank") for name in folder.cameras),
        state=folder.state_names,
        actions=folder.action_names,
        horizon=sizes.chunk_size,
        d_max=0,
        max_tokens=folder.max_tokens,
        noise=sizes.max_action_dim,
        state_stats=folder.state_stats,
        action_stats=folder.action_stats,
    )
