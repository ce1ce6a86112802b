"""Golden vectors stage by stage: which stage diverges first, and what it costs in the units of the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgevla.bundle import Bundle, open_bundle, write_bundle
from edgevla.bundle.answers import (
    PREPROCESS,
    StageError,
    answer_all,
    answers_of,
    between,
    errors_in_units,
    first_divergence,
    main,
    read_answers,
    worst_channel,
    write_answers,
)
from edgevla.bundle.verify import verify_golden
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from tests.tiny_bundle import tiny_files, tiny_manifest


@pytest.fixture(scope="module")
def bundle(tiny_bundle_path: Path) -> Bundle:
    return open_bundle(tiny_bundle_path)


def with_other_weights(dest: Path, stage: str, initializer: str) -> Bundle:
    """The tiny bundle with one matrix three times as large, and the golden vectors as they were."""
    files = tiny_files()
    model = onnx.load_from_string(files[f"model/{stage}.onnx"])
    tensor = next(t for t in model.graph.initializer if t.name == initializer)
    tensor.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(tensor), initializer))
    files[f"model/{stage}.onnx"] = model.SerializeToString()
    return write_bundle(dest, tiny_manifest(), files)


@pytest.mark.parametrize(("stage", "matrix"), [("text", "table"), ("vision", "weight"), ("head", "out_weight")])
def test_verify_names_the_first_stage_that_diverges(tmp_path: Path, stage: str, matrix: str) -> None:
    (verdict,) = verify_golden(with_other_weights(tmp_path / "other.bundle", stage, matrix))
    assert not verdict.kept
    assert f"stage {stage} diverges first" in verdict.got
    assert " on " in verdict.got


def test_a_kept_vector_tells_every_stage(bundle: Bundle) -> None:
    (verdict,) = verify_golden(bundle)
    assert verdict.kept
    assert all(f"{stage} " in verdict.got for stage in ("text", "vision", "head"))


def test_an_error_is_told_in_the_unit_of_its_channel(bundle: Bundle) -> None:
    error = np.zeros((32, 4), np.float32)
    error[5, 2], error[7, 3] = -0.5, 0.25  # z is scaled by 0.01 m, the gripper by 1
    assert worst_channel(error, bundle.manifest) == (pytest.approx(0.005), "m on z")
    assert errors_in_units(error, bundle.manifest) == pytest.approx({"x": 0, "y": 0, "z": 0.005, "gripper": 0.25})
    error[0, 3] = np.nan
    assert worst_channel(error, bundle.manifest) == (np.inf, "on gripper")


def test_divergence_is_relative_to_large_outputs_and_nan_always_diverges() -> None:
    near, far = StageError("vision", "vision", 0.5, 60.0), StageError("head", "chunk", 0.5, 1.0)
    lost = StageError("text", "text", float("nan"), 1.0)
    assert first_divergence([near, far, lost], 0.02) is far
    assert first_divergence([near], 0.02) is None
    assert first_divergence([lost, far], 0.02) is lost


def test_answers_survive_the_file_and_equal_themselves(bundle: Bundle, tmp_path: Path) -> None:
    answers = answer_all(bundle)
    write_answers(tmp_path / "answers.npz", answers)
    read, told = read_answers(tmp_path / "answers.npz")
    assert told["onnxruntime"]
    errors = between(answers["golden/000.npz"], read["golden/000.npz"], bundle.manifest)
    assert [error.stage for error in errors][-3:] == ["text", "vision", "head"]
    assert {error.output for error in errors if error.stage == PREPROCESS} >= {"image", "state", "tokens"}
    assert all(error.error == 0 for error in errors)


def test_an_output_of_another_shape_diverges(bundle: Bundle) -> None:
    (answers,) = answer_all(bundle).values()
    errors = between(answers, {**answers, "vision": answers["vision"][:, :1]}, bundle.manifest)
    first = first_divergence(errors, 0.02)
    assert first is not None
    assert first.stage == "vision"


def test_the_command_writes_answers_and_refuses_what_is_no_bundle(
    tiny_bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "answers.npz"
    assert main([str(tiny_bundle_path), str(dest)]) == 0
    assert read_answers(dest)[0].keys() == {"golden/000.npz"}
    assert main([str(tmp_path), str(dest)]) == BadInput.exit_code
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_trace_is_finished_from_any_stage(bundle: Bundle) -> None:
    engine = PolicyEngine(bundle)
    trace = answers_of(engine, bundle.golden["golden/000.npz"])
    for done in range(4):
        assert np.array_equal(engine.finish(trace, done), trace["chunk"][0])
    other = {**trace, "vision": trace["vision"] + 1}
    assert not np.array_equal(engine.finish(other, 2), trace["chunk"][0])
    assert np.array_equal(engine.finish(other, 1), trace["chunk"][0])  # vision runs again
