"""Distillation as it is typed, for a policy of one's own: one process, two, killed, controls."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from edgevla.errors import BadInput, Refused, Usage
from edgevla.policy.engine import open_session
from examples.own_module import OwnPolicy, Recording
from export.distill.feed import Feed
from export.distill.opening import open_data, open_teacher, source_of
from export.distill.source import RobotSource
from export.distill.start import (
    Wish,
    compact_config,
    longest_prefix,
    make_student,
    matched_features,
    picture_size,
    ticks_per_token,
)
from export.onnx.stages import export_stage
from export.students.interface import load_student

ROOT = Path(__file__).parents[3]
PATIENCE_S = 400.0  # a safety net for a busy machine, not a measurement
OWN = ["--teacher", "examples/own_module.py:policy", "--data", "examples/own_module.py:recording"]
SMALL = ["--examples", "512", "--width", "64", "--picture", "32", "--learning-rate", "3e-4"]
# saves five times a second, so that a kill finds something to go on from
OFTEN = "from export.distill import loop, student; loop.CHECKPOINT_S = 0.2; loop.LOG_EVERY = 10; student.main()"
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
PLAIN = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def start(work, *more, launcher=("-c", OFTEN)):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *launcher, *OWN, *SMALL, "--work", str(work), *more]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process, code=0):
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, errors
    return errors


def losses(work, mode="distil"):
    lines = [json.loads(line) for line in (work / mode / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """One process, batches of 16, 50 steps."""
    work = tmp_path_factory.mktemp("own")
    finished(start(work, "--steps", "50", "--batch", "16"))
    return work


def test_two_processes_under_accelerate_have_the_loss_curve_of_one_with_the_whole_batch(distilled, tmp_path):
    launcher = ["-m", *ACCELERATE, *PLAIN, "-m", "tests.export.distill.often"]
    finished(start(tmp_path, "--steps", "50", "--batch", "8", launcher=launcher))
    one, two = losses(distilled), losses(tmp_path)
    assert list(one) == list(two) == [10, 20, 30, 40, 50]
    for step, loss in one.items():
        assert two[step] == pytest.approx(loss, rel=0.03), step
    weights = [load_file(work / "distil" / "student.safetensors") for work in (distilled, tmp_path)]
    apart = sum((weights[0][k] - weights[1][k]).square().sum() for k in weights[0]).sqrt()
    assert apart < 0.02 * sum(value.square().sum() for value in weights[0].values()).sqrt()


def test_a_killed_distillation_goes_on_with_its_targets_and_at_its_step(tmp_path):
    process, path = start(tmp_path, "--budget", "1h", "--batch", "8"), tmp_path / "distil" / "checkpoint.safetensors"
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    with safe_open(path, framework="pt") as archive:
        saved = json.loads(archive.metadata()["progress"])["step"]
    shards = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "targets").glob("rows-*")}
    assert saved >= 1
    assert shards
    finished(start(tmp_path, "--steps", str(saved + 5), "--batch", "8"))
    assert load_student(tmp_path / "distil" / "student.safetensors").notes["progress"]["step"] == saved + 5
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "targets").glob("rows-*")} == shards


def test_the_student_of_a_file_answers_by_onnx_what_it_answers_in_torch(distilled):
    saved = load_student(distilled / "distil" / "student.safetensors")
    stages = saved.student.stages()
    assert [stage.name for stage in stages] == ["vision", "head"]  # no words, no stage of words
    assert stages[0].inputs["image"].shape == (1, 2, 16, 32, 3)  # 32 x 48 shrunk to 32, in patches of 16
    assert {"noise", "text"} & set(stages[1].inputs) == {"noise"}
    values = dict(stages[0].inputs)
    for stage in stages:
        values |= {name: values.get(name, example) for name, example in stage.inputs.items()}
        with torch.inference_mode():
            expected = stage.module(*(values[name] for name in stage.inputs)).numpy()
        session = open_session(export_stage(stage), stage.name)
        got = session.run(None, {name: values[name].numpy() for name in stage.inputs})[0]
        np.testing.assert_allclose(got, expected, atol=1e-4)
        values[stage.outputs[0]] = torch.from_numpy(got)
    assert values["chunk"].shape == (1, 12, 3)
    assert saved.feeding.cameras[0].fit == "stretch"
    assert [camera.name for camera in saved.feeding.cameras] == ["front", "wrist"]


@pytest.mark.parametrize("mode", ["demos-only", "without-z"])
def test_controls_share_the_targets_and_do_not_look_at_the_noise(distilled, mode):
    before = {p.name for p in (distilled / "targets").iterdir()}
    finished(start(distilled, "--steps", "10", "--batch", "8", "--mode", mode, "--finish", "dynamic-s8"))
    assert {p.name for p in (distilled / "targets").iterdir()} == before
    saved = load_student(distilled / mode / "student.safetensors")
    assert saved.notes["finish"] == "dynamic-s8"
    inputs = {"image": torch.zeros(1, 2, 16, 32, 3), "state": torch.zeros(1, 2)}
    empty = torch.zeros(1, 12, 3)
    with torch.inference_mode():
        one, other = (saved.student(inputs, v * torch.ones(1, 12, 5), empty, empty[..., :1])[0] for v in (0.0, 3.0))
    assert torch.equal(one, other)


def test_the_board_is_written_beside_the_json_lines(distilled):
    assert list((distilled / "distil" / "tensorboard").glob("events.out.tfevents.*"))


def test_a_bad_argument_is_one_sentence_and_the_exit_code_of_its_kind(tmp_path):
    errors = finished(start(tmp_path, "--d-max", "12", "--steps", "1"), code=2)
    assert re.search(r"--d-max.*\n.*1 to 11 ticks.*\n.*12", errors)
    assert "Traceback" not in errors


def test_a_student_that_cannot_be_cut_and_a_control_that_means_nothing_are_refused():
    teacher = OwnPolicy()
    with pytest.raises(Refused, match="a method `pruned`"):
        make_student(teacher, Wish("pruned"), "distil", torch.zeros(12, 5), ())
    quiet = OwnPolicy()
    quiet.spec = quiet.spec.__class__(**{**vars(quiet.spec), "noise": 0})
    with pytest.raises(Refused, match="a teacher that takes noise"):
        make_student(quiet, Wish(), "without-z", torch.zeros(12, 0), ())


def test_a_prefix_is_a_quarter_of_the_chunk_unless_said_or_trained():
    spec = OwnPolicy().spec
    assert longest_prefix(spec, Wish()) == 3
    assert longest_prefix(spec, Wish(d_max=5)) == 5
    trained = spec.__class__(**{**vars(spec), "d_max": 4})
    assert longest_prefix(trained, Wish()) == 4
    with pytest.raises(Usage, match="1 to 4 ticks"):
        longest_prefix(trained, Wish(d_max=5))


def test_sizes_of_a_compact_student_follow_the_teacher_s_interface():
    config = compact_config(OwnPolicy().spec, 3, Wish(width=128), (), ())
    assert (config.pictures, config.picture_height, config.picture_width) == (2, 32, 48)
    assert (config.state, config.actions, config.noise, config.horizon, config.ticks_per_token) == (2, 3, 5, 12, 4)
    assert config.vocabulary == 0
    assert [ticks_per_token(horizon) for horizon in (32, 50, 100, 7, 10, 1)] == [4, 5, 4, 7, 5, 1]
    big = [OwnPolicy().spec.cameras[0].__class__("top", 480, 640)]
    assert picture_size(big, 128) == (96, 128)


def test_a_dataset_of_another_embodiment_is_refused_before_the_teacher_is_asked():
    spec = OwnPolicy().spec
    with pytest.raises(BadInput, match="another embodiment"):
        RobotSource(Recording(), spec.__class__(**{**vars(spec), "state": ("shoulder",)}))
    with pytest.raises(BadInput, match="front, wrist too"):
        RobotSource(Recording(cameras=()), spec)


class Talkative(OwnPolicy):
    """As the example, with as many and as wide observation tokens as asked."""

    def __init__(self, count, width):
        super().__init__()
        self.shape = (count, width)

    def features(self, context):
        return torch.zeros(len(context[0]), *self.shape)


@pytest.mark.parametrize(("count", "width", "form"), [(5, 48, "tokens"), (5, 8000, "pooled"), (6, 48, "pooled")])
def test_features_are_kept_token_by_token_where_their_number_fits_and_they_are_small(count, width, form):
    teacher = Talkative(count, width)
    source = RobotSource(Recording(), teacher.spec)
    student, feeding = make_student(teacher, Wish(width=64, picture=32), "distil", torch.zeros(12, 5), ())
    feed = Feed(feeding, source.sentences, source.present)
    assert matched_features(teacher, student, feed, source) == (form, (64, width))  # 2 x 2 patches and the state


def test_a_camera_that_may_be_missing_is_black_and_told():
    spec = OwnPolicy().spec
    top = spec.cameras[0].__class__("top", 32, 48, when_missing="blank")
    source = RobotSource(Recording(), spec.__class__(**{**vars(spec), "cameras": (*spec.cameras, top)}))
    assert source.present == (True, True, False)
    pictures = source.pictures(np.array([[3], [50]]))
    assert [p.shape for p in pictures] == [(2, 32, 48, 3), (2, 24, 24, 3), (2, 32, 48, 3)]
    assert pictures[1].any()
    assert not pictures[2].any()


@pytest.mark.parametrize("where", ["nowhere.py:policy", "examples/own_module.py:nothing", "examples"])
def test_a_teacher_that_is_none_is_refused(where):
    with pytest.raises(BadInput):
        open_teacher(where)


def test_a_function_that_returns_no_policy_is_refused():
    with pytest.raises(BadInput, match="a TeacherPolicy"):
        open_teacher("examples/own_module.py:recording")


def test_a_dataset_may_come_from_a_function_of_ones_own(tmp_path):
    source = source_of(open_data("examples/own_module.py:recording", tmp_path), OwnPolicy())
    rows = source.draw(50, 3, 12, 3)
    assert source.sentences == ("follow the dot",)
    assert rows["actions"].shape == (50, 12, 3)
    data = Recording()
    first = data.action[rows["tick"]] / 0.25
    np.testing.assert_allclose(rows["actions"][:, 0], first, atol=1e-6)
