"""A policy bundle becomes a release; both schemas are read, and nothing newer or half of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevla.bundle import open_bundle
from edgevla.bundle.release import add_release
from edgevla.errors import BadInput
from edgevla.trust.envelope import parse_envelope, sum_line
from edgevla.trust.signing import sign_folder
from edgevla.trust.store import TrustStore
from tests.edgevla.bundle.releasing import FILES, RELEASE, WHEELS, write_tiny_release
from tests.edgevla.trust.releases import KEY, STORE, key_of


@pytest.fixture
def release(tiny_bundle_path: Path, tmp_path: Path) -> Path:
    return write_tiny_release(tiny_bundle_path, tmp_path / "release.bundle").path


def rewrite(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    change(manifest)
    raw = json.dumps(manifest).encode()
    (root / "manifest.json").write_bytes(raw)
    (root / "manifest.sha256").write_bytes(sum_line(raw))


def refused(root: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_bundle(root)
    return str(caught.value)


def test_a_release_is_the_policy_with_what_a_robot_needs(tiny_bundle_path: Path, release: Path) -> None:
    bundle, policy = open_bundle(release), open_bundle(tiny_bundle_path)
    assert bundle.manifest.release is not None
    assert bundle.manifest.release.wheels == tuple(WHEELS)
    assert bundle.manifest.target == "generic-aarch64"
    assert {name: bundle.manifest.files[name] for name in policy.manifest.files} == policy.manifest.files
    assert set(bundle.manifest.files) - set(policy.manifest.files) == set(FILES)
    assert json.loads(bundle.head.manifest)["schema"] == "edgevla.bundle/3"
    assert json.loads(bundle.head.manifest)["release"] == {"envelope": 1, **RELEASE}
    assert bundle.head.signature is None
    assert policy.manifest.release is None


def test_the_same_policy_and_the_same_files_give_the_same_release(tiny_bundle_path: Path, tmp_path: Path) -> None:
    first, second = (write_tiny_release(tiny_bundle_path, tmp_path / f"{n}.bundle") for n in "ab")
    assert first.head == second.head


def test_the_arm_may_be_another_than_the_policy_was_made_for(tiny_bundle_path: Path, tmp_path: Path) -> None:
    bundle = add_release(tiny_bundle_path, tmp_path / "a.bundle", RELEASE, FILES, arm="my-arm")
    assert bundle.manifest.arm == "my-arm"


def test_a_signature_is_no_extra_file_and_is_judged_first_when_asked(release: Path) -> None:
    sign_folder(release, KEY)
    assert open_bundle(release).head.signature is not None
    assert open_bundle(release, STORE.check).manifest.name == "tiny"
    with pytest.raises(BadInput, match="signature is wrong"):
        open_bundle(release, TrustStore(1, {key_of(2).public.id: key_of(2).public}, ()).check)


def test_a_bundle_that_is_written_again_has_no_signature_of_the_older(tiny_bundle_path: Path, release: Path) -> None:
    sign_folder(release, KEY)
    write_tiny_release(tiny_bundle_path, release, counter=2)
    assert open_bundle(release).head.signature is None


def test_a_release_is_not_built_from_a_release(release: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a release already"):
        write_tiny_release(release, tmp_path / "again.bundle")


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ({"stats.json": b"{}"}, {}, "stats.json is in the policy bundle"),
        ({"../out": b""}, {}, "path is not allowed"),
        ({"manifest.sig": b""}, {}, "path is not allowed"),
        ({"trust/trust.json": b"{}"}, {}, "trust/trust.json: `schema` is wrong"),
        ({}, {"counter": 0}, "release: counter"),
        ({}, {"wheels": ["runtime/wheels/none.whl"]}, "listed in `files`"),
        ({}, {"colour": "red"}, "only keys of this schema"),
        ({}, {"envelope": 2}, "written by a newer edgevla"),
    ],
)
def test_a_release_that_is_wrong_is_not_written(
    tiny_bundle_path: Path, tmp_path: Path, files: dict[str, bytes | Path], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        write_tiny_release(tiny_bundle_path, tmp_path / "a.bundle", files, **changes)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["profiles/target.toml", "profiles/arm.toml", "sbom.cdx.json"])
def test_every_release_has_its_profiles_and_its_parts_list(tiny_bundle_path: Path, tmp_path: Path, name: str) -> None:
    files = {path: raw for path, raw in FILES.items() if path != name}
    with pytest.raises(BadInput, match=f"an entry for {name}"):
        add_release(tiny_bundle_path, tmp_path / "a.bundle", RELEASE, files)


def test_a_trust_update_travels_with_a_release(tiny_bundle_path: Path, tmp_path: Path) -> None:
    update = STORE.changed([key_of(2).public], [])
    bundle = write_tiny_release(tiny_bundle_path, tmp_path / "a.bundle", {"trust/trust.json": update.to_bytes()})
    assert bundle.read("trust/trust.json") == update.to_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(schema="edgevla.bundle/4"), "edgevla.bundle/4: written by a newer edgevla"),
        (lambda m: m.update(schema="edgevla.bundle/2"), "nothing in schema 2"),
        (lambda m: m.pop("release"), "`release` is wrong"),
        (lambda m: m.update(target="host"), "`target` is wrong"),
        (lambda m: m["release"].update(colour="red"), "only keys of this schema"),
        (lambda m: m["files"]["stats.json"].update(mode=1), "sha256 and bytes alone"),
        (lambda m: m.update(surprise=1), "surprise"),
    ],
)
def test_what_the_strict_reader_does_not_know_it_refuses(
    release: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    rewrite(release, change)
    assert said in refused(release)


def test_the_installer_still_takes_what_the_strict_reader_does_not_know(release: Path) -> None:
    """A newer bundle brings its own reader in its wheels; only the envelope has to stay."""
    rewrite(release, lambda m: m.update(schema="edgevla.bundle/4", surprise=1))
    assert parse_envelope((release / "manifest.json").read_bytes()).schema == 4
