"""Three users with a policy of their own: LeRobot's ACT, Diffusion and SmolVLA, a checkpoint file, a Python module.

Everything runs as `edgevla compress` runs it, in this process: a few steps of training, few frames, random weights.
"""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.cli.main import run_command
from edgevla.errors import BadInput, Refused, Unsound, Usage
from edgevla.policy.engine import PolicyEngine
from examples import own_checkpoint
from export import compress as steps
from export.distill.source import pick
from export.distill.student import distil, settings_of
from export.embodiment import FILL_IN
from export.launch import distillation_options
from export.request import ArtifactAsk, Request, StudentAsk, TeacherAsk
from tests.export.user_files import (
    JOINTS,
    SMOLVLA,
    TASKS,
    write_act,
    write_diffusion,
    write_embodiment,
    write_recording,
)

ROOT = Path(__file__).parents[2]
OWN = str(ROOT / "examples/own_module.py")
SMALL = StudentAsk(picture=32, width=128)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """What lies on the users' disks. Not to be written to."""
    folder = tmp_path_factory.mktemp("users")
    write_act(folder / "act")
    write_diffusion(folder / "diffusion")
    write_recording(folder / "data", {"front": (48, 64), "wrist": (48, 64)})
    write_recording(folder / "data6", {"front": (64, 64), "camera2": (48, 64)}, 6, 6)
    write_recording(folder / "other", {"front": (48, 64), "wrist": (48, 64)}, state=6, episodes=1)
    write_embodiment(folder / "robot.toml", {"top": "front", "wrist": "wrist"})
    write_embodiment(folder / "robot6.toml", {"camera1": "front", "camera2": "camera2"}, JOINTS, JOINTS)
    own = ("shoulder", "elbow", "gripper")
    write_embodiment(folder / "own.toml", {"front": "front", "wrist": "wrist"}, own[:2], own, 20.0)
    write_embodiment(folder / "head.toml", {"front": "front"}, own[:2], own, 20.0)
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_frames():
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("PARITY_FRAMES", 8), ("CALIBRATION_FRAMES", 4), ("SEAM_FRAMES", 6)):
            patch.setattr(steps, name, count)
        yield


NUMBERS = itertools.count()


def asked(desk, teacher, data="data", robot="robot.toml", **more):
    where = teacher if isinstance(teacher, TeacherAsk) else TeacherAsk(str(desk / teacher))
    data = data if ":" in data else str(desk / data)
    request = Request(
        where, data, desk / f"{next(NUMBERS)}.bundle", desk / "work", "2s", 0, 1, examples=512, student=SMALL
    )
    return replace(request, embodiment=desk / robot, **more)


def made(request):
    """The bundle. A student is distilled in this process first, by the options that the launcher would give."""
    scene = steps.open_scene(request)
    work = request.work / steps.fingerprint(request, scene)
    for mode in steps.modes_of(request, scene.teacher):
        options = distillation_options(request, work, mode)
        distil(settings_of([*options, "--steps", "4", "--batch", "4"]))
    result = steps.compress(request)
    assert [v for v in (*verify_graphs(result.bundle), *verify_golden(result.bundle)) if not v.kept] == []
    return result


@pytest.fixture(scope="module")
def act(desk):
    """Distilled."""
    return made(asked(desk, "act"))


@pytest.fixture(scope="module")
def smolvla(desk):
    """Cut down and distilled."""
    return made(asked(desk, smolvla_teacher(), "data6", "robot6.toml"))


def smolvla_teacher(steps=None):
    return TeacherAsk(str(SMOLVLA / "policy"), SMOLVLA / "vlm", steps=steps)


def pictures(bundle, seed=0):
    rng = np.random.default_rng(seed)
    return {c.name: rng.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in bundle.manifest.cameras}


def answer(bundle, sentence=TASKS[0], seed=0, d=0, row=0.0):
    engine = PolicyEngine(bundle)
    engine.set_instruction(sentence)
    rows, channels = np.full((d, len(bundle.manifest.channels)), row, np.float32), len(bundle.manifest.state)
    return engine.infer(pictures(bundle, seed), np.zeros(channels, np.float32), rows)


def test_an_act_is_packed_as_it_is_and_knows_no_prefix(desk):
    bundle = made(asked(desk, "act", mode="direct", artifact=ArtifactAsk("static-qdq"))).bundle
    manifest = bundle.manifest
    assert (manifest.timing.horizon, manifest.timing.d_max, manifest.timing.period_s) == (6, 0, 0.1)
    assert [(c.name, c.height, c.width) for c in manifest.cameras] == [("top", 48, 64), ("wrist", 48, 64)]
    assert manifest.teacher.parameters == manifest.student.parameters
    assert bundle.noise is None
    assert np.abs(answer(bundle) - answer(bundle, seed=1)).max() > 1e-3  # it looks at the pictures


def test_an_act_is_distilled_to_a_student_that_knows_a_prefix(act):
    bundle, manifest = act.bundle, act.bundle.manifest
    assert manifest.timing.d_max == 1
    assert manifest.student.name == "one-pass-student"
    assert {c.name: c.fit for c in manifest.cameras} == {"top": "stretch", "wrist": "stretch"}
    assert manifest.recipe["camera_sources"] == {"top": "front", "wrist": "wrist"}
    seam = json.loads(bundle.read("evidence/seam.json"))
    assert seam["teacher_d_max"] == 0
    assert {row["depth"] for row in seam["rows"]} == {0, 1}
    committed = np.full((1, 4), 5.0, np.float32)
    np.testing.assert_allclose(answer(bundle, d=1, row=5.0)[:1], committed, atol=1e-4)


def test_the_units_of_the_embodiment_file_are_those_of_the_channels(act):
    assert [(c.name, c.unit, c.minimum) for c in act.bundle.manifest.channels] == [
        (n, "deg", -90.0) for n in JOINTS[:4]
    ]


def test_it_says_how_many_products_became_int8(act):
    assert any("products with a weight in head are int8" in note for note in act.notes)
    assert act.bundle.manifest.recipe["notes"] == list(act.notes)


def test_a_diffusion_policy_of_fewer_steps_is_distilled_with_its_two_observations(desk):
    teacher = TeacherAsk(str(desk / "diffusion"), steps=2)
    manifest = made(asked(desk, teacher, artifact=ArtifactAsk("fp16"))).bundle.manifest
    assert (manifest.artifact, manifest.observations, manifest.timing.d_max) == ("fp16", 2, 1)
    assert manifest.stages[-1].times == ()


def test_a_smolvla_becomes_its_pruned_student_of_one_step(smolvla):
    manifest = smolvla.bundle.manifest
    assert [stage.name for stage in manifest.stages] == ["vision", "prefix", "head"]
    assert manifest.student.parameters < 0.8 * manifest.teacher.parameters
    assert (manifest.timing.d_max, manifest.text.kind) == (1, "tokens")
    assert [c.fit for c in manifest.cameras] == ["pad", "pad"]
    assert json.loads(smolvla.bundle.read("evidence/seam.json"))["rows"]


def test_a_smolvla_is_packed_as_it_is_with_all_its_flow_steps(desk):
    bundle = made(asked(desk, smolvla_teacher(4), "data6", "robot6.toml", mode="direct")).bundle
    assert bundle.manifest.stages[-1].times == pytest.approx((1, 0.75, 0.5, 0.25))
    assert np.abs(answer(bundle, TASKS[0]) - answer(bundle, TASKS[1])).max() > 1e-6


def test_the_bundle_of_a_smolvla_hears_new_sentences_by_its_tokenizer(smolvla):
    files = {path.name for path in (smolvla.bundle.path / "text").iterdir()}
    assert files == {"tokens.json", "tokenizer.json"}
    assert json.loads(smolvla.bundle.read("text/tokens.json"))["suffix"] == "\n"  # as it was trained
    new = "lift the red cube"
    assert new not in TASKS
    chunks = [answer(smolvla.bundle, sentence) for sentence in (*TASKS, new)]
    assert all(np.abs(a - b).max() > 1e-7 for a, b in itertools.pairwise(chunks))


def test_an_own_module_and_its_controls_are_compared(desk):
    request = asked(desk, TeacherAsk(f"{OWN}:policy"), f"{OWN}:recording", "own.toml", controls=True)
    result = made(replace(request, artifact=ArtifactAsk("trt")))
    assert [row.mode for row in result.controls] == ["distil", "demos-only", "without-z"]
    assert json.loads(result.bundle.read("evidence/controls.json"))["rows"][1]["mode"] == "demos-only"
    assert any("none is held out" in note for note in result.notes)  # six episodes


def test_a_checkpoint_file_with_a_remembering_head_is_distilled(desk, monkeypatch):
    monkeypatch.chdir(desk)
    own_checkpoint.write_random(Path("out/robovlms"))
    teacher = TeacherAsk(str(ROOT / "examples/own_checkpoint.py") + ":policy")
    manifest = made(
        asked(desk, teacher, f"{OWN}:recording", "head.toml", artifact=ArtifactAsk("nbits8"))
    ).bundle.manifest
    assert (manifest.observations, manifest.timing.horizon) == (4, 10)


BROKEN = """
import sys
sys.path.insert(0, {root!r})
from examples.own_module import OwnPolicy

class Short(OwnPolicy):
    def decode(self, *given):
        return super().decode(*given)[:, :5]

def short():
    return Short()

def missing():
    return {{}}["weights"]
"""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("short", "shape (2, 5, 3)"),
        ("missing", "KeyError: 'weights' (mine.py, line 14)"),
        ("other", "no such function"),
    ],
)
def test_what_is_wrong_in_an_own_file_is_told_as_that(desk, tmp_path, function, told):
    (tmp_path / "mine.py").write_text(BROKEN.format(root=str(ROOT)))
    teacher = TeacherAsk(f"{tmp_path / 'mine.py'}:{function}")
    with pytest.raises(BadInput) as caught:
        steps.open_scene(asked(desk, teacher, f"{OWN}:recording", "own.toml"))
    assert told in str(caught.value)


@pytest.mark.parametrize("options", [{"precision": "nf4"}, {"steps": 2}])
def test_options_of_policy_folders_are_refused_for_an_own_module(desk, options):
    teacher = TeacherAsk(f"{OWN}:policy", **options)
    with pytest.raises(Usage, match="the function decides"):
        steps.open_scene(asked(desk, teacher, f"{OWN}:recording", "own.toml"))


@pytest.mark.parametrize(("ask", "told"), [({"form": "pruned"}, "a method `pruned`"), ({"d_max": 40}, "1 to 11 ticks")])
def test_a_student_that_is_not_possible_is_refused_before_anything_is_trained(desk, tmp_path, ask, told):
    request = asked(desk, TeacherAsk(f"{OWN}:policy"), f"{OWN}:recording", "own.toml", student=StudentAsk(**ask))
    with pytest.raises((Refused, Usage), match=told):
        steps.compress(replace(request, work=tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_a_search_without_enough_held_out_frames_is_refused_before_anything_is_trained(desk, tmp_path):
    search = ArtifactAsk(search=True)
    for data, got in ((f"{OWN}:recording", "0 in 6 episodes"), ("data", "30 in 12 episodes")):
        teacher = TeacherAsk(f"{OWN}:policy") if ":" in data else TeacherAsk(str(desk / "act"))
        request = asked(desk, teacher, data, "own.toml" if ":" in data else "robot.toml", artifact=search)
        with pytest.raises(Unsound, match=got):
            steps.compress(replace(request, work=tmp_path / "work"))
    assert not (tmp_path / "work" / "x").exists()
    steps.require_enough_to_judge(steps.open_data(f"{OWN}:long_recording", tmp_path))


def test_an_error_budget_that_cannot_be_read_is_refused_before_anything_is_trained(desk, tmp_path):
    search = ArtifactAsk(search=True, error_budget="knee=1")
    request = asked(desk, TeacherAsk(f"{OWN}:policy"), f"{OWN}:long_recording", "own.toml", artifact=search)
    with pytest.raises(Usage, match="knee=1"):
        steps.compress(replace(request, work=tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_options_of_the_search_are_refused_without_it(desk):
    for ask in (ArtifactAsk(error_budget="flips=1"), ArtifactAsk(search_budget_s=60.0)):
        with pytest.raises(Usage, match="together with --search"):
            steps.compress(asked(desk, TeacherAsk(f"{OWN}:policy"), f"{OWN}:recording", "own.toml", artifact=ask))


def test_frames_to_judge_on_are_not_taken_twice():
    start = np.arange(4000) // 100 * 100
    rng = np.random.default_rng(0)
    assert len(np.unique(pick(rng, start, 320, held=True))) == 320
    assert len(pick(rng, start, 500, held=True)) == 500  # more than there are


def nan(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.action_head.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_deviation(folder):
    path = next(folder.glob("policy_preprocessor_step_*.safetensors"))
    stats = load_file(path)
    stats["observation.state.std"][2] = 0
    save_file(stats, path)


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def hole(folder):
    path = next(folder.glob("data/**/*.parquet"))
    path.unlink()


def typed(capsys, desk, teacher="act", data="data", robot="robot.toml", options=()):
    """Exit code and message of the command; nothing may be left."""
    out, work = desk / "bad" / "x.bundle", desk / "bad" / "work"
    robot = [] if robot is None else ["--embodiment", str(desk / robot)]
    places = ["--data", str(desk / data), "-o", str(out), "--work", str(work), *robot]
    code = run_command(["compress", str(desk / teacher), *places, "--mode", "direct", "--json", *options])
    told = capsys.readouterr()
    assert told.out == ""
    assert not out.exists()
    assert told.err.count("expected:") == 1
    return code, told.err


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (nan, "NaN or infinity in model.safetensors"),
        (pickle_only, "a pickle, which may run code"),
        (truncated, "model.safetensors"),
        (no_deviation, "observation.state"),
    ],
)
def test_a_damaged_policy_folder_is_one_clear_error(desk, capsys, tmp_path, damage, told):
    shutil.copytree(desk / "act", tmp_path / "act")
    damage(tmp_path / "act")
    code, error = typed(capsys, desk, tmp_path / "act")
    assert (code, told in error) == (4, True), error


def test_a_dataset_with_a_hole_is_refused(desk, capsys, tmp_path):
    shutil.copytree(desk / "data", tmp_path / "data")
    hole(tmp_path / "data")
    code, error = typed(capsys, desk, data=tmp_path / "data")
    assert code == 4, error


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"data": "other"}, 4, "another embodiment"),
        ({"robot": None}, 4, "--draft-embodiment"),
        ({"robot": "nowhere.toml"}, 4, "no such file"),
        ({"teacher": SMOLVLA / "policy", "data": "data6", "robot": "robot6.toml"}, 4, "tokenizer"),
        ({"options": ["--controls"]}, 2, "--mode distil"),
        ({"options": ["--teacher-precision", "nf4"]}, 2, "precision for act"),
        ({"options": ["--teacher-steps", "3"]}, 2, "steps for act"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(desk, capsys, changes, code, told):
    got, error = typed(capsys, desk, **changes)
    assert (got, told in error) == (code, True), error


def test_a_draft_has_the_cameras_of_the_policy_and_is_refused_until_filled_in(desk, capsys, tmp_path):
    draft = tmp_path / "draft.toml"
    places = ["--data", str(desk / "data"), "--work", str(tmp_path / "work"), "--draft-embodiment", str(draft)]
    assert run_command(["compress", str(desk / "act"), *places]) == 0
    text = draft.read_text()
    assert FILL_IN in text
    assert 'name = "top"\nsource = "none"' in text
    assert 'name = "wrist"\nsource = "wrist"' in text
    capsys.readouterr()
    code, error = typed(capsys, desk, robot=draft)
    assert (code, draft.name in error) == (4, True), error


def test_a_camera_that_the_robot_does_not_have_is_told(desk, capsys, tmp_path):
    robot = write_embodiment(tmp_path / "robot.toml", {"top": "none", "wrist": "wrist"})
    code, error = typed(capsys, desk, robot=robot)
    assert (code, "top too" in error) == (4, True), error
