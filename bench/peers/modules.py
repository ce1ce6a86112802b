"""The torch module of a case, built again from what `case.json` says: its stages behind each other, as its graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from bench.peers.case import Case
from edgevla.errors import BadInput, explain
from export.onnx.stages import StageSpec
from export.students.onepass import OnePassStudent

D_MAX = 8  # ticks of prefix that the head of SmolVLA takes


class Whole(nn.Module):
    """The stages of a policy in their order; takes its inputs in the order of `names`, answers the chunk."""

    def __init__(self, stages: Sequence[StageSpec]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(stage.module for stage in stages)
        self.takes = [tuple(stage.inputs) for stage in stages]
        self.gives = [stage.outputs for stage in stages]
        made = {name for names in self.gives for name in names}
        self.names = tuple(dict.fromkeys(n for names in self.takes for n in names if n not in made))

    def forward(self, *values: Tensor) -> Tensor:
        known = dict(zip(self.names, values, strict=True))
        for part, takes, gives in zip(self.parts, self.takes, self.gives, strict=True):
            answer = part(*(known[name] for name in takes))
            known.update(zip(gives, answer if isinstance(answer, tuple) else (answer,), strict=True))
        return known["chunk"]


def whole(case: Case, folder: Path) -> Whole:
    """The stages that run for every chunk. Raises BadInput: this case has no torch module."""
    wanted = {stage.name: stage for stage in stages_of(case.module, folder)}
    return Whole([wanted[name] for name in case.stages]).eval()


def stages_of(module: Mapping[str, Any], folder: Path) -> list[StageSpec]:
    """All stages with their torch modules, by `kind`. Raises BadInput."""
    kind = module.get("kind")
    if kind == "student":
        return student_of(module, folder).stages()
    if kind == "smolvla":
        return smolvla_of(module).stages()
    raise BadInput(explain("torch module", "a student of ours, or SmolVLA", kind or "none", "only its graphs run"))


def student_of(module: Mapping[str, Any], folder: Path) -> OnePassStudent:
    """Random weights of seed 0, or those in `weights.npz`."""
    torch.manual_seed(0)
    student = OnePassStudent.from_config(module["config"]).eval()
    if (path := folder / "weights.npz").is_file():
        with np.load(path) as file:
            student.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    return student


def smolvla_of(module: Mapping[str, Any]) -> Any:
    """SmolVLA in one step, of a folder of LeRobot or of sizes alone (random weights, seed 0)."""
    from export.teachers.lerobot.smolvla import SmolVlaPolicy

    if "folder" in module:
        from export.teachers.lerobot.folder import open_folder
        from export.teachers.lerobot.smolvla import build

        found = build(open_folder(Path(module["folder"])), tokenizer=Path(module["vlm"]))
        spec = replace(found.spec, d_max=D_MAX)
        return SmolVlaPolicy(found.net, spec, found.words, found.sha256, flow_steps=1)
    from export.teachers.interface import Affine, CameraSpec, TeacherSpec
    from export.teachers.lerobot.decoder import DecoderSizes
    from export.teachers.lerobot.siglip import VisionSizes
    from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes, VlmSizes

    sizes = dict(module["sizes"])
    vlm = VlmSizes(VisionSizes(**sizes.pop("vision")), DecoderSizes(**sizes.pop("text")), sizes.pop("vocabulary"))
    joints, tokens = sizes.pop("joints"), sizes.pop("tokens")
    whole_sizes = SmolVlaSizes(vlm=vlm, **sizes)
    torch.manual_seed(0)
    net = SmolVla(whole_sizes).eval()
    names = tuple(f"joint{i + 1}" for i in range(joints))
    same = Affine(np.zeros(joints, np.float32), np.ones(joints, np.float32))
    side = whole_sizes.image_side
    spec = TeacherSpec(
        "smolvla", (CameraSpec("camera1", side, side),), names, names, whole_sizes.chunk_size, D_MAX, tokens,
        whole_sizes.max_action_dim, same, same,
    )  # fmt: skip
    nobody = cast(Any, None)  # the tokenizer: these words are numbers already
    return SmolVlaPolicy(net, spec, nobody, "0" * 64, flow_steps=1)


def weights_from_graphs(config: Mapping[str, Any], graphs: Mapping[str, bytes]) -> dict[str, np.ndarray[Any, Any]]:
    """The state dict of a student, read back from its FP32 graphs.

    The exporter keeps the names of what it does not transpose; a product's weight is known by the bias added to it.

    Raises:
        BadInput: a parameter that no graph holds, or of another shape.
    """
    known: dict[str, np.ndarray[Any, Any]] = {}
    for graph in graphs.values():
        known.update(_named(onnx.load_model_from_string(graph).graph))
    student = OnePassStudent.from_config(config)
    found = {}
    for name, tensor in student.state_dict().items():
        value = known.get(f"student.{name}")
        if value is None and name == "fixed_noise":  # an input of the graph
            value = tensor.numpy()
        if value is None or value.size != tensor.numel():
            got = "none" if value is None else f"shape {value.shape}"
            raise BadInput(
                explain(f"{name} in the FP32 graphs", f"shape {tuple(tensor.shape)}", got, "export it again")
            )
        found[name] = np.array(value, np.float32).reshape(tuple(tensor.shape))
    return found


def _named(graph: onnx.GraphProto) -> dict[str, np.ndarray[Any, Any]]:
    """Initializers by the name of the parameter; a transposed weight is turned back."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    found = {name: value for name, value in values.items() if "." in name}
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias") and name in values), None)
        if bias is None or node.op_type != "Add":
            continue
        product = next((makers[name] for name in node.input if name in makers), None)
        if product is not None and product.op_type == "MatMul" and product.input[1] in values:
            found.setdefault(bias.removesuffix("bias") + "weight", values[product.input[1]].T)
    return found
