"""The committed copy of the demo's bundle: small, whole, and made by its command."""

from pathlib import Path

from edgevla.bundle import open_bundle
from edgevla.bundle.verify import verify_golden
from examples.metaworld.publish_student import PUBLISHED, main, publish
from tests.tiny_bundle import write_tiny_bundle

LARGEST_BYTES = 5_000_000


def test_the_committed_bundle_opens_is_small_and_has_no_float_graphs():
    bundle = open_bundle(PUBLISHED)
    assert bundle.total_bytes() < LARGEST_BYTES
    assert not bundle.manifest.float_stages
    assert not bundle.total_bytes("float/")
    assert all(golden.kept for golden in verify_golden(bundle))


def test_what_is_published_is_the_source_without_its_float_graphs(tmp_path):
    source = write_tiny_bundle(tmp_path / "tiny.bundle")
    made = publish(source, tmp_path / "small.bundle")
    assert set(made.manifest.files) == {name for name in source.manifest.files if not name.startswith("float/")}
    assert all(made.read(name) == source.read(name) for name in made.manifest.files)
    assert made.manifest.recipe["published_from"] == source.sha256


def test_a_source_that_is_no_bundle_is_bad_input(tmp_path, capsys):
    assert main([str(tmp_path), "-o", str(tmp_path / "x.bundle")]) == 4
    assert "no bundle" in capsys.readouterr().err
    assert list(Path(tmp_path).iterdir()) == []
