"""A bundle whose hashes are right but whose parts are not is refused by the writer already."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.bundle import write_bundle
from edgevla.bundle.arrays import MAX_ARRAY_BYTES, load_npy, load_npz, npy_bytes, npz_bytes
from edgevla.bundle.parts import json_bytes
from edgevla.errors import BadInput
from tests.tiny_bundle import tiny_files, tiny_manifest

CORNER = tiny_files()["cameras.toml"]


def refuse(tmp_path: Path, name: str, raw: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        write_bundle(tmp_path / "x.bundle", tiny_manifest(), {**tiny_files(), name: raw})
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
    assert name in str(caught.value)
    return str(caught.value)


def stats(**change: Any) -> bytes:
    good = {
        "state_offset": [0, 0, 0, 0],
        "state_scale": [1, 1, 1, 1],
        "action_offset": [0, 0, 0, 0],
        "action_scale": [0.01, 0.01, 0.01, 1],
        "units": {},
    }
    return json_bytes({**good, **change})


def test_nan_in_the_statistics_is_refused(tmp_path: Path) -> None:
    raw = stats().replace(b"[\n  0,", b"[\n  NaN,", 1)
    assert b"NaN" in raw
    assert "NaN" in refuse(tmp_path, "stats.json", raw)


@pytest.mark.parametrize(
    "change",
    [
        {"state_scale": [1, 1, 1, 0]},
        {"state_offset": [0, 0, 0]},
        {"action_offset": [0, 0, 0, 1]},
        {"action_scale": [1, 1, 1, 1]},
        {"x": 1},
        {"units": 1},
    ],
)
def test_statistics_that_contradict_the_manifest_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    assert next(iter(change)) in refuse(tmp_path, "stats.json", stats(**change))


@pytest.mark.parametrize(
    "noise",
    [
        np.zeros((32, 4)),
        np.zeros((31, 4), np.float32),
        np.full((32, 4), np.nan, np.float32),
        np.zeros(3, np.int64),
    ],
)
def test_noise_of_a_wrong_dtype_shape_or_value_is_refused(tmp_path: Path, noise: np.ndarray) -> None:
    refuse(tmp_path, "noise.npy", npy_bytes(noise))


def test_a_pickle_in_an_array_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "pickle" in refuse(tmp_path, "noise.npy", buffer.getvalue())


@pytest.mark.parametrize("raw", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x10\x00{'descr':'<f4'}\n"])
def test_an_array_file_of_rubbish_is_refused(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, "noise.npy", raw)


def test_an_array_that_claims_more_than_it_has_takes_no_memory() -> None:
    raw = npy_bytes(np.zeros((32, 4), np.float32)).replace(b"(32, 4)", b"(9e9,4)")
    with pytest.raises(BadInput):
        load_npy(raw, "x.npy")
    huge = npy_bytes(np.zeros((32, 4), np.float32)).replace(b"(32, 4), }", b"(99999999999, 4),}")
    with pytest.raises(BadInput, match=r"x\.npy"):
        load_npy(huge, "x.npy")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(MAX_ARRAY_BYTES + 1))
    with pytest.raises(BadInput, match="unpacked"):
        load_npz(buffer.getvalue(), "golden/bomb.npz")


def test_the_same_arrays_give_the_same_bytes() -> None:
    arrays = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    assert npz_bytes(arrays) == npz_bytes(dict(reversed(arrays.items())))


@pytest.mark.parametrize("raw", [b"PK", npz_bytes({"image": np.zeros((96, 96, 3), np.uint8)})])
def test_a_golden_vector_that_lacks_something_is_refused(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, "golden/000.npz", raw)


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 8},
        {"tokens": ["a", "a"]},
        {"tokens": ["two words"]},
        {"tokens": []},
        {"known_instructions": []},
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = json_bytes({"tokens": ["<pad>", "open"], "max_tokens": 16, "known_instructions": {}, **change})
    assert next(iter(change)) in refuse(tmp_path, "text/vocab.json", raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[[camera]\n",
        b"",
        CORNER.replace(b"corner", b"other"),
        CORNER.replace(b"exact", b"stretch"),
        CORNER.replace(b"exact", b"squeeze"),
        CORNER + b'frame="cameras/none.png"\n',
        CORNER + CORNER,
        b"\xff",
    ],
)
def test_a_camera_file_that_contradicts_the_manifest_is_refused(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, "cameras.toml", raw)


def with_frame(raw: bytes) -> dict[str, bytes]:
    files = {**tiny_files(), "cameras/corner.png": raw}
    return {**files, "cameras.toml": CORNER + b'frame = "cameras/corner.png"\n'}


def png(width: int, height: int) -> bytes:
    """The first bytes of a PNG file; no more of it is looked at."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0"


@pytest.mark.parametrize(
    ("raw", "got"),
    [(b"", "no PNG"), (b"GIF89a" + bytes(40), "no PNG"), (png(96, 96)[:20], "no PNG"), (png(96, 48), "96 x 48")],
)
def test_a_training_frame_that_is_no_png_of_the_cameras_size_is_refused(tmp_path: Path, raw: bytes, got: str) -> None:
    with pytest.raises(BadInput, match=r"cameras/corner\.png") as caught:
        write_bundle(tmp_path / "x.bundle", tiny_manifest(), with_frame(raw))
    text = str(caught.value)
    assert "96 x 96" in text
    assert got in text


def test_a_training_frame_of_the_cameras_size_is_taken(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.bundle", tiny_manifest(), with_frame(png(96, 96)))


def test_a_picture_that_no_camera_names_is_refused(tmp_path: Path) -> None:
    assert "not named" in refuse(tmp_path, "cameras/corner.png", png(96, 96))


@pytest.mark.parametrize("raw", [b"not json", b"", b'{"p99": NaN}', b'{"a": 1, "a": 2}', b" " * (4 * 1024**2) + b"{}"])
def test_evidence_that_is_no_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, "evidence/parity.json", raw)


def test_a_bundle_without_a_golden_vector_is_refused(tmp_path: Path) -> None:
    files = {name: raw for name, raw in tiny_files().items() if not name.startswith("golden/")}
    with pytest.raises(BadInput, match="golden vector"):
        write_bundle(tmp_path / "x.bundle", tiny_manifest(), files)


def test_writing_over_an_older_bundle_replaces_it_whole(tmp_path: Path) -> None:
    dest = tmp_path / "x.bundle"
    write_bundle(dest, {**tiny_manifest(), "name": "first"}, {**tiny_files(), "evidence/old.json": b"{}"})
    bundle = write_bundle(dest, {**tiny_manifest(), "name": "second"}, tiny_files())
    assert bundle.manifest.name == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["x.bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.bundle").mkdir()
    (tmp_path / "x.bundle" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="in the way"):
        write_bundle(tmp_path / "x.bundle", tiny_manifest(), tiny_files())
    assert (tmp_path / "x.bundle" / "thesis.txt").exists()


def test_a_failed_write_leaves_the_older_bundle(tmp_path: Path) -> None:
    dest = tmp_path / "x.bundle"
    write_bundle(dest, tiny_manifest(), tiny_files())
    with pytest.raises(BadInput):
        write_bundle(dest, tiny_manifest(), {**tiny_files(), "noise.npy": b"no"})
    assert (dest / "manifest.json").is_file()
    assert len(list(tmp_path.iterdir())) == 1
