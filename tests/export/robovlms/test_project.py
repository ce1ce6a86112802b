"""Project files of the original, with their parents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from export.robovlms.project import merged, read_project

KOSMOS = {
    "robovlm_name": "RoboKosMos",
    "parent": None,
    "window_size": 8,
    "fwd_pred_next_n": 10,
    "image_size": 224,
    "use_hand_rgb": False,
    "norm_action": True,
    "norm_min": -0.65,
    "norm_max": 0.65,
    "act_head": {"type": "LSTMDecoder", "hidden_size": 1024, "history_type": "post", "action_space": "continuous"},
}


def written(folder: Path, name: str = "one-project.json", **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({**KOSMOS, **changes}))
    return folder / name


def test_a_policy_head(tmp_path):
    project = read_project(written(tmp_path))
    assert (project.structure, project.window, project.chunk) == ("policy head continuous", 8, 10)
    assert project.normalised == (-0.65, 0.65)
    assert project.mu is None
    assert project.raw["act_head"]["hidden_size"] == 1024


@pytest.mark.parametrize(
    ("head", "window", "structure"),
    [
        ({"type": "DiscreteDecoder", "action_space": "discrete"}, 1, "one-step discrete"),
        ({"type": "FCDecoder"}, 1, "one-step continuous"),
        ({"type": "FCDecoder", "history_type": "pre"}, 8, "interleaved continuous"),
        ({"type": "GPTDecoder", "history_type": "post"}, 16, "policy head continuous"),
    ],
)
def test_the_four_structures(tmp_path, head, window, structure):
    assert read_project(written(tmp_path, act_head=head, window_size=window)).structure == structure


def test_what_is_inherited_and_what_is_replaced(tmp_path):
    written(tmp_path / "configs", "base.json", image_size=448, vlm={"name": "kosmos", "bits": 4})
    child = tmp_path / "runs" / "child-project.json"
    child.parent.mkdir()
    over = {"parent": "configs/base.json", "use_mu_law": True, "act_head": {"type": "GPTDecoder"}}
    child.write_text(json.dumps({**over, "vlm": {"__override__": True, "name": "paligemma"}}))
    project = read_project(child)
    assert (project.image_px, project.head, project.history, project.mu) == (448, "GPTDecoder", "post", 255.0)
    assert project.raw["vlm"] == {"name": "paligemma"}


def test_merging_changes_neither():
    base, over = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merged(base, over) == {"a": {"b": 3, "c": 2}}
    assert (base, over) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"act_head": {"type": "VQDecoder"}}, "act_head.type"),
        ({"act_head": {"type": "FCDecoder", "history_type": "none"}}, "history_type"),
        ({"act_head": 3}, "act_head"),
        ({"window_size": 0}, "window_size"),
        ({"window_size": None}, "window_size"),
        ({"norm_min": 1.0}, "norm_min"),
        ({"parent": "elsewhere.json"}, "elsewhere.json"),
        ({"parent": "one-project.json"}, "circle"),
    ],
)
def test_what_is_no_project_is_said(tmp_path, changes, word):
    with pytest.raises(BadInput, match=word):
        read_project(written(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_json_object_is_said(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"p\.json"):
        read_project(path)
    with pytest.raises(BadInput, match="nowhere"):
        read_project(tmp_path / "nowhere.json")
