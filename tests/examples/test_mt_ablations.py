"""Ablations: each variant is a recipe that can be trained, and a table says no more than its episodes show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevla.bundle.manifest import Timing
from edgevla.control.timing import schedule_of
from edgevla.errors import BadInput, Usage
from edgevla.sim.metaworld import PERIOD_S
from examples.metaworld.demos import Group, Recording, record_episode
from examples.metaworld.mt.ablations import (
    BASE,
    RECIPE,
    VARIANTS,
    Data,
    Variant,
    conclusions,
    learns_from,
    main,
    recipe_of,
    recounted,
    rows_of,
)
from examples.metaworld.mt.demos import DISTURBERS
from export.structures.config import StructureConfig
from export.structures.policy import StructurePolicy
from export.structures.recipe import read_recipe
from export.structures.train import make_backbone
from export.study.play import claim, keep, result_of, simulator
from profiles import load_target
from tests.examples.mt_desk import write_data
from tests.export.structures.test_places import write_stills

DATA = Data(Path("pushes"), Path("noise"), Path("none"), Path("stills"))
NAMES = ("one", "two")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_answers_and_differs_from_the_recipe_in_what_it_says(variant: Variant) -> None:
    base = read_recipe(RECIPE)
    recipe = recipe_of(variant, base, DATA, 640)
    (stage,) = recipe.stages
    assert stage.frames == 640
    assert stage.data == variant.disturb
    (other,) = (one for one in VARIANTS if one.name == variant.beside)
    assert (recipe == recipe_of(other, base, DATA, 640)) == (variant.name == BASE)
    config = StructureConfig.from_dict({**recipe.policy, "pictures": 1, "state": 4, "actions": 4})
    policy = StructurePolicy(config, make_backbone(recipe.backbone, 20)).eval()
    schedule_of(Timing(PERIOD_S, config.horizon, config.d_max), load_target("host"))  # the loop takes such chunks
    moments = config.window
    inputs = {
        "image": torch.zeros(1, moments, 1, 128, 128, 3), "state": torch.zeros(1, moments, 4),
        "tokens": torch.ones(1, 12, dtype=torch.int64), "token_mask": torch.ones(1, 12),
    }  # fmt: skip
    chunk = torch.zeros(1, config.horizon, 4)
    with torch.no_grad():
        answer = policy.act(inputs, torch.randn(chunk.shape), chunk, chunk[..., :1])
    assert answer.shape == chunk.shape
    assert config.window == 1 or stage.stills is None


def test_a_variant_is_known_by_its_recipe_its_demonstrations_and_its_pictures(tmp_path: Path) -> None:
    demonstrations, stills = write_data(tmp_path / "data"), write_stills(tmp_path / "stills", 40)
    data = Data(*[tmp_path / "data"] * 3, tmp_path / "stills")
    told = {
        variant.name: learns_from(recipe_of(variant, read_recipe(RECIPE), data, 640), "mt10") for variant in VARIANTS
    }
    assert {one["demonstrations"] for one in told.values()} == {demonstrations.sha256}
    assert told[BASE]["stills"] == stills.sha256
    assert told["no pictures"]["stills"] is None
    assert told[BASE]["recipe"] != told["fine"]["recipe"]
    json.dumps(told)


def test_what_was_trained_otherwise_is_not_told_as_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though every result is there, and nothing is left to train."""
    write_data(tmp_path / "data")
    write_stills(tmp_path / "stills", 40)
    data, work = Data(*[tmp_path / "data"] * 3, tmp_path / "stills"), tmp_path / "work"
    for variant in VARIANTS:
        folder = work / variant.name.replace(" ", "-")
        claim(folder, learns_from(recipe_of(variant, read_recipe(RECIPE), data, 640), "mt10"))
        told = {**result(variant.name, [False] * 10), "ticks": [500] * 10, "train_s": 1.0, "played_s": 1.0}
        keep(result_of(folder, 1), {**told, "simulator": simulator()})
    paths = {"data": data.demonstrations, "noise": data.noise, "calm": data.calm, "stills": data.stills, "work": work}
    command = [*(f"--{name}={path}" for name, path in paths.items()), "--per-task=1", "-o", str(tmp_path / "a.json")]
    main([*command, "--frames=640"])
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 640
    capsys.readouterr()
    for option, said in (("--frames=64", "frames of"), ("--set=mt50", "set of")):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--frames=640", option])
        assert ended.value.code == BadInput.exit_code
        assert said in capsys.readouterr().err


def result(name: str, success: list[bool]) -> dict[str, Any]:
    return {"name": name, "what": "w", "parameters": 5, "success": success}


def test_a_row_counts_its_own_episodes_and_those_that_the_recipe_won_or_lost() -> None:
    base = result(BASE, [True] * 10 + [False] * 10)
    better = result("better", [True] * 20)
    other = result("same", [True] * 9 + [False] * 11)
    rows = {row["name"]: row for row in rows_of([base, better, other], NAMES)}
    assert rows[BASE]["success"] == 0.5
    assert rows[BASE]["difference"] == 0.0
    assert rows["better"]["per_task"] == {"one": 1.0, "two": 1.0}
    assert rows["same"]["per_task"] == {"one": 0.9, "two": 0.0}
    assert rows["better"]["difference"] == pytest.approx(0.5)
    assert rows["better"]["difference_ci"][0] > 0.2
    said = conclusions(list(rows.values()))
    assert len(said) == 2  # what is shown, and that one training of each is one
    assert said[0].startswith("better (w) played better than as it is: +50.0 points")


def test_the_committed_table_follows_from_its_episodes() -> None:
    told = json.loads(Path("bench/results/mt10/ablations.json").read_text())
    assert [row["name"] for row in told["rows"]] == [variant.name for variant in VARIANTS]
    assert {key: told[key] for key in ("rows", "conclusions")} == json.loads(json.dumps(recounted(told)))
    told["raw"][0]["success"] = [not one for one in told["raw"][0]["success"]]
    assert recounted(told)["rows"] != told["rows"]


def test_a_difference_stands_beside_its_own_variant() -> None:
    results = [result(BASE, [True] * 20), result("fine", [True] * 10 + [False] * 10), result("resampler", [True] * 20)]
    rows = {row["name"]: row for row in rows_of(results, NAMES)}
    assert (rows["resampler"]["beside"], rows["resampler"]["difference"]) == ("fine", 0.5)


def test_among_many_comparisons_chance_is_not_told_as_a_difference() -> None:
    """One of twelve at p = 0.03 is what chance gives; alone it would be told."""
    told = {"what": "w", "beside": BASE, "difference": 0.2, "difference_ci": [0.02, 0.4]}
    rows = [{**told, "name": f"v{k}", "p": 0.03 if k == 0 else 0.6} for k in range(12)]
    assert len(conclusions(rows)) == 1
    assert len(conclusions(rows[:1])) == 2


@pytest.mark.parametrize("name", DISTURBERS)
def test_only_a_calm_expert_is_not_disturbed(name: str) -> None:
    seed = 430_000
    plant, episode = record_episode(
        Group("reach-v3", False, 1, seed), seed, None, Recording(disturber=DISTURBERS[name])
    )
    plant.close()
    assert episode is not None
    share = float((episode["executed"] != episode["expert"]).any(1).mean())
    assert {"none": share == 0.0, "pushes": 0.0 < share < 0.5, "noise": share > 0.0}[name]


def test_data_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path), "--work", str(tmp_path / "work")])
    assert ended.value.code == BadInput.exit_code
    assert "a folder with dataset.json" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--workers", "--frames", "--per-task"])
@pytest.mark.parametrize("number", ["0", "-5", "2.5", "many"])
def test_numbers_that_make_no_sense_are_refused(option: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"{option}={number}"])
    assert ended.value.code == Usage.exit_code
    assert f"{option}: expected a whole number, 1 or more, got '{number}'" in capsys.readouterr().err
