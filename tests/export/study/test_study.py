"""The study: cells of equal size, honest conclusions, and one cell the whole way with few frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.errors import BadInput
from edgevla.sim.metaworld import TASKS
from export import compress as steps
from export.data.ours import OurData
from export.study import __main__ as study
from export.study.cells import KINDS, PARAMETERS, TOLERANCE, VARIANTS, cells, fitted
from export.study.play import episodes, result_of
from export.study.report import conclusions, interval, rows_of, table
from export.study.train import count, run_cell
from tests.export.tiny import write_counting_dataset

WORDS = 60


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_structure_has_as_many_parameters(kind: Any) -> None:
    from export.study.cells import policy_of

    config = fitted(kind, WORDS, count)
    assert abs(count(policy_of(config, WORDS)) - PARAMETERS) <= TOLERANCE * PARAMETERS
    assert (config.structure, config.head, config.window) == (kind.structure, kind.head, kind.window)


def test_cells_come_seed_by_seed_and_have_folders_of_their_own() -> None:
    found = cells(2)
    assert len(found) == 2 * len(KINDS) * len(VARIANTS)
    assert len({cell.name for cell in found}) == len(found)
    assert {cell.seed for cell in found[: len(KINDS) * len(VARIANTS)]} == {0}
    assert all(c.isalnum() or c == "-" for cell in found for c in cell.name)


def result(kind: int, variant: str, seed: int, share: float, pairs: int = 300) -> dict[str, Any]:
    told = {"name": KINDS[kind].name, "structure": "", "head": "", "window": 1}
    success = (np.arange(pairs) < share * pairs).tolist()
    return {
        "cell": {"kind": told, "variant": variant, "seed": seed}, "parameters": 7, "frames": 64, "train_s": 2.0,
        "success": success,
    }  # fmt: skip


def rows(shares: dict[int, list[float]], pairs: int = 300) -> list[dict[str, Any]]:
    results = [result(kind, "plain", seed, s, pairs) for kind, seeds in shares.items() for seed, s in enumerate(seeds)]
    return rows_of(results, {KINDS[0].name: {"p50_ms": 1.0, "p99_ms": 2.0, "rss_mb": 90.0}})


def test_no_winner_is_named_where_intervals_overlap() -> None:
    clear = rows({0: [0.9, 0.91, 0.9], 1: [0.5, 0.52, 0.51]})
    assert conclusions(clear) == [f"plain tasks: {KINDS[0].name} is above all others, without overlap"]
    near = rows({0: [0.9, 0.7, 0.8], 1: [0.75, 0.85, 0.7], 2: [0.1, 0.1, 0.1]})
    (said,) = conclusions(near)
    assert "no winner" in said
    assert KINDS[1].name in said
    assert KINDS[2].name not in said


def test_few_seeds_or_episodes_rank_nothing() -> None:
    for few in (rows({0: [1.0], 1: [0.0]}), rows({0: [1.0] * 3, 1: [0.0] * 3}, pairs=120)):
        (said,) = conclusions(few)
        assert "no ranking is claimed" in said


def test_an_interval_over_seeds_is_wider_where_seeds_differ() -> None:
    same = np.tile(np.arange(300) < 240, (3, 1))
    apart = np.stack([np.arange(300) < n for n in (180, 240, 300)])
    widths = [high - low for low, high in (interval(same), interval(apart))]
    assert widths[1] > 5 * widths[0]  # three seeds 20 points apart: Student's t, not the range of the seeds
    low, high = interval(same[:1])
    assert low < 0.8 < high


def test_the_table_shows_what_was_measured_and_a_dash_for_the_rest() -> None:
    shown = table(rows({0: [0.5] * 3, 1: [0.25] * 3}))
    assert shown[0][:3] == [KINDS[0].name, "plain", "50.0 %"]
    assert shown[0][-3:] == ["1.00", "2.00", "90"]
    assert shown[1][-3:] == ["-", "-", "-"]


def test_one_cell_is_trained_packed_and_played_and_its_result_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, frames in (("PARITY_FRAMES", 3), ("CALIBRATION_FRAMES", 2)):
        monkeypatch.setattr(steps, name, frames)
    data = OurData(write_counting_dataset(tmp_path / "data"))
    cell = next(cell for cell in cells(1) if cell.kind.window == 8 and cell.variant == "dark")
    found = run_cell(cell, data, tmp_path / "data", tmp_path / "work", frames=128, pairs=6, loud=False)
    assert len(found["success"]) == 6
    assert found["parameters"] == pytest.approx(PARAMETERS, rel=TOLERANCE)
    kept = result_of(tmp_path / "work" / cell.name, 6)
    before = kept.stat().st_mtime_ns
    again = run_cell(cell, data, tmp_path / "data", tmp_path / "work", frames=128, pairs=6, loud=False)
    assert json.loads(json.dumps(found)) == again
    assert kept.stat().st_mtime_ns == before
    more = run_cell(cell, data, tmp_path / "data", tmp_path / "work", frames=128, pairs=12, loud=False)
    assert len(more["success"]) == 12  # the same policy, played again
    assert more["train_s"] == found["train_s"]
    with pytest.raises(BadInput, match="pass another --work"):
        run_cell(cell, data, tmp_path / "data", tmp_path / "work", frames=64, pairs=18, loud=False)


def test_every_cell_plays_the_same_fresh_scenes() -> None:
    played = episodes(13, dict.fromkeys(TASKS, "do it"))
    assert len({(e.task, e.seed) for e in played}) == len(played) >= 13
    assert min(e.seed for e in played) > 2_000_000


def test_the_command_names_a_folder_that_is_no_data_set(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        study.main(["--data", str(tmp_path)])
    assert ended.value.code == 4
    assert "dataset.json" in capsys.readouterr().err
