"""Checkpoints of RoboVLMs by their own names of tensors, against a small copy of its network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgevla.bundle.wiring import NEXT
from edgevla.errors import BadInput, Refused
from edgevla.policy.session import open_session
from export.onnx.chain import blank_memory, onnx_stage, run_chain, torch_stage
from export.onnx.stages import export_stage
from export.robovlms.load import load
from export.teachers.load import load_policy
from tests.export.robovlms.original import CHUNK, GPT2, HIDDEN, LAYERS, PLAIN, Original
from tests.export.structures.tiny import config_of

SENTENCE = "lift the cube"
WORDS = {
    "<pad>": 0, "<s>": 1, "</s>": 2, "<eos>": 3, "<nl>": 4, "grounding": 5, "An": 6, "image": 10, "of": 11, "a": 12,
    "robot": 13, "lift": 7, "the": 8, "cube": 9,
}  # fmt: skip
TOLD = {"kosmos-2": f"<grounding>An image of a robot {SENTENCE}", "paligemma": f"<eos>{SENTENCE}\n"}


def project(folder: Path, **changes: Any) -> Path:
    head = {"type": "LSTMDecoder", "hidden_size": HIDDEN, "num_layers": LAYERS, "latent": 1, "history_type": "post"}
    told = {
        "robovlm_name": "RoboKosMos", "parent": None, "window_size": 3, "fwd_pred_next_n": CHUNK, "image_size": 32,
        "use_hand_rgb": False, "norm_action": True, "norm_min": -0.65, "norm_max": 0.65, "act_head": head,
    }  # fmt: skip
    changes = {**changes, "act_head": {**head, **changes.get("act_head", {})}}
    (folder / "run-project.json").write_text(json.dumps({**told, **changes}))
    return folder / "run-project.json"


def vlm(folder: Path, family: str) -> Path:
    """config.json and a tokenizer that puts its marks around a sentence; no weights."""
    folder.mkdir()
    config_of(family).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    tokenizer.normalizer = normalizers.Replace("\n", " <nl> ")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<eos>", "<nl>"])
    marks = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def told(folder: Path, family: str) -> torch.Tensor:
    """Ids (1, L) of the sentence as its own data loader makes them."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return torch.tensor([tokenizer.encode(TOLD[family], add_special_tokens=family == "kosmos-2").ids])


def original(family: str, window: int = 3, **kind: Any) -> Original:
    torch.manual_seed(0)
    return Original(family, window, **kind).eval()


def shown(count: int, cameras: int) -> torch.Tensor:
    return torch.rand(count, cameras, 32, 32, 3, generator=torch.Generator().manual_seed(4)) * 2 - 1


CASES = {
    "kosmos-2 policy head": ("kosmos-2", {}, {}, 1),
    "kosmos-2 with a hand camera": ("kosmos-2", {}, {"use_hand_rgb": True}, 2),
    "paligemma policy head": ("paligemma", {}, {"robovlm_name": "RoboPaligemma"}, 1),
    "kosmos-2 policy head, GPT-2": ("kosmos-2", {"head": GPT2}, {"act_head": {"type": GPT2}}, 1),
    "paligemma policy head, GPT-2": ("paligemma", {"head": GPT2}, {"act_head": {"type": GPT2}}, 1),
    "kosmos-2 interleaved": (
        "kosmos-2", {"head": PLAIN, "history": "pre"},
        {"act_head": {"type": "FCDecoder", "history_type": "pre"}}, 1,
    ),
    "paligemma one-step": (
        "paligemma", {"head": PLAIN}, {"window_size": 1, "act_head": {"type": "FCDecoder"}}, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_answers_as_the_original_moment_by_moment(tmp_path: Path, case: str) -> None:
    family, kind, changes, cameras = CASES[case]
    made = original(family, **kind)
    torch.save({"state_dict": made.checkpoint()}, tmp_path / "last.ckpt")
    loaded = load(tmp_path / "last.ckpt", project(tmp_path, **changes), vlm(tmp_path / "vlm", family))
    teacher = loaded.teacher
    assert all("lm_head" in name or name.endswith((".attn.bias", ".attn.masked_bias")) for name in loaded.left_out)
    tokens, mask = teacher.tokenize(SENTENCE)
    specs, backbone = teacher.stages(), teacher.policy.backbone
    memory = blank_memory(specs)
    pictures = shown(6, cameras)
    for moment in range(6):
        raw = {
            "image": pictures[moment : moment + 1].numpy(),
            "tokens": tokens[None],
            "token_mask": mask[None],
            **memory,
        }
        values = run_chain(specs, raw, torch_stage)
        memory = {name: values[name + NEXT] for name in memory}
        pixels = [
            (p[None].permute(0, 3, 1, 2) * 0.5 + 0.5 - backbone.mean) / backbone.deviation for p in pictures[moment]
        ]
        theirs = made(pixels, told(tmp_path / "vlm", family)).numpy()
        np.testing.assert_allclose(values["chunk"][0, :, :6], theirs[:, :6], rtol=0, atol=2e-5)
        assert np.array_equal(values["chunk"][0, :, 6], 2 * theirs[:, 6] - 1)


@pytest.mark.parametrize("case", ["kosmos-2 policy head", "kosmos-2 policy head, GPT-2"])
def test_its_graphs_answer_as_it_does_from_a_blank_memory_to_a_full_one(tmp_path: Path, case: str) -> None:
    family, kind, changes, cameras = CASES[case]
    torch.save({"state_dict": original(family, **kind).checkpoint()}, tmp_path / "last.ckpt")
    teacher = load(tmp_path / "last.ckpt", project(tmp_path, **changes), vlm(tmp_path / "vlm", family)).teacher
    specs = teacher.stages()
    sessions = {spec.name: open_session(export_stage(spec), spec.name) for spec in specs}
    tokens, mask = teacher.tokenize(SENTENCE)
    memories = [blank_memory(specs), blank_memory(specs)]
    for picture in shown(5, cameras):
        raw = {"image": picture[None].numpy(), "tokens": tokens[None], "token_mask": mask[None]}
        runs = (torch_stage, onnx_stage(sessions))
        answers = [run_chain(specs, {**raw, **memory}, run) for memory, run in zip(memories, runs, strict=True)]
        memories = [{name: values[name + NEXT] for name in memories[0]} for values in answers]
        np.testing.assert_allclose(answers[1]["chunk"], answers[0]["chunk"], rtol=0, atol=1e-4)


def test_a_folder_of_both_is_a_teacher_like_any_other(tmp_path: Path) -> None:
    torch.save(
        {"model_state_dict": {f"module.{n}": t for n, t in original("kosmos-2").checkpoint().items()}},
        tmp_path / "w.pt",
    )
    project(tmp_path)
    teacher = load_policy(tmp_path, vlm(tmp_path / "vlm", "kosmos-2"))
    assert (teacher.spec.name, teacher.spec.horizon, teacher.spec.observations) == ("robovlms", CHUNK, 3)
    np.testing.assert_allclose(teacher.spec.action_stats.scale, [0.65] * 6 + [1.0])
    with pytest.raises(BadInput, match="--tokenizer DIR"):
        load_policy(tmp_path)
    torch.save({}, tmp_path / "second.pt")
    with pytest.raises(BadInput, match="leave one each"):
        load_policy(tmp_path, tmp_path / "vlm")


def test_the_gripper_of_the_calvin_evaluation_is_scaled_with_the_pose(tmp_path: Path) -> None:
    torch.save({"state_dict": original("kosmos-2").checkpoint()}, tmp_path / "w.pt")
    files = (tmp_path / "w.pt", project(tmp_path), vlm(tmp_path / "vlm", "kosmos-2"))
    stats = load(*files, gripper="normalised").teacher.spec.action_stats
    said = stats.invert(np.array([[0] * 6 + [-1], [0] * 6 + [1]], np.float32))[:, 6]
    np.testing.assert_allclose(said, [2 * (0.0 - 0.5), 2 * (0.65 - 0.5)], atol=1e-6)  # 0 and 1, de-normalised, doubled
    with pytest.raises(BadInput, match="gripper"):
        load(*files, gripper="open")


def test_a_companded_checkpoint_is_expanded_again(tmp_path: Path) -> None:
    from export.robovlms.actions import expand

    made = original("kosmos-2")
    torch.save({"state_dict": made.checkpoint()}, tmp_path / "w.pt")
    lm = vlm(tmp_path / "vlm", "kosmos-2")
    plain = load(tmp_path / "w.pt", project(tmp_path), lm).teacher
    grown = load(tmp_path / "w.pt", project(tmp_path, use_mu_law=True, mu_val=255), lm).teacher
    tokens, mask = plain.tokenize(SENTENCE)
    raw = {"image": shown(1, 1).numpy(), "tokens": tokens[None], "token_mask": mask[None]}
    one, two = (run_chain(t.stages(), raw, torch_stage)["chunk"] for t in (plain, grown))
    np.testing.assert_allclose(two, expand(one, 255), rtol=1e-4, atol=1e-6)


def test_tensors_that_are_unknown_or_lack_or_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = original("kosmos-2").checkpoint()
    told, lm = project(tmp_path), vlm(tmp_path / "vlm", "kosmos-2")
    torch.save({"state_dict": {**state, "model.act_head.extra.weight": torch.zeros(2)}}, tmp_path / "more.pt")
    with pytest.raises(BadInput, match=r"act_head\.extra\.weight"):
        load(tmp_path / "more.pt", told, lm)
    lacking = {name: tensor for name, tensor in state.items() if "rnn.weight_hh_l1" not in name}
    torch.save({"state_dict": lacking}, tmp_path / "less.pt")
    with pytest.raises(BadInput, match=r"without .*history\.rnn\.weight_hh_l1"):
        load(tmp_path / "less.pt", told, lm)
    torch.save({"state_dict": {**state, "model.action_token": torch.zeros(5)}}, tmp_path / "other.pt")
    with pytest.raises(BadInput, match=r"asking \[1, 32\]"):
        load(tmp_path / "other.pt", told, lm)
    torch.save({"state_dict": {**state, "model.fwd_head.mlp.weight": torch.zeros(2)}}, tmp_path / "training.pt")
    assert "model.fwd_head.mlp.weight" in load(tmp_path / "training.pt", told, lm).left_out


def test_what_only_the_trained_part_holds_is_filled_from_the_folder_of_the_model(tmp_path: Path) -> None:
    made = original("kosmos-2")
    lm = vlm(tmp_path / "vlm", "kosmos-2")
    heads = {name: tensor for name, tensor in made.checkpoint().items() if ".backbone." not in name}
    torch.save({"state_dict": heads}, tmp_path / "heads.pt")
    told = project(tmp_path)
    with pytest.raises(BadInput, match="every tensor of this policy"):
        load(tmp_path / "heads.pt", told, lm)
    made.backbone.save_pretrained(lm)
    teacher = load(tmp_path / "heads.pt", told, lm).teacher
    theirs = dict(made.backbone.named_parameters())["text_model.model.layers.0.ffn.fc1.weight"]
    assert torch.equal(
        dict(teacher.policy.backbone.model.named_parameters())["text_model.model.layers.0.ffn.fc1.weight"], theirs
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"act_head": {"type": "GPTDecoder", "latent": 2}}, "latent of a GPTDecoder"),
        ({"act_head": {"type": "DiscreteDecoder", "action_space": "discrete"}}, "DiscreteDecoder"),
        ({"act_head": {"history_type": "video"}}, "video"),
        ({"act_head": {"history_type": "pre"}}, "behind interleaved"),
        ({"use_vision_resampler": True}, "resampler"),
    ],
)
def test_what_is_not_carried_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    torch.save({"state_dict": {}}, tmp_path / "w.pt")
    with pytest.raises(Refused, match=said):
        load(tmp_path / "w.pt", project(tmp_path, **changes), None)


def test_a_pickle_that_carries_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": original("kosmos-2").checkpoint(), "callback": Path}, tmp_path / "w.ckpt")
    with pytest.raises(BadInput, match="would run code"):
        load(tmp_path / "w.ckpt", project(tmp_path), vlm(tmp_path / "vlm", "kosmos-2"))


def test_the_command_takes_a_folder_of_both_and_distils_a_compact_student(tmp_path: Path) -> None:
    from export.distill.start import can_prune
    from export.request import Request, TeacherAsk, require_files

    torch.save({"state_dict": original("kosmos-2").checkpoint()}, tmp_path / "w.ckpt")
    project(tmp_path)
    lm = vlm(tmp_path / "vlm", "kosmos-2")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    asked = TeacherAsk(str(tmp_path), lm)
    require_files(Request(asked, str(tmp_path / "data"), tmp_path / "o.bundle", tmp_path / "work", "2s", 0, 1))
    assert not can_prune(load_policy(tmp_path, lm))


def test_half_a_folder_of_a_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from export.structures.families import open_backbone

    made = original("kosmos-2")
    made.backbone.save_pretrained(tmp_path / "vlm")
    file = tmp_path / "vlm" / "model.safetensors"
    half = {name: tensor for name, tensor in load_file(file).items() if "layers.1" not in name}
    save_file(half, file, metadata={"format": "pt"})
    with pytest.raises(BadInput, match="every weight of the model"):
        open_backbone(tmp_path / "vlm", (32, 32))
