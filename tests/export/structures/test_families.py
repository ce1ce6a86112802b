"""Adapters of vision-language models: how long they are, and that pictures, words and places mean what they should."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
import torch

import export.structures
from edgevla.errors import BadInput
from export.structures.backbone import Backbone, freeze
from export.structures.families import FAMILIES, adapter, open_backbone
from tests.export.structures.tiny import LONGEST, backbone_of, config_of

MOST_STATEMENTS = 30
PRETRAINED = sorted(set(FAMILIES) - {"ours"})


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return backbone_of(request.param).eval()


def heard(backbone: Backbone, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Words (1, L, D) and which are there, padded."""
    padded = tokens + [0] * (LONGEST - len(tokens))
    there = torch.tensor([[1.0] * len(tokens) + [0.0] * (LONGEST - len(tokens))])
    return backbone.hear(torch.tensor([padded])), there


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def statements(tree: ast.AST) -> int:
    """Statements of a file, without docstrings and imports."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    found = [node for node in found if not isinstance(node, (ast.Import, ast.ImportFrom))]
    texts = [n for n in found if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return len(found) - len(texts)


@pytest.mark.parametrize("family", PRETRAINED)
def test_an_adapter_is_at_most_thirty_statements_with_all_that_its_file_holds(family: str) -> None:
    source = ast.parse(Path(inspect.getfile(adapter(family))).read_text())
    others = sum(isinstance(node, ast.ClassDef) and node.name != adapter(family).__name__ for node in source.body)
    assert 0 < statements(source) - 2 * others <= MOST_STATEMENTS  # another family of the same parts: its name


def test_no_family_is_named_outside_its_adapter() -> None:
    folder = Path(inspect.getfile(export.structures)).parent
    elsewhere = [path for path in folder.rglob("*.py") if path.parent.name != "families"]
    assert len(elsewhere) > 5
    for path in elsewhere:
        code = ast.parse(path.read_text())
        names = {
            node.value for node in ast.walk(code) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not names & set(FAMILIES), path


@torch.no_grad()
def test_a_picture_gives_tokens_of_the_words_width_and_each_picture_its_own(backbone: Backbone) -> None:
    shown = pictures(2)
    tokens = backbone.see(shown)
    assert tokens.shape[0] == 2
    assert tokens.ndim == 3
    torch.testing.assert_close(tokens[1:], backbone.see(shown[1:]), rtol=0, atol=1e-5)
    assert not torch.allclose(tokens[0], tokens[1])


@torch.no_grad()
@pytest.mark.parametrize("family", ["paligemma", "llava", "gemma3", "internvl", "smolvlm", "idefics3", "qwen2_vl"])
def test_tokens_of_a_picture_are_those_that_transformers_makes(family: str) -> None:
    backbone, shown = backbone_of(family).eval(), pictures(1)
    pixels = (shown.permute(0, 3, 1, 2) * 0.5 + 0.5 - backbone.mean) / backbone.deviation
    if family == "qwen2_vl":
        cut = pixels.unfold(2, 8, 8).unfold(3, 8, 8)  # 1, 3, rows, columns, 8, 8
        folded = cut.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 3, 5, 1, 6, 7).flatten(0, 4)
        flat = folded[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)  # colour, twice in time, 8, 8
        theirs = backbone.model.get_image_features(flat, torch.tensor([[1, 4, 4]]))[0][None]
    else:
        theirs = backbone.model.get_image_features(pixels[:, None] if family in ("smolvlm", "idefics3") else pixels)
        theirs = torch.stack(theirs) if isinstance(theirs, list) else theirs
    torch.testing.assert_close(backbone.see(shown), theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_padding_behind_words_changes_nothing(backbone: Backbone) -> None:
    vision, queries = backbone.see(pictures(1))[:, None], torch.randn(1, 1, 2, backbone.width)
    words, there = heard(backbone, [2, 7, 9])
    short = backbone.read(vision, words[:, :3], there[:, :3], queries)
    torch.testing.assert_close(backbone.read(vision, words, there, queries), short, rtol=0, atol=1e-5)
    other, _ = heard(backbone, [2, 7, 11])
    assert not torch.allclose(backbone.read(vision, other, there, queries), short, atol=1e-5)


@torch.no_grad()
def test_a_query_knows_its_moment_and_those_before_it(backbone: Backbone) -> None:
    words, there = heard(backbone, [2, 7, 9])
    vision, queries = backbone.see(pictures(3))[None], torch.randn(1, 3, 2, backbone.width)
    whole = backbone.read(vision, words, there, queries)
    alone = backbone.read(vision[:, :2], words, there, queries[:, :2])
    torch.testing.assert_close(whole[:, :2], alone, rtol=0, atol=1e-5)
    moved = vision.clone()
    moved[:, 0] = backbone.see(pictures(1, seed=5))
    assert not torch.allclose(backbone.read(moved, words, there, queries)[:, 2], whole[:, 2], atol=1e-6)


@torch.no_grad()
def test_moments_that_were_not_yet_are_as_if_left_out(backbone: Backbone) -> None:
    words, there = heard(backbone, [2, 7, 9])
    vision, queries = backbone.see(pictures(3))[None], torch.randn(1, 3, 2, backbone.width)
    known = torch.tensor([[0.0, 1.0, 1.0]])
    found = backbone.read(vision, words, there, queries, known)[:, 1:]
    short = backbone.read(vision[:, 1:], words, there, queries[:, 1:])
    torch.testing.assert_close(found, short, rtol=0, atol=2e-5)


def test_freezing_leaves_what_was_asked_for(backbone: Backbone) -> None:
    freeze(backbone, vision=True, language=False, words=True)
    assert not any(p.requires_grad for p in backbone.vision.parameters())
    assert not backbone.model.get_input_embeddings().weight.requires_grad
    assert any(p.requires_grad for p in backbone.parameters())
    freeze(backbone, vision=False, language=True, words=False)
    assert any(p.requires_grad for p in backbone.vision.parameters())
    freeze(backbone, vision=True, language=False, words=True, last_layers=1)
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all(".layers." in name for name in trained)
    with pytest.raises(BadInput, match="trained layers"):
        freeze(backbone, vision=True, language=False, words=True, last_layers=99)
    freeze(backbone, vision=False, language=False, words=False)
    assert all(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("family", PRETRAINED)
def test_a_folder_of_transformers_is_opened_with_its_weights(family: str, tmp_path: Path) -> None:
    made = backbone_of(family)
    made.model.save_pretrained(tmp_path)
    opened = open_backbone(tmp_path, (32, 32))
    assert type(opened) is type(made)
    shown = pictures(1)
    with torch.no_grad():
        torch.testing.assert_close(opened.see(shown), made.see(shown), rtol=0, atol=1e-6)


def test_a_folder_that_is_none_and_a_family_without_an_adapter_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.json"):
        open_backbone(tmp_path, (32, 32))
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(BadInput, match="'blip'"):
        open_backbone(tmp_path, (32, 32))
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(BadInput, match="a model that transformers opens"):
        open_backbone(tmp_path, (32, 32))


def test_every_adapter_is_of_the_family_that_names_it() -> None:
    for family, where in FAMILIES.items():
        module, _, name = where.partition(":")
        found = getattr(importlib.import_module(f"export.structures.families.{module}"), name)
        assert found.family == family
        if family != "ours":
            assert config_of(family).model_type == family


@torch.no_grad()
def test_words_behind_a_picture_of_qwen_have_the_places_of_transformers() -> None:
    backbone = backbone_of("qwen2_vl")
    ids = torch.tensor([[2, *[3] * 4, 7, 9, 5]])
    backbone.model.config.image_token_id, backbone.model.config.vision_start_token_id = 3, 2
    theirs, _ = backbone.model.get_rope_index(ids, torch.tensor([[1, 4, 4]]), attention_mask=torch.ones_like(ids))
    ours = backbone.places(torch.ones(1, 8), 1, 4)
    assert torch.equal(ours, theirs)
    two = torch.tensor([[2, *[3] * 4, 7, 2, *[3] * 4, 7]])
    theirs, _ = backbone.model.get_rope_index(
        two, torch.tensor([[1, 4, 4], [1, 4, 4]]), attention_mask=torch.ones_like(two)
    )
    assert torch.equal(backbone.places(torch.ones(1, 12), 2, 4), theirs)
