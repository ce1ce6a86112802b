"""Every alteration of a bundle is one BadInput that names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevla.bundle import open_bundle
from edgevla.bundle.parts import KnownWords
from edgevla.errors import BadInput
from edgevla.trust.envelope import sum_line

FILES = [
    "model/head.onnx", "float/vision.onnx", "stats.json", "noise.npy", "cameras.toml",
    "text/vocab.json", "golden/000.npz", "evidence/parity.json", "manifest.json", "manifest.sha256",
]  # fmt: skip


def rewrite_manifest(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter the manifest as somebody would who also corrects its checksum."""
    manifest = json.loads((root / "manifest.json").read_text())
    change(manifest)
    raw = json.dumps(manifest).encode()
    (root / "manifest.json").write_bytes(raw)
    (root / "manifest.sha256").write_bytes(sum_line(raw))


def refused(root: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_bundle(root)
    text = str(caught.value)
    assert "expected:" in text
    assert "to do:" in text
    return text


def test_a_sound_bundle_opens_with_all_its_parts(tiny_bundle_path: Path) -> None:
    bundle = open_bundle(tiny_bundle_path)
    assert bundle.manifest.timing.horizon == 32
    assert bundle.noise.shape == (32, 4)
    assert bundle.stats.action_scale.tolist() == pytest.approx([0.01, 0.01, 0.01, 1.0])
    assert isinstance(bundle.words, KnownWords)
    assert bundle.words.tokens[0] == "open"
    assert list(bundle.golden) == ["golden/000.npz"]
    assert bundle.stage("text").inputs[0].shape == (1, 16)
    assert bundle.model("head")[:2] == b"\x08\x0a"  # ONNX field 1, IR version 10
    assert bundle.total_bytes("model/") == sum(p.stat().st_size for p in tiny_bundle_path.glob("model/*"))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    raw = bytearray((bundle_copy / name).read_bytes())
    raw[len(raw) // 2] ^= 0x01
    (bundle_copy / name).write_bytes(raw)
    assert name.replace("sha256", "json") in refused(bundle_copy) or name in refused(bundle_copy)


def test_every_single_byte_of_the_manifest_counts(bundle_copy: Path) -> None:
    raw = (bundle_copy / "manifest.json").read_bytes()
    for index in range(0, len(raw), 97):
        altered = bytearray(raw)
        altered[index] ^= 0x20
        (bundle_copy / "manifest.json").write_bytes(altered)
        assert "manifest.json" in refused(bundle_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    os.truncate(bundle_copy / name, (bundle_copy / name).stat().st_size - 1)
    text = refused(bundle_copy)
    assert name in text


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    assert name in refused(bundle_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_grew_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    with (bundle_copy / name).open("ab") as file:
        file.write(b" ")
    assert name in refused(bundle_copy)


@pytest.mark.parametrize("name", ["model/extra.onnx", "run.py", "golden/.hidden"])
def test_an_extra_file_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).write_bytes(b"x")
    text = refused(bundle_copy)
    assert name in text
    assert "extra" in text


@pytest.mark.parametrize("name", ["leftover", "golden/leftover"])
def test_an_extra_folder_is_refused_by_name_even_if_empty(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).mkdir()
    text = refused(bundle_copy)
    assert name in text
    assert "an extra folder" in text


@pytest.mark.parametrize("name", ["model/head.onnx", "manifest.json", "stats.json"])
def test_a_symbolic_link_is_refused_even_to_the_right_bytes(bundle_copy: Path, tmp_path: Path, name: str) -> None:
    (bundle_copy / name).rename(tmp_path / "elsewhere")
    (bundle_copy / name).symlink_to(tmp_path / "elsewhere")
    assert name in refused(bundle_copy)


def test_a_linked_folder_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "model").rename(tmp_path / "model")
    (bundle_copy / "model").symlink_to(tmp_path / "model")
    assert "model" in refused(bundle_copy)


@pytest.mark.parametrize("name", ["noise.npy", "manifest.json"])
def test_a_fifo_in_place_of_a_file_is_refused_and_never_waited_for(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    os.mkfifo(bundle_copy / name)
    assert name in refused(bundle_copy)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.bin",
        "/etc/passwd",
        "model/../../x",
        "a//b",
        "./a",
        "a/./b",
        "a\\b",
        "",
        "a\u0000b",
        "manifest.json",
    ],
)
def test_a_path_out_of_the_bundle_is_refused(bundle_copy: Path, path: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][path] = {"sha256": "0" * 64, "bytes": 1}

    rewrite_manifest(bundle_copy, change)
    assert "path is not allowed" in refused(bundle_copy)


MANIFEST_FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "schema": lambda m: m.update(schema="edgevla.bundle/1"),
    "horizon": lambda m: m["timing"].update(horizon="32"),
    "d_max": lambda m: m["timing"].update(d_max=32),
    "period_s": lambda m: m["timing"].update(period_s=0),
    "channels": lambda m: m.update(channels=[]),
    "kind": lambda m: m["channels"][0].pop("kind"),
    "space": lambda m: m["channels"][0].update(space="polar"),
    "frame": lambda m: m["channels"][1].pop("frame"),
    "unit": lambda m: m["channels"][1].pop("unit"),
    "scale": lambda m: m["channels"][2].update(scale=0),
    "maximum": lambda m: m["channels"][2].update(maximum=-9),
    "start_low": lambda m: m.update(start_low=[0, 0, 0]),
    "start_high": lambda m: m.update(start_high=[True, 1, 1, 1]),
    "stages": lambda m: m.update(stages=m["stages"][:2]),
    "dtype": lambda m: m["stages"][0]["inputs"][0].update(dtype="float16"),
    "shape": lambda m: m["stages"][0]["inputs"][0].update(shape=[1, -1]),
    "float_stages": lambda m: m["float_stages"][2]["outputs"][0].update(shape=[1, 16, 4]),
    "bytes": lambda m: m["files"]["noise.npy"].update(bytes=9 * 1024**3),
    "sha256": lambda m: m["files"]["noise.npy"].update(sha256="AB"),
    "files": lambda m: m["files"].pop("stats.json"),
    "ir_version": lambda m: m.update(ir_version=11),
    "opset": lambda m: m.update(opset=21),
    "cameras": lambda m: m.update(cameras="corner"),
    "rate_hz": lambda m: m["cameras"][0].update(rate_hz=-1),
    "colour": lambda m: m["cameras"][0].update(colour="bgr"),
    "fit": lambda m: m["cameras"][0].update(fit="squeeze"),
    "input size": lambda m: m["cameras"][0].update(input_width=48),
    "when_missing": lambda m: m["cameras"][0].pop("when_missing"),
    "offset": lambda m: m["channels"][0].pop("offset"),
    "observations": lambda m: m.update(observations=0),
    "max_tokens": lambda m: m["text"].update(max_tokens="16"),
    "text/tokens.json": lambda m: m["text"].update(kind="tokens"),
    "times": lambda m: m["stages"][0].update(times=[1.0]),
    "teacher": lambda m: m.pop("teacher"),
    "surprise": lambda m: m.update(surprise=1),
}


@pytest.mark.parametrize("key", MANIFEST_FAULTS)
def test_a_manifest_that_lies_is_refused_by_key(bundle_copy: Path, key: str) -> None:
    rewrite_manifest(bundle_copy, MANIFEST_FAULTS[key])
    text = refused(bundle_copy)
    assert "manifest.json" in text
    assert key in text


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[]", b"NaN", b'{"a":1,"a":2}', b'{"schema": 1e999}', b"[" * 100_000]
)
def test_a_manifest_that_is_no_json_object_is_refused(bundle_copy: Path, raw: bytes) -> None:
    (bundle_copy / "manifest.json").write_bytes(raw)
    (bundle_copy / "manifest.sha256").write_bytes(sum_line(raw))
    assert "manifest.json" in refused(bundle_copy)


@pytest.mark.parametrize(
    ("kind", "got"),
    [("missing", "nothing there"), ("file", "a file"), ("empty", "an empty folder"), ("other", "with thesis.txt")],
)
def test_what_is_no_bundle_at_all_is_not_called_a_damaged_one(tmp_path: Path, kind: str, got: str) -> None:
    path = tmp_path / "x.bundle"
    if kind == "file":
        path.write_bytes(b"zip")
    elif kind != "missing":
        path.mkdir()
    if kind == "other":
        (path / "thesis.txt").write_text("years of work")
    text = refused(path)
    assert f"{path} is no bundle" in text
    assert got in text
    assert "damaged" not in text


def test_an_empty_path_is_not_the_current_folder(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_copy)
    with pytest.raises(BadInput, match="an empty path"):
        open_bundle("")
    assert open_bundle(".").manifest.name == "tiny"


@pytest.mark.parametrize(
    ("change", "expected", "got"),
    [
        (lambda m: m["channels"][0].update(scale=1e308), "[1e-12, 1e+300]", "1e+308"),
        (lambda m: m["channels"][0].update(minimum=1, maximum=1), "[1.0000000000000002, 1e+300]", "1"),
        (lambda m: m["timing"].update(period_s="0.0125"), "[0.0001, 10.0]", "'0.0125'"),
        (lambda m: m["timing"].update(horizon="32"), "[2, 10000]", "'32'"),
    ],
)
def test_a_wrong_number_is_shown_as_it_stands_with_its_bounds(
    bundle_copy: Path, change: Callable[[dict[str, Any]], None], expected: str, got: str
) -> None:
    rewrite_manifest(bundle_copy, change)
    text = refused(bundle_copy)
    assert expected in text
    assert f"got:      {got}\n" in text


def test_a_file_altered_after_opening_is_refused_when_read(bundle_copy: Path) -> None:
    bundle = open_bundle(bundle_copy)
    raw = bytearray((bundle_copy / "model/head.onnx").read_bytes())
    raw[100] ^= 0xFF
    (bundle_copy / "model/head.onnx").write_bytes(raw)
    with pytest.raises(BadInput, match=r"model/head\.onnx"):
        bundle.model("head")
