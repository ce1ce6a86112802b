"""Weights in files of at most so many bytes: sizes, what is replaced when, what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from export import shards
from export.shards import files_of, hash_of, load_shards, save_shards

MOST = 8192
Tensors = dict[str, Tensor]


@pytest.fixture
def tensors() -> Tensors:
    made = torch.Generator().manual_seed(0)
    some = {f"layer.{n}.weight": torch.randn(n + 1, 100, generator=made) for n in range(12)}
    return {**some, "half": torch.ones(7, dtype=torch.float16), "number": torch.tensor(3), "none": torch.ones(0, 4)}


def same(found: Tensors, expected: Tensors) -> None:
    assert sorted(found) == sorted(expected)
    assert all(found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in expected.items())


def test_no_file_is_larger_and_what_is_read_is_what_was_saved(tmp_path: Path, tensors: Tensors) -> None:
    save_shards(tensors, tmp_path / "model.safetensors", {"step": "7"}, MOST)
    sizes = [file.stat().st_size for file in files_of(tmp_path / "model.safetensors")]
    assert len(sizes) > 2
    assert max(sizes) <= MOST
    assert sum(sizes) < 1.5 * sum(tensor.nbytes for tensor in tensors.values())
    found, told = load_shards(tmp_path / "model.safetensors")
    same(found, tensors)
    assert told == {"step": "7"}


def test_names_as_long_as_they_are_count_too(tmp_path: Path) -> None:
    named = {"é" * 200 + str(n): torch.zeros(1) for n in range(40)}
    save_shards(named, tmp_path / "model.safetensors", None, MOST)
    assert max(file.stat().st_size for file in files_of(tmp_path / "model.safetensors")) <= MOST
    same(load_shards(tmp_path / "model.safetensors")[0], named)


def test_transformers_reads_the_index(tmp_path: Path, tensors: Tensors) -> None:
    from transformers.utils.hub import get_checkpoint_shard_files

    path = tmp_path / "model.safetensors"
    save_shards(tensors, path, None, MOST)
    files, told = get_checkpoint_shard_files(tmp_path, str(tmp_path / "model.safetensors.index.json"))
    assert sorted(files) == [str(file) for file in files_of(path)]
    same({name: load_file(tmp_path / told["weight_map"][name])[name] for name in tensors}, tensors)


def test_without_a_limit_or_below_it_is_one_plain_file(tmp_path: Path, tensors: Tensors) -> None:
    for most in (None, 1 << 20):
        save_shards(tensors, tmp_path / "model.safetensors", None, most)
        assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
        same(load_file(tmp_path / "model.safetensors"), load_shards(tmp_path / "model.safetensors")[0])


def test_a_tensor_that_is_larger_has_a_file_of_its_own(tmp_path: Path) -> None:
    made = {"a": torch.ones(4), "b": torch.ones(MOST), "c": torch.ones(4)}
    save_shards(made, tmp_path / "model.safetensors", None, MOST)
    assert [len(load_file(file)) for file in files_of(tmp_path / "model.safetensors")] == [1, 1, 1]
    same(load_shards(tmp_path / "model.safetensors")[0], made)


def test_what_is_replaced_goes_and_what_is_the_same_is_not_written_again(tmp_path: Path, tensors: Tensors) -> None:
    path = tmp_path / "model.safetensors"
    (tmp_path / "model-of-mine.safetensors").write_bytes(b"another's")
    save_shards(tensors, path, None, MOST)
    before = {file: file.stat().st_mtime_ns for file in files_of(path)}
    save_shards({**tensors, "layer.11.weight": torch.zeros(12, 100)}, path, {"step": "8"}, MOST)
    after = files_of(path)
    assert 0 < len(set(before) & set(after)) < len(after)
    assert all(file.stat().st_mtime_ns == before[file] for file in set(before) & set(after))
    mine = {"model.safetensors.index.json", "model-of-mine.safetensors"}
    assert {file.name for file in tmp_path.iterdir()} == mine | {file.name for file in after}


def test_one_may_go_over_to_the_other_form_and_back(tmp_path: Path, tensors: Tensors) -> None:
    path = tmp_path / "model.safetensors"
    one = {"a": torch.ones(3)}
    for most, what in ((None, one), (MOST, tensors), (None, one)):
        save_shards(what, path, None, most)
        same(load_shards(path)[0], what)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("nth", range(4))
def test_what_was_there_is_whole_when_there_is_no_room(
    tmp_path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_shards(tensors, path, {"step": "1"}, MOST)
    there, written = sorted(tmp_path.iterdir()), iter(range(99))
    whole = type(path).write_bytes

    def fails(self: Path, raw: bytes) -> None:
        if next(written) == nth:
            whole(self, raw[:10])
            raise OSError(28, "No space left on device")
        whole(self, raw)

    monkeypatch.setattr(type(path), "write_bytes", fails)
    with pytest.raises(OSError, match="No space"):
        save_shards({name: value + 1 for name, value in tensors.items()}, path, {"step": "2"}, MOST)
    assert sorted(tmp_path.iterdir()) == there
    same(load_shards(path)[0], tensors)
    assert load_shards(path)[1] == {"step": "1"}


def test_a_part_that_a_kill_left_is_written_anew(tmp_path: Path, tensors: Tensors) -> None:
    path = tmp_path / "model.safetensors"
    save_shards(tensors, path, None, MOST)
    for file in files_of(path):
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
    (tmp_path / "model.safetensors.index.json").unlink()
    save_shards(tensors, path, None, MOST)
    same(load_shards(path)[0], tensors)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-4]), ValueError, "cut off or altered"),
        (lambda file: file.unlink(), OSError, "No such file"),
        (lambda file: save_file({"x": torch.ones(2)}, file), ValueError, "cut off or altered"),
    ],
)
def test_a_file_that_came_otherwise_than_it_went_is_refused(
    tmp_path: Path, tensors: Tensors, spoil: Callable[[Path], object], error: type[Exception], says: str
) -> None:
    save_shards(tensors, tmp_path / "model.safetensors", None, MOST)
    spoil(files_of(tmp_path / "model.safetensors")[1])
    with pytest.raises(error, match=says):
        load_shards(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["../model-0.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_names_only_what_lies_beside_it(tmp_path: Path, name: str) -> None:
    told = {"metadata": {}, "weight_map": {"a": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="files beside it"):
        load_shards(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"metadata": 1, "weight_map": {}}', '{"metadata": {}, "weight_map": [1]}', "no"]
)
def test_an_index_that_is_none_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"expect|Expect"):
        load_shards(tmp_path / "model.safetensors")


def test_nothing_there_is_an_error_and_no_files(tmp_path: Path) -> None:
    assert files_of(tmp_path / "model.safetensors") == []
    with pytest.raises((SafetensorError, OSError)):
        load_shards(tmp_path / "model.safetensors")
    with pytest.raises(OSError, match="model"):
        hash_of(tmp_path / "model.safetensors")


def test_the_hash_is_of_all_files_and_of_one_what_it_always_was(tmp_path: Path, tensors: Tensors) -> None:
    path = tmp_path / "model.safetensors"
    save_shards(tensors, path, None, MOST)
    first = hash_of(path)
    save_shards({**tensors, "layer.11.weight": torch.zeros(12, 100)}, path, None, MOST)
    assert hash_of(path) != first
    save_shards(tensors, path)
    assert hash_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert shards.MIB == 1048576
