"""The comparison: which figures are asked, when they are kept, and its policies on a real small bundle."""

from dataclasses import replace

import numpy as np
import pytest

from bench.compare import (
    Form,
    Model,
    bundle_model,
    compare,
    figures,
    forms,
    our_teacher,
    policy,
    result,
    show,
    teacher_policy,
    wide_model,
)
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.interleaved import Interleaved
from export.data.interface import Camera
from export.data.load import open_dataset
from export.data.writer import Episode, Layout, LeRobotWriter
from export.parity.recorded import golden_feeds
from export.search.error import ActionError, ChannelError, default_budget
from tests.export.tiny import tiny_teacher, write_teacher
from tests.rich_bundle import write_rich_bundle
from tests.tiny_bundle import write_tiny_bundle

SMALL = Model("bundle", 3_300_000, {}, {}, {}, (), "cpu-dynamic-s8", "as shipped")
LARGE = replace(SMALL, name="width-384", parameters=4_700_000, note="random weights")


def form(name, share):
    error = ActionError(320, (ChannelError("x", "m", 0.0, 0.001, 0.002),), 0.0, 0.0)
    return Form(name, None, {}, "int8", error, share)


def run_of(**p50_ms):
    ns = {name.replace("__", "/"): np.full(40, int(ms * 1e6)) for name, ms in p50_ms.items()}
    return Interleaved(ns, 40, 1.0, 0.0)


RUN = run_of(bundle__fp32=2.1, bundle__openvino=1.2, bundle__int8=1.0, teacher_eager=19.0)


def kept(shares, run=RUN):
    asked = figures([SMALL], teacher=True)
    found = [form(f"bundle/{name}", share) for name, share in shares.items()]
    lines = result(run, asked, [SMALL], found, default_budget(()))["figures"]
    return {name: line["kept"] for name, line in lines.items()}


def test_goals_depend_on_the_size_of_the_student():
    goals = {f.name: f.goal for f in figures([SMALL, LARGE], teacher=True)}
    assert goals == {
        "int8_vs_ort_fp32": 2.0,
        "int8_vs_openvino": 1.0,
        "int8_vs_ort_fp32_4m": 2.2,
        "int8_vs_openvino_4m": 1.0,
        "policy_vs_teacher_eager": 20.0,
    }


def test_a_figure_is_kept_where_its_interval_reaches_the_goal():
    shares = {"fp32": 0.0, "int8": 0.9, "openvino": 0.3}
    assert kept(shares) == {"int8_vs_ort_fp32": True, "int8_vs_openvino": True, "policy_vs_teacher_eager": False}


@pytest.mark.parametrize("outside", ["int8", "openvino"])
def test_beating_openvino_counts_only_with_both_errors_inside(outside):
    shares = {"fp32": 0.0, "int8": 0.9, "openvino": 0.3, outside: 1.1}
    assert not kept(shares)["int8_vs_openvino"]
    assert kept(shares)["int8_vs_ort_fp32"]


def test_the_tables_name_every_policy(capsys):
    found = [form(f"bundle/{name}", 0.5) for name in ("fp32", "int8", "openvino")]
    show(result(RUN, figures([SMALL], teacher=True), [SMALL], found, default_budget(())))
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("bundle/int8", "teacher_eager", "x 0.001 m", "BROKEN", "3,300,000"))


def random_frames(bundle, count):
    """Golden feeds with random numbers in the place of what was observed."""
    rng, feeds = np.random.default_rng(0), golden_feeds(bundle)
    made = {stage_output for stage in bundle.manifest.stages for stage_output in (t.name for t in stage.outputs)}
    raw = {name: value for name, value in feeds.items() if name not in made and value is not None}
    return [
        {**raw, **{name: rng.standard_normal(raw[name].shape).astype(np.float32) for name in ("image", "state")}}
        for _ in range(count)
    ]


def chunks_of_every_form(bundle):
    """The forms, the chunk of each, and what the engine answers to the same raw bytes."""
    frames = random_frames(bundle, 6)
    found = forms(bundle_model(bundle), bundle, (frames, frames[:4]), default_budget(bundle.manifest.channels))
    golden, engine = next(iter(bundle.golden.values())), PolicyEngine(bundle)
    engine.set_instruction(golden.instruction)
    expected = engine.infer(golden.images, golden.state, golden.prefix)
    return found, [np.array(policy(one, bundle)())[0] for one in found], expected


def test_every_form_of_a_real_bundle_answers_as_the_engine_does(tiny_bundle_path):
    found, got, expected = chunks_of_every_form(open_bundle(tiny_bundle_path))
    assert [f.name for f in found] == [f"bundle/{n}" for n in ("fp32", "int8", "openvino", "openvino-nncf-int8")]
    assert found[0].share == 0.0
    assert found[1].precision == "fp32"  # what the tiny bundle ships, whatever the row is called
    for one in got[:3]:
        assert one == pytest.approx(expected, abs=0.05)


def test_a_flow_of_two_cameras_and_past_observations_answers_as_the_engine_does(tmp_path):
    found, got, expected = chunks_of_every_form(write_rich_bundle(tmp_path / "rich.bundle", float_off=0.0))
    assert found[0].share == 0.0
    for one in got[:3]:
        assert one == pytest.approx(expected, abs=0.05)


def test_a_bundle_without_fp32_graphs_cannot_be_compared(tmp_path):
    with pytest.raises(BadInput, match="FP32 graphs"):
        bundle_model(write_rich_bundle(tmp_path / "rich.bundle"))


def test_the_teacher_answers_a_chunk_in_eager_torch(tiny_bundle_path, tmp_path):
    chunk = teacher_policy(tiny_teacher(tmp_path / "teacher"), open_bundle(tiny_bundle_path))()
    assert chunk.shape == (32, 4)


SIZES = {"vocabulary": 9, "picture_height": 32, "picture_width": 32}


def one_pass(path, **recipe):
    student = {"name": "one-pass-student", "sha256": "0" * 64, "parameters": 1}
    return write_tiny_bundle(path, student=student, recipe=recipe)


def test_a_one_pass_student_is_widened_above_four_million_parameters(tmp_path):
    wide = wide_model(one_pass(tmp_path / "x.bundle", student=SIZES))
    assert wide.parameters > 4e6
    assert (list(wide.once), list(wide.floats), list(wide.int8)) == (["text"], ["vision", "head"], ["vision", "head"])
    assert len(wide.int8["head"]) < 0.5 * len(wide.floats["head"])


def test_a_bundle_that_does_not_say_its_sizes_cannot_be_widened(tmp_path):
    with pytest.raises(BadInput, match="sizes of its student"):
        wide_model(one_pass(tmp_path / "x.bundle", student={"wings": 2}))


def test_another_kind_of_student_is_not_widened(tiny_bundle_path):
    assert wide_model(open_bundle(tiny_bundle_path)) is None


def test_a_bundle_of_another_teacher_is_compared_without_it(tmp_path, recorded):
    found = compare(open_bundle(recorded[0]), recorded[1], tmp_path / "no teacher", "", 20, 60.0)
    assert "teacher_eager" not in found["summary"]
    assert set(found["figures"]) == {"int8_vs_ort_fp32", "int8_vs_openvino"}
    assert found["summary"].keys() == found["forms"].keys()
    show(found)


def test_a_bundle_of_our_teacher_is_compared_with_it(tmp_path, recorded):
    sha256 = tiny_teacher(tmp_path / "teacher").sha256
    bundle = of_our_teacher(tmp_path / "ours.bundle", sha256)
    found = compare(bundle, recorded[1], tmp_path / "teacher", "", 20, 60.0)
    assert found["figures"]["policy_vs_teacher_eager"]["goal"] == 20.0
    assert "teacher_eager" in found["summary"]


def test_another_teacher_than_that_of_the_bundle_is_refused(tmp_path):
    bundle = of_our_teacher(tmp_path / "ours.bundle", "0" * 64)
    with pytest.raises(BadInput, match=r"the bundle's, sha256 0{16}"):
        our_teacher(write_teacher(tmp_path / "teacher"), bundle)


def of_our_teacher(path, sha256):
    return write_tiny_bundle(path, teacher={"name": "flow-teacher", "sha256": sha256, "parameters": 1})


@pytest.fixture(scope="module")
def recorded(tiny_bundle_path, tmp_path_factory):
    """The tiny bundle, and a dataset of its robot: one episode of 400 ticks."""
    folder, names, rng = tmp_path_factory.mktemp("data") / "made", ("x", "y", "z", "gripper"), np.random.default_rng(0)
    rows = rng.uniform(-0.01, 0.01, (400, 4)).astype(np.float32)
    pictures = {"corner": rng.integers(0, 256, (400, 96, 96, 3), dtype=np.uint8)}
    layout = Layout(80, names, names, (Camera("corner", 96, 96),), video=False)
    with LeRobotWriter(folder, layout) as writer:
        writer.add(Episode(rows, rows, pictures, "open the drawer"))
    return tiny_bundle_path, open_dataset(folder, folder, progress=False)
