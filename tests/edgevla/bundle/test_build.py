"""A policy bundle becomes a release: complete, signed, the same bytes from the same inputs, or nothing at all."""

import functools
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import edgevla.bundle.build as builder
import profiles
from edgevla.bundle import open_bundle
from edgevla.cli.main import run_command
from edgevla.errors import BadInput, Refused, Usage
from edgevla.install import provision
from edgevla.trust import archive
from edgevla.trust.keys import generate, load_public
from edgevla.trust.store import pinned
from profiles.model import GpuWheel
from tests.tiny_release import make_workshop, this_computer


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_bundle_path):
    return make_workshop(tmp_path_factory.mktemp("workshop"), tiny_bundle_path)


@pytest.fixture(scope="module")
def built(shop, tmp_path_factory):
    return shop.build(tmp_path_factory.mktemp("built") / "tiny.bundle", counter=3)


@pytest.fixture
def store(shop):
    return pinned([load_public(shop.public)])


def test_the_same_inputs_give_the_same_bytes(shop, tmp_path):
    first, second = shop.build(tmp_path / "a.tar.zst"), shop.build(tmp_path / "b.tar.zst")
    assert first.id == second.id
    assert first.path.read_bytes() == second.path.read_bytes()


def test_folder_and_archive_are_the_same_release(shop, built, store, tmp_path):
    packed = shop.build(tmp_path / "tiny.tar.zst", counter=3)
    assert packed.id == built.id
    unpacked = tmp_path / "tiny.bundle"
    assert archive.unpack(packed.path, unpacked, store.check).id == built.id
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["tiny.bundle", "tiny.tar.zst"]
    difference = subprocess.run(["diff", "-r", unpacked, built.path], capture_output=True, text=True, timeout=60)
    assert difference.stdout == ""


def test_the_table_says_what_a_robot_installs(built):
    release = open_bundle(built.path).manifest.release
    assert release is not None
    here = this_computer()
    assert (release.counter, release.target, release.arch, release.python) == (3, "host", here.arch, here.python)
    names = [path.split("/")[-1].split("-")[0] for path in release.wheels]
    assert names[-1] == "edgevla"
    assert {"numpy", "onnxruntime", "opencv_python_headless"} <= set(names)
    assert set(release.agent_wheels) < set(release.wheels)
    agent = [path.split("/")[-1].split("-")[0] for path in release.agent_wheels]
    assert {"cryptography", "zstandard", "cffi"} < set(agent)
    assert agent[-1] == "edgevla"
    assert not {"numpy", "onnxruntime"} & set(agent)
    assert not release.needs_gpu_wheel


def test_everything_that_a_robot_needs_is_in_it(built):
    bundle = open_bundle(built.path)
    release, files = bundle.manifest.release, set(bundle.manifest.files)
    assert release is not None
    assert {"profiles/target.toml", "profiles/arm.toml", "sbom.cdx.json", "runtime/provision.py"} <= files
    assert "runtime/units/edgevla.service" in files
    assert set(release.wheels) == {name for name in files if name.startswith("runtime/wheels/")}
    assert profiles.load_target(built.path / "profiles/target.toml") == this_computer()
    assert profiles.load_arm(built.path / "profiles/arm.toml") == profiles.load_arm("metaworld-sawyer")
    assert (built.path / "runtime/provision.py").read_bytes() == Path(provision.__file__).read_bytes()


def test_the_bill_of_materials_has_each_wheel_and_each_graph(built):
    bundle = open_bundle(built.path)
    assert bundle.manifest.release is not None
    parts = {part["name"]: part for part in json.loads((built.path / "sbom.cdx.json").read_text())["components"]}
    files = {part["properties"][0]["value"] for part in parts.values() if "purl" in part}
    assert files == {path.split("/")[-1] for path in bundle.manifest.release.wheels}
    for name, entry in bundle.manifest.files.items():
        if name.endswith(".onnx"):
            assert parts[name]["hashes"][0]["content"] == entry.sha256


def test_it_is_signed_by_the_key_that_was_given(shop, built, store):
    bundle = open_bundle(built.path)
    assert store.judge(bundle.head.manifest, bundle.head.signature) == shop.key.public.id == built.signed_by


def test_without_a_key_it_is_whole_and_unsigned(shop, tmp_path):
    unsigned = builder.build(shop.recipe(), tmp_path / "x.bundle", None)
    assert unsigned.signed_by is None
    assert open_bundle(unsigned.path).head.signature is None


def test_opencv_may_stay_away(shop, tmp_path):
    names = {wheel.name for wheel in shop.build(tmp_path / "x.bundle", opencv=False).wheels}
    assert "opencv-python-headless" not in names


def test_a_trust_update_comes_along_and_is_judged_before(shop, store, tmp_path):
    next_key = generate(tmp_path / "next.key", tmp_path / "next.pub")
    update = tmp_path / "trust.json"
    update.write_bytes(store.changed([next_key], []).to_bytes())
    made = shop.build(tmp_path / "x.bundle", trust=update)
    assert (made.path / "trust/trust.json").read_bytes() == update.read_bytes()
    update.write_bytes(store.to_bytes())
    with pytest.raises(BadInput, match="is no update"):
        shop.build(tmp_path / "y.bundle", trust=update)
    update.write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"trust\.json"):
        shop.build(tmp_path / "y.bundle", trust=update)
    assert not (tmp_path / "y.bundle").exists()


@pytest.mark.parametrize(
    ("output", "changes", "error", "match"),
    [
        ("x.zip", {}, Usage, r"NAME\.tar\.zst, or a folder NAME\.bundle"),
        ("none/x.tar.zst", {}, Usage, "mkdir -p"),
        (
            "x.tar.zst",
            {"counter": 0},
            Usage,
            r"--counter cannot be used(?s:.*)a whole number in \[1, 9007199254740991\]",
        ),
        ("x.tar.zst", {"counter": 2**53}, Usage, "--counter cannot be used"),
        ("x.tar.zst", {"arm": profiles.load_arm("so101")}, Refused, "do not fit"),
        ("x.tar.zst", {"target": replace(this_computer(), latency_budget_s=5.0)}, Refused, "cannot hold"),
        ("x.tar.zst", {"target": replace(this_computer(), python="")}, Refused, "no release can be built"),
        ("x.tar.zst", {"target": replace(this_computer(), python="3.9")}, Refused, "no lock for the robot's Python"),
        ("x.tar.zst", {"wheels": Path("nothing")}, Refused, "no such folder"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(shop, tmp_path, output, changes, error, match):
    with pytest.raises(error, match=match):
        shop.build(tmp_path / output, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_makers_wheel_that_is_missing_ends_the_build(shop, tmp_path):
    gpu = GpuWheel("onnxruntime_gpu-*.whl", "onnxruntime", str(tmp_path), "its maker's page")
    with pytest.raises(Refused, match="get it from its maker's page and put it into"):
        shop.build(tmp_path / "x.tar.zst", target=replace(this_computer(), gpu_wheel=gpu))


def test_a_release_is_no_policy_to_build_from(shop, built, tmp_path):
    with pytest.raises(BadInput, match="is a release already"):
        shop.build(tmp_path / "x.bundle", source=built.path)


def test_an_altered_policy_is_refused_and_the_older_release_stays(shop, tmp_path):
    older = shop.build(tmp_path / "x.tar.zst").path.read_bytes()
    policy = shutil.copytree(shop.source, tmp_path / "policy.bundle")
    (policy / "model/head.onnx").write_bytes(b"altered")
    with pytest.raises(BadInput, match=r"model/head\.onnx"):
        shop.build(tmp_path / "x.tar.zst", source=policy)
    assert (tmp_path / "x.tar.zst").read_bytes() == older


@pytest.fixture
def typed(shop, monkeypatch):
    """The command, with the workshop's locks instead of the real ones."""
    monkeypatch.setattr(builder, "Recipe", functools.partial(builder.Recipe, locks=shop.locks))
    here = this_computer()
    monkeypatch.setattr(profiles, "load_target", lambda _: here)

    def run(output, *words):
        key = shop.public.with_suffix(".key")
        command = ["bundle", "build", shop.source, "--target", "host", "--counter", 1, "-o", output]
        return run_command([str(word) for word in [*command, "--key", key, "--wheels", shop.wheels, *words]])

    return run


def test_the_command_prints_what_it_wrote(typed, shop, tmp_path, capsys):
    assert typed(tmp_path / "a.tar.zst", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["signed_by"] == shop.key.public.id
    assert told["bytes"] == (tmp_path / "a.tar.zst").stat().st_size
    assert told["wheels"][-1]["name"] == "edgevla"
    assert "cryptography" in told["agent_wheels"]
    assert typed(tmp_path / "b.tar.zst", "--no-opencv") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "packing" in text
    assert f"signed by {shop.key.public.id}" in text
    assert "opencv" not in text


def test_the_command_ends_with_the_exit_code_of_the_reason(typed, tmp_path, capsys):
    assert typed(tmp_path / "a.zip") == 2
    assert typed(tmp_path / "a.tar.zst", "--wheels", tmp_path) == 1
    assert "lacks wheels" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
