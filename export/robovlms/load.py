"""A checkpoint of RoboVLMs as a teacher: its project file, its weights by their own names, the folder of its VLM."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, Refused, explain
from export.robovlms.gpt import HEADS
from export.robovlms.names import renamed
from export.robovlms.policy import ACTIONS, OriginalPolicy
from export.robovlms.project import Project, read_project
from export.structures.backbone import Backbone
from export.structures.families import open_backbone, random_backbone
from export.structures.teacher import StructureTeacher
from export.teachers.interface import Affine, CameraSpec, TeacherSpec
from export.teachers.lerobot.words import FILE, Words
from export.teachers.torch_file import load_state_dict

PROJECT = "*project.json"
CHECKPOINTS = ("*.pt", "*.ckpt", "*.pth", "*.bin")
NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
GRIPPERS = ("kept", "normalised")  # as it was trained; as its CALVIN evaluation reads it
_MANY = 12  # names that an error lists
TEMPLATES = {  # family -> what a sentence stands in, and whether the tokenizer adds its first and last token
    "kosmos-2": ("<grounding>An image of a robot {}", True),
    "paligemma": ("<eos>{}\n", False),
}


class OriginalTeacher(StructureTeacher):
    """Hears a sentence as RoboVLMs tells it: in the words its data loader puts around it for that model.

    Its action token goes in before the last token of the sentence, which a causal model never sees then: left out.
    """

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        backbone = self.policy.backbone
        template, marks = TEMPLATES[backbone.family]
        words = Words(
            self._tokenizer, backbone.family, self.spec.max_tokens, backbone.vocabulary,
            template=template, marks=marks, drop_last=True,
        )  # fmt: skip
        return words.encode(text)


@dataclass(frozen=True)
class Loaded:
    """A teacher, and the tensors of the file that only training reads."""

    teacher: StructureTeacher
    left_out: tuple[str, ...]


def is_robovlms(folder: Path) -> bool:
    """Whether a project file of RoboVLMs lies in a folder."""
    return folder.is_dir() and any(folder.glob(PROJECT))


def load_folder(folder: Path, vlm: Path | None) -> StructureTeacher:
    """The one checkpoint of a folder with its project file. Raises BadInput: none or several, or see `load`."""
    projects = sorted(folder.glob(PROJECT))
    files = sorted(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
    if len(projects) != 1 or len(files) != 1:
        got = ", ".join(path.name for path in (*projects, *files)) or "neither"
        raise BadInput(
            explain(f"{folder}", f"one {PROJECT} and one of {', '.join(CHECKPOINTS)}", got, "leave one each")
        )
    return load(files[0], projects[0], vlm).teacher


def load(
    checkpoint: Path, project: Path, vlm: Path | None, gripper: str = "kept", stride: int = 1, max_tokens: int = 32
) -> Loaded:
    """A teacher with the weights of a checkpoint.

    Args:
        checkpoint: `.pt`, Lightning's `.ckpt`, or one file that DeepSpeed's parts were merged into.
        project: its `*-project.json`.
        vlm: folder of the vision-language model: config.json, tokenizer.json, and weights where the checkpoint holds
            only what was trained.
        gripper: how the gripper's number was scaled, of `GRIPPERS`.
        stride: ticks between two observations; 1 in CALVIN.
        max_tokens: longest sentence.

    Raises:
        BadInput: a file is missing, or tensors lack or are unknown; they are listed.
        Refused: a structure, a head or an option that is not carried.
    """
    found = read_project(project)
    _require_carried(found)
    if gripper not in GRIPPERS:
        raise BadInput(explain("gripper", " or ".join(GRIPPERS), repr(gripper), "choose one of them"))
    backbone, whole = _backbone(vlm, found)
    if backbone.family not in TEMPLATES:
        todo = "distil a student from it where it runs"
        raise Refused(explain("language model of the checkpoint", " or ".join(TEMPLATES), backbone.family, todo))
    tokenizer = None if vlm is None or not (vlm / FILE).is_file() else vlm / FILE
    policy = OriginalPolicy(found, backbone, stride, _closing(tokenizer, backbone, found))
    wanted = policy.state_dict()
    told = renamed(load_state_dict(checkpoint), backbone.family, found.latents, wanted)
    _require_known(checkpoint, told.unknown)
    lacking = [n for n in wanted if n not in told.tensors and not (whole and n.startswith("backbone."))]
    _require_there(checkpoint, lacking)
    wrong = [n for n, tensor in told.tensors.items() if tensor.shape != wanted[n].shape]
    if wrong:
        shapes = f"{wrong[0]} {list(wanted[wrong[0]].shape)}"
        got, todo = f"{list(told.tensors[wrong[0]].shape)}", "take the project file and the VLM of this checkpoint"
        raise BadInput(explain(f"{checkpoint.name}", shapes, got, todo))
    policy.load_state_dict({name: tensor.float() for name, tensor in told.tensors.items()}, strict=False)
    digest = _digest(checkpoint, found, vlm if whole else None)
    spec = spec_of(found, gripper, stride, max_tokens)
    return Loaded(OriginalTeacher(policy.eval(), spec, (), tokenizer, digest), told.left_out)


def spec_of(project: Project, gripper: str, stride: int, max_tokens: int) -> TeacherSpec:
    """Cameras, names and scales of a project."""
    low, high = project.normalised or (-1.0, 1.0)
    offset, scale = np.full(ACTIONS, (low + high) / 2, np.float32), np.full(ACTIONS, (high - low) / 2, np.float32)
    offset[-1], scale[-1] = _gripper(low, high, gripper)
    names = ("gripper", "static") if project.hand_camera else ("static",)
    side = project.image_px
    return TeacherSpec(
        name="robovlms",
        cameras=tuple(CameraSpec(name, side, side, fit="stretch") for name in names),
        state=NAMES,
        actions=NAMES,
        horizon=project.chunk,
        d_max=0,
        max_tokens=max_tokens,
        noise=0,
        state_stats=Affine(np.zeros(ACTIONS, np.float32), np.ones(ACTIONS, np.float32)),
        action_stats=Affine(offset, scale),
        observations=1 if project.structure == "one-step continuous" else project.window,
        stride=stride,
    )


def _gripper(low: float, high: float, gripper: str) -> tuple[float, float]:
    """Offset and scale of a gripper that is said as -1 or 1. Its evaluation rescales 0 and 1 like the pose, too."""
    if gripper == "kept":
        return 0.0, 1.0
    opened, closed = (2.0 * (0.5 * (said + 1) * (high - low) + low - 0.5) for said in (0.0, 1.0))
    return (opened + closed) / 2, (closed - opened) / 2


def _backbone(vlm: Path | None, project: Project) -> tuple[Backbone, bool]:
    """The VLM, and whether the folder held its weights."""
    if vlm is None:
        todo = "give the folder of that model: --tokenizer DIR"
        raise BadInput(explain(f"the language model of {project.backbone}", "its config.json", "no folder", todo))
    picture = (project.image_px, project.image_px)
    if any(vlm.glob("*.safetensors")):
        return open_backbone(vlm, picture), True
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(vlm, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(explain(f"{vlm}", "config.json of a known model", said, "take its folder")) from error
    return random_backbone(config, picture), False


def _closing(tokenizer: Path | None, backbone: Backbone, project: Project) -> int | None:
    """The last token of a sentence, where moments are interleaved. Raises BadInput: no tokenizer says it."""
    if project.structure != "interleaved continuous":
        return None
    template, marks = TEMPLATES[backbone.family]
    words = Words(tokenizer, backbone.family, 1 << 20, backbone.vocabulary, template=template, marks=marks)
    ids, there = words.encode("act")
    return int(ids[int(there.sum()) - 1])


def _digest(checkpoint: Path, project: Project, vlm: Path | None) -> str:
    """Of all that decides the answers: the checkpoint, the project with its parents, weights of the VLM's folder."""
    digest = hashlib.sha256(json.dumps(project.raw, sort_keys=True, default=str).encode())
    for path in (checkpoint, *(sorted(vlm.glob("*.safetensors")) if vlm is not None else ())):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _require_carried(project: Project) -> None:
    todo = "distil a student from it where it runs, or ask for this head"
    if project.discrete:
        heads = "LSTMDecoder, GPTDecoder or FCDecoder, continuous"
        raise Refused(explain("head of the checkpoint", heads, project.head, todo))
    if project.head == "GPTDecoder" and project.latents > 1:
        raise Refused(explain("latent of a GPTDecoder", 1, project.latents, todo))
    if project.head == "GPTDecoder" and project.hidden % HEADS:
        raise BadInput(explain("hidden_size of a GPTDecoder", f"a multiple of {HEADS}", project.hidden, todo))
    if project.structure == "interleaved continuous" and project.head != "FCDecoder":
        raise Refused(explain("head behind interleaved moments", "FCDecoder", project.head, todo))
    if project.history == "video":
        raise Refused(explain("history of the checkpoint", "pre or post", project.history, todo))
    if project.resampler:
        raise Refused(explain("use_vision_resampler", "false", "true: its resampler is not carried", todo))


def _require_known(checkpoint: Path, unknown: tuple[str, ...]) -> None:
    if unknown:
        todo = "take the project file of this checkpoint; nothing is left out silently"
        raise BadInput(explain(f"{checkpoint.name}", "tensors of this policy alone", _listed(unknown), todo))


def _require_there(checkpoint: Path, lacking: list[str]) -> None:
    if lacking:
        todo = "put the model's own weights into the --tokenizer folder, or take the whole checkpoint"
        raise BadInput(
            explain(f"{checkpoint.name}", "every tensor of this policy", f"without {_listed(lacking)}", todo)
        )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return json.dumps(list(names[:_MANY]))[1:-1] + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
