"""What changed between two bundles, in words."""

from pathlib import Path

import pytest

from edgevla.bundle.diff import Change, differences, wheel_version
from edgevla.bundle.manifest import Manifest
from edgevla.bundle.release import add_release
from tests.edgevla.bundle.releasing import FILES, RELEASE, write_tiny_release
from tests.tiny_bundle import LOW, tiny_manifest, write_tiny_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_tiny_bundle(tmp_path_factory.mktemp("a") / "tiny.bundle").manifest


def told(before: Manifest, after: Manifest) -> dict[str, tuple[str, str]]:
    return {f"{c.subject}: {c.what}": (c.before, c.after) for c in differences(before, after)}


def test_the_same_bundle_has_no_difference(tiny: Manifest) -> None:
    assert differences(tiny, tiny) == []


def test_timing_channels_and_ranges_are_told_by_name(tiny: Manifest, tmp_path: Path) -> None:
    channels = tiny_manifest()["channels"]
    channels[3] = {**channels[3], "maximum": 2.0, "unit": "rad"}
    changed = write_tiny_bundle(
        tmp_path / "a.bundle", timing={"d_max": 7}, channels=channels, start_low=[LOW[0], 0.5, *LOW[2:]]
    ).manifest
    assert told(tiny, changed) == {
        "timing: d_max": ("8", "7"),
        "channel y: start range": ("0.4 to 1", "0.5 to 1"),
        "channel gripper: unit": ("1", "rad"),
        "channel gripper: maximum": ("1.0", "2.0"),
    }


def test_a_release_against_its_policy_tells_target_counter_wheels_and_files(tiny: Manifest, tmp_path: Path) -> None:
    policy = write_tiny_bundle(tmp_path / "p.bundle").path
    changes = told(tiny, write_tiny_release(policy, tmp_path / "r.bundle").manifest)
    assert changes["bundle: target"] == ("host", "generic-aarch64")
    assert changes["release: counter"] == ("nothing", "1")
    assert changes["wheel numpy: version"] == ("nothing", "2.2.6")
    assert changes["file sbom.cdx.json: content"] == ("nothing", "3 bytes, sha256 ca3d163bab055381")
    assert len([key for key in changes if key.startswith("file ")]) == len(FILES)


def test_two_releases_tell_versions_counter_and_what_is_gone(tmp_path: Path) -> None:
    policy = write_tiny_bundle(tmp_path / "p.bundle").path
    old = write_tiny_release(policy, tmp_path / "old.bundle", {"trust/notes": b"old"}).manifest
    newer = "runtime/wheels/numpy-2.3.0-py3-none-any.whl"
    wheels = [newer, *RELEASE["wheels"][1:]]
    files = {path: raw for path, raw in FILES.items() if "numpy" not in path}
    release = {**RELEASE, "counter": 2, "wheels": wheels}
    new = add_release(policy, tmp_path / "new.bundle", release, {**files, newer: b"w", "profiles/arm.toml": b"[arm]"})
    changes = differences(old, new.manifest)
    assert changes[0] == Change("release", "counter", "1", "2")
    assert changes[1] == Change("wheel numpy", "version", "2.2.6", "2.3.0")
    assert [change.subject for change in changes[2:]] == [
        "file profiles/arm.toml",
        f"file {newer}",
        "file runtime/wheels/numpy-2.2.6-py3-none-any.whl",
        "file trust/notes",
    ]
    assert (changes[2].before[:8], changes[2].after[:8]) == ("6 bytes,", "5 bytes,")
    assert changes[-1].after == "nothing"


def test_the_order_of_channels_is_a_difference_of_its_own(tiny: Manifest, tmp_path: Path) -> None:
    manifest = tiny_manifest()
    order = [1, 0, 2, 3]
    changed = {key: [manifest[key][i] for i in order] for key in ("channels", "start_low", "start_high")}
    names = told(tiny, write_tiny_bundle(tmp_path / "b.bundle", **changed).manifest)
    assert names == {"channels: order": ("x, y, z, gripper", "y, x, z, gripper")}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("runtime/wheels/onnxruntime_gpu-1.20.0-cp310-cp310-linux_aarch64.whl", ("onnxruntime_gpu", "1.20.0")),
        ("a/torch-2.4.0a0+07cecf4168.nv24.5-cp310-cp310-linux_aarch64.whl", ("torch", "2.4.0a0+07cecf4168.nv24.5")),
        ("odd.whl", ("odd.whl", "")),
    ],
)
def test_a_wheel_says_its_name_and_version(path: str, expected: tuple[str, str]) -> None:
    assert wheel_version(path) == expected
