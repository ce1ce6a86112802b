"""The comparison: which figures are asked, when they are kept, and its policies on a real small bundle."""

import numpy as np
import pytest

from bench.compare import Form, Model, bundle_model, figures, forms, policy, result, show, teacher_policy, wide_model
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.interleaved import Interleaved
from export.search.error import ActionError, ChannelError, default_budget
from tests.export.tiny import write_teacher

SMALL, LARGE = Model("bundle", 3_300_000, {}, {}, ""), Model("width-384", 4_700_000, {}, {}, "random weights")


def form(name, share):
    error = ActionError(320, (ChannelError("x", "m", 0.0, 0.001, 0.002),), 0.0, 0.0)
    return Form(name, None, None, "int8", error, share)


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
    rng, shapes = np.random.default_rng(0), {}
    for stage in bundle.manifest.float_stages:
        shapes |= {t.name: t.shape for t in stage.inputs if t.name not in ("vision", "text")}
    frames = []
    for _ in range(count):
        feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        mask = np.zeros(shapes["prefix_mask"], np.float32)
        frames.append({**feeds, "tokens": np.ones(shapes["tokens"], np.int64), "prefix_mask": mask})
    return frames


def test_every_form_of_a_real_bundle_answers_as_the_engine_does(tiny_bundle_path):
    bundle = open_bundle(tiny_bundle_path)
    frames = random_frames(bundle, 6)
    found = forms(bundle_model(bundle), bundle, (frames, frames[:4]), default_budget(bundle.manifest.channels))
    assert [f.name for f in found] == [f"bundle/{n}" for n in ("fp32", "int8", "openvino", "openvino-nncf-int8")]
    assert found[0].share == 0.0
    golden, engine = next(iter(bundle.golden.values())), PolicyEngine(bundle)
    engine.set_instruction(golden.instruction)
    expected = engine.infer(golden.image, golden.state, np.zeros((2, 4), np.float32))
    for one in found[:3]:
        assert np.array(policy(one, bundle)())[0] == pytest.approx(expected, abs=0.05)


def test_the_teacher_answers_a_chunk_in_eager_torch(tiny_bundle_path, tmp_path):
    chunk = teacher_policy(write_teacher(tmp_path / "teacher"), open_bundle(tiny_bundle_path))()
    assert chunk.shape == (32, 4)


def test_a_bundle_that_does_not_say_its_sizes_cannot_be_widened(tiny_bundle_path):
    with pytest.raises(BadInput, match="sizes of its student"):
        wide_model(open_bundle(tiny_bundle_path))
