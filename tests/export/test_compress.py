"""`edgevla compress` as it is typed, on recorded demonstrations: killed, interrupted, and then to the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from edgevla.bundle import open_bundle
from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from export.compress import compress, fingerprint, open_scene
from export.launch import run_distillation
from export.request import MODES, Request, TeacherAsk
from export.students.interface import load_student
from export.teachers.folder import load_teacher
from export.teachers.noise import bundle_noise

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0  # a safety net for a busy machine, not a measurement
BUDGET, EXAMPLES, SEED = "4s", 512, 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """One episode of every task and of every half-way instruction."""
    folder = tmp_path_factory.mktemp("recorded")
    arguments = ["--episodes", "1", "--half-way", "1", "--seed", "5", "--workers", "2"]
    command = [sys.executable, "-m", "examples.metaworld.demos", "-o", str(folder), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    return folder


class Compress:
    """One call of `edgevla compress`, its processes found again by a mark in their environment."""

    def __init__(self, teacher, data, folder, processes=1):
        self.mark = f"EDGEVLA_TEST_MARK={uuid.uuid4().hex}"
        key, value = self.mark.split("=")
        options = ["--budget", BUDGET, "--examples", str(EXAMPLES), "--seed", str(SEED), "--json"]
        options += ["--processes", str(processes)]
        places = ["--data", str(data), "-o", str(folder / "out.bundle"), "--work", str(folder / "work")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgevla.cli.main", "compress", str(teacher), *places, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, key: value, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            start_new_session=True,
        )

    def others(self):
        """Command lines of the processes of this call that are still there."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
        return found

    def wait_until(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.1)

    def end(self, number=None):
        """Sends the signal, if any, and waits; returns exit code, stdout and stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while self.others() and time.monotonic() < until:
            time.sleep(0.1)
        return self.process.returncode, out, errors


@pytest.fixture(scope="module")
def story(recorded, wide_teacher_path, tmp_path_factory):
    """Killed when the targets are there, interrupted in training, and then run to its end."""
    folder = tmp_path_factory.mktemp("compress")

    def shards():
        """Those that count: a manifest lists them."""
        listed = "".join(path.read_text() for path in folder.glob("work/*/targets/manifest.json"))
        found = folder.glob("work/*/targets/rows-*")
        return {path.name: path.stat().st_mtime_ns for path in found if path.name in listed}

    told = {"folder": folder}
    first = Compress(wide_teacher_path, recorded, folder)
    first.wait_until(shards)
    told["killed"] = (*first.end(signal.SIGKILL), first.others(), shards(), (folder / "out.bundle").exists())
    second = Compress(wide_teacher_path, recorded, folder)
    launcher_and_worker = 2
    second.wait_until(lambda: sum(b"export.distill.student" in line for line in second.others()) == launcher_and_worker)
    told["interrupted"] = (*second.end(signal.SIGINT), second.others(), shards(), (folder / "out.bundle").exists())
    third = Compress(wide_teacher_path, recorded, folder, processes=2)
    told["finished"] = (*third.end(), third.others(), shards(), (folder / "out.bundle").exists())
    return told


@pytest.fixture(scope="module")
def bundle(story):
    assert story["finished"][0] == 0, story["finished"][2]
    return open_bundle(story["folder"] / "out.bundle")


def test_a_killed_compress_leaves_no_process_and_no_bundle(story):
    code, _, _, others, shards, written = story["killed"]
    assert code == -signal.SIGKILL
    assert others == []
    assert len(shards) == 1
    assert not written


def test_ctrl_c_ends_every_training_process_without_a_traceback(story):
    code, out, errors, others, _, written = story["interrupted"]
    assert code == 130
    assert others == []
    assert "Traceback" not in errors
    assert out == ""
    assert not written


def test_the_next_call_takes_up_the_targets_that_were_made(story):
    code, _, errors, others, shards, written = story["finished"]
    assert code == 0, errors
    assert others == []
    assert shards == story["killed"][4]  # the same files, not written again
    assert written
    assert sorted(path.name for path in story["folder"].iterdir()) == ["out.bundle", "work"]


def test_it_tells_the_bundle_its_parity_and_the_time_of_each_step(story, bundle):
    told = json.loads(story["finished"][1])
    assert told["bundle"] == str(bundle.path)
    assert set(told["steps_s"]) == {"distil", "export"}
    assert told["peak_mb"] > 100
    assert any("SmoothQuant" in note for note in told["notes"])
    assert {(row["format"], row["stage"]) for row in told["parity"]} == {
        (form, stage) for form in ("fp32", "cpu-dynamic-s8") for stage in ("text", "vision", "head", "whole")
    }
    assert all(row["relative_rms"] <= 1e-4 for row in told["parity"] if row["format"] == "fp32")
    assert json.loads(bundle.read("evidence/parity.json"))["rows"] == told["parity"]


def test_the_bundle_says_what_was_made_of_what(bundle, wide_teacher_path):
    manifest, teacher = bundle.manifest, load_teacher(wide_teacher_path)
    assert (manifest.artifact, manifest.arm, manifest.target) == ("cpu-dynamic-s8", "metaworld-sawyer", "host")
    assert (manifest.timing.horizon, manifest.timing.d_max, manifest.timing.period_s) == (32, 8, 0.0125)
    assert manifest.teacher.sha256 == teacher.sha256
    assert manifest.teacher.parameters == teacher.parameters
    assert 3e6 < manifest.student.parameters < 4e6
    assert bundle.total_bytes("model/") < 0.5 * bundle.total_bytes("float/")
    assert (bundle.noise == bundle_noise(teacher, SEED)).all()
    assert bundle.stats.state_offset.tolist() == teacher.state_mean.tolist()
    assert bundle.words.tokens == teacher.vocabulary.words


def test_its_graphs_and_golden_vectors_hold(bundle):
    verdicts = [*verify_graphs(bundle), *verify_golden(bundle)]
    assert len(verdicts) == 6 + 6
    assert [v for v in verdicts if not v.kept] == []


def test_golden_vectors_are_recorded_frames_with_their_raw_state(bundle, recorded):
    frames = np.concatenate([np.load(path)["image"] for path in sorted(recorded.glob("*.npz"))])
    states = np.concatenate([np.load(path)["state"] for path in sorted(recorded.glob("*.npz"))])
    for golden in bundle.golden.values():
        assert (frames == golden.images["corner"]).all((1, 2, 3)).any()
        assert (states == golden.state).all(1).any()
    assert len({len(golden.prefix) for golden in bundle.golden.values()}) > 1


def test_int8_and_float_graphs_answer_alike_but_not_the_same(bundle):
    golden = next(iter(bundle.golden.values()))
    chunks = []
    for float_model in (False, True):
        engine = PolicyEngine(bundle, float_model=float_model)
        engine.set_instruction(golden.instruction)
        chunks.append(engine.infer(golden.images, golden.state, golden.prefix))
    assert 0 < np.abs(chunks[0] - chunks[1]).max() < 0.2


def test_a_finished_distillation_is_not_done_again(story, recorded, wide_teacher_path):
    (student,) = story["folder"].glob("work/*/distil/student.safetensors")
    before = student.stat().st_mtime_ns
    work = student.parents[1]
    request = asked(wide_teacher_path, recorded, budget=BUDGET, seed=SEED, work=work.parent, examples=EXAMPLES)
    assert work.name == named(request)
    run_distillation(request, work, "distil")
    assert student.stat().st_mtime_ns == before


def asked(teacher_path, data, budget="7m", seed=0, work=Path("w"), out=Path("x.bundle"), **more):
    return Request(TeacherAsk(str(teacher_path)), str(data), Path(out), Path(work), budget, seed, 1, **more)


def named(request):
    return fingerprint(request, open_scene(request))


def test_another_seed_budget_size_or_noise_is_another_work_folder(counting_path, wide_teacher_path, tmp_path):
    base = {"budget": "7m", "seed": 0, "examples": 512}
    changes = ({}, {"budget": "8m"}, {"seed": 1}, {"examples": 1024})
    names = {named(asked(wide_teacher_path, counting_path, **{**base, **change})) for change in changes}
    other = shutil.copytree(wide_teacher_path, tmp_path / "other")
    meta = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**meta, "noise": {"seed": 9, "scale": 0.5}}))
    names.add(named(asked(other, counting_path, **base)))
    assert len(names) == 5


def test_other_data_of_the_same_sizes_is_another_work_folder(counting_path, wide_teacher_path, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(counting_path, copy)
    names = [named(asked(wide_teacher_path, folder)) for folder in (counting_path, copy)]
    assert names[0] == names[1]  # a copy is the same data, wherever and whenever it was made
    shard, meta = copy / "drawer-open-v3.npz", copy / "dataset.json"
    size = shard.stat().st_size
    with np.load(shard) as archive:
        arrays = dict(archive)
    arrays["expert"][7, 0] += 1
    np.savez(shard, **arrays)
    assert shard.stat().st_size == size
    names.append(named(asked(wide_teacher_path, copy)))
    meta.write_text(meta.read_text().replace("pull the drawer open", "push the drawer open", 1))
    names.append(named(asked(wide_teacher_path, copy)))
    assert len(set(names)) == 3


def test_controls_share_the_work_folder_and_so_the_targets_of_the_distillation(counting_path, wide_teacher_path):
    assert len({named(asked(wide_teacher_path, counting_path, mode=mode)) for mode in MODES}) == 1


def test_a_destination_in_the_way_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "x.bundle").mkdir()
    for name in ("teacher/config.json", "teacher/model.safetensors", "data/dataset.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no teacher and no data: loading would fail")
    with pytest.raises(BadInput, match="in the way"):
        compress(asked(tmp_path / "teacher", tmp_path / "data", work=tmp_path / "work", out=tmp_path / "x.bundle"))


def test_a_dataset_with_other_words_than_the_teacher_s_is_refused(recorded, wide_teacher_path, tmp_path):
    for path in recorded.iterdir():
        os.link(path, tmp_path / path.name) if path.suffix == ".npz" else None
    meta = json.loads((recorded / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**meta, "vocabulary": [*meta["vocabulary"][1:], "zebra"]}))
    request = asked(wide_teacher_path, tmp_path, work=tmp_path / "work", out=tmp_path / "x.bundle")
    with pytest.raises(BadInput, match="zebra"):
        compress(request)
    assert not (tmp_path / "work").exists()


def test_the_trained_student_is_loaded_ready_to_infer(story):
    (student,) = story["folder"].glob("work/*/distil/student.safetensors")
    saved = load_student(student)
    assert not saved.student.training
    assert len(saved.sha256) == 64


def test_a_truncated_student_is_refused(story, tmp_path):
    (student,) = story["folder"].glob("work/*/distil/student.safetensors")
    path = tmp_path / "student.safetensors"
    for keep in (0, 100, 100_000):
        path.write_bytes(student.read_bytes()[:keep])
        with pytest.raises(BadInput, match="a whole student"):
            load_student(path)
