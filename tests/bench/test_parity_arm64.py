"""Parity between machines: each stage's own cost, the verdict, and the real arm64 where its root is cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.parity_arm64 import CACHE, arm64, compare, judge, recorded_error
from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.answers import answer_all, read_answers
from edgevla.errors import Refused
from edgevla.policy.engine import PolicyEngine


@pytest.fixture(scope="module")
def bundle(tiny_bundle_path: Path) -> Bundle:
    return open_bundle(tiny_bundle_path)


def test_a_stage_is_charged_for_what_it_changes_and_the_first_is_found(bundle: Bundle) -> None:
    engine, expected = PolicyEngine(bundle), answer_all(bundle)
    got = {name: dict(values) for name, values in expected.items()}
    for values in got.values():
        values["vision"] = values["vision"] + 0.5
        values["chunk"] = engine.finish(values, 2)[None]
    rows = {row["stage"]: row for row in compare(bundle, engine, expected, got)}
    assert list(rows) == ["preprocess", "text", "vision", "head"]
    assert rows["text"]["action_error"] == 0
    assert rows["vision"]["action_error"] == rows["head"]["action_error"] > 0
    assert [name for name, row in rows.items() if row["diverges"]] == ["vision", "head"]
    assert rows["vision"]["error"] == pytest.approx(0.5)
    assert rows["head"]["by_channel"].keys() == {"x", "y", "z", "gripper"}


def test_equal_machines_have_no_error(bundle: Bundle) -> None:
    answers = answer_all(bundle)
    rows = compare(bundle, PolicyEngine(bundle), answers, answers)
    assert all(row["error"] == row["action_error"] == 0 and not row["diverges"] for row in rows)


def test_a_machine_that_breaks_the_golden_vectors_is_refused_with_its_stage() -> None:
    result = {
        "against_recorded": {"host": {"of_tolerance": 0.1}, "arm64": {"of_tolerance": 3.0}},
        "comparisons": {"host -> arm64": {"first_diverging_stage": "vision"}},
    }
    with pytest.raises(Refused, match=r"(?s)arm64.*3\.0 times the tolerance.*vision"):
        judge(result)
    result["against_recorded"]["arm64"]["of_tolerance"] = float("nan")
    with pytest.raises(Refused, match="arm64"):
        judge(result)


@pytest.mark.slow
@pytest.mark.skipif(
    not (CACHE / "root").is_dir(), reason="no arm64 root in out/cache/arm64; make parity-arm64 makes it"
)
def test_an_emulated_arm64_answers_as_recorded(bundle: Bundle, tmp_path: Path) -> None:
    arm64(bundle, tmp_path / "arm64.npz")
    answers, told = read_answers(tmp_path / "arm64.npz")
    assert told["machine"] == "aarch64"
    error, share = recorded_error(bundle, answers)
    assert np.isfinite(error)
    assert share < 1
