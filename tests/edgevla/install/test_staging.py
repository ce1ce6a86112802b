"""A release on its way in: from the client's chunks and those of installed releases; resumed, never trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevla.deploy.index import Chunk, ChunkIndex, encode_index
from edgevla.errors import BadInput
from edgevla.install import admission
from edgevla.install.layout import Layout
from edgevla.install.staging import Staging
from edgevla.trust.folder import check_folder
from tests.edgevla.install.kit import Made, make_release, new_robot, stage


@pytest.fixture
def robot(folder: Path) -> Layout:
    return new_robot(folder / "edgevla")


def begun(layout: Layout, made: Made) -> Staging:
    staging = Staging(layout, made.envelope, made.index)
    staging.begin(made.manifest, made.signature)
    return staging


def unlike(seed: int, size: int = 200_000) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def test_every_chunk_is_asked_for_once_and_the_files_are_right(robot: Layout) -> None:
    twice = unlike(1)
    made = make_release(1, extra={"model/a.onnx": twice, "model/b.onnx": twice, "empty.bin": b""})
    staging, content = begun(robot, made), made.chunks()
    missing = staging.missing()
    assert sorted(missing) == sorted(content)
    for name in missing:
        assert staging.store(content[name], [len(content[name])]) == 1
    assert staging.missing() == []
    assert staging.assemble() == made.envelope.total_bytes
    check_folder(staging.bundle, made.envelope.files)


def test_many_chunks_travel_in_one_payload(robot: Layout) -> None:
    made = make_release(1, extra={"model/a.onnx": unlike(2)})
    staging, content = begun(robot, made), made.chunks()
    names = staging.missing()
    payload = b"".join(content[name] for name in names)
    assert staging.store(payload, [len(content[name]) for name in names]) == len(names)
    staging.assemble()


def test_an_interrupted_transfer_goes_on_where_it_was(robot: Layout) -> None:
    made = make_release(1, extra={"model/a.onnx": unlike(3)})
    staging, content = begun(robot, made), made.chunks()
    first, *others = staging.missing()
    staging.store(content[first], [len(content[first])])
    again = begun(robot, made)  # another process, after a lost connection
    assert again.missing() == others


def test_a_part_that_a_power_cut_spoiled_is_asked_for_again(robot: Layout) -> None:
    made = make_release(1, extra={"model/a.onnx": unlike(4)})
    staging, content = begun(robot, made), made.chunks()
    for name in staging.missing():
        staging.store(content[name], [len(content[name])])
    part = sorted((staging.folder / "parts").iterdir(), key=lambda path: path.stat().st_size)[-1]
    with part.open("r+b") as file:
        file.seek(50_000)
        file.write(b"\0" * 100)
    again = begun(robot, made)
    assert 1 <= len(again.missing()) <= 2
    part.write_bytes(b"shorter, and\n" * 100_000)  # and one that is longer
    assert begun(robot, made).missing()


def test_files_complete_before_the_install_was_cut_are_not_sent_again(robot: Layout) -> None:
    made = make_release(1)
    stage(robot, made)
    (robot.staged(made.id) / "release" / "venv" / "half").mkdir(parents=True)
    again = begun(robot, made)
    assert again.missing() == []
    again.assemble()
    check_folder(again.bundle, made.envelope.files)
    assert not (again.folder / "release" / "venv").exists()


def install_folder(layout: Layout, made: Made) -> Path:
    made.write(layout.release(made.id) / "bundle")
    layout.chunk_index(made.id).write_bytes(made.index)
    return layout.release(made.id) / "bundle"


def test_chunks_of_an_installed_release_are_taken_and_the_rest_is_asked_for(robot: Layout) -> None:
    big = unlike(5)
    old = make_release(1, extra={"model/a.onnx": big})
    install_folder(robot, old)
    new = make_release(2, extra={"model/renamed.onnx": big[:100_000] + b"new bytes" + big[100_000:]})
    staging, content = begun(robot, new), new.chunks()
    sizes = [len(content[name]) for name in staging.missing()]
    assert sum(sizes) < 100_000  # of 200,009: the chunks around the insertion, and the policy's file
    for name in staging.missing():
        staging.store(content[name], [len(content[name])])
    staging.assemble()


def test_an_installed_release_that_lies_about_its_chunks_is_not_believed(robot: Layout) -> None:
    big = unlike(6)
    old = make_release(1, extra={"model/a.onnx": big})
    folder = install_folder(robot, old)
    (folder / "model" / "a.onnx").write_bytes(bytes(len(big)))  # its disk has rotted
    (folder / "model" / "head.onnx").unlink()
    new = make_release(2, extra={"model/a.onnx": big})
    assert sum(len(new.chunks()[name]) for name in begun(robot, new).missing()) >= len(big)
    robot.chunk_index(old.id).write_bytes(b"{")
    assert begun(robot, new).missing()


def test_a_chunk_that_nobody_needs_is_refused(robot: Layout) -> None:
    made = make_release(1)
    staging = begun(robot, made)
    with pytest.raises(BadInput, match="one of this bundle"):
        staging.store(b"strange", [7])
    with pytest.raises(BadInput, match="chunks: not what"):
        staging.store(b"strange", [6])


def test_an_incomplete_release_is_not_assembled(robot: Layout) -> None:
    made = make_release(1)
    staging = begun(robot, made)
    with pytest.raises(BadInput, match=r"model/head\.onnx|profiles/target\.toml|edgevla-0\.0\.1"):
        staging.assemble()
    assert not list(robot.releases.iterdir())


def test_an_index_of_other_files_is_refused(robot: Layout) -> None:
    made = make_release(1)
    with pytest.raises(BadInput, match="the files of the manifest"):
        Staging(robot, made.envelope, encode_index(ChunkIndex({})))
    wrong = {path: (Chunk("0" * 32, 5),) for path in made.files}
    with pytest.raises(BadInput, match="the chunk index of"):
        Staging(robot, made.envelope, encode_index(ChunkIndex(wrong)))


def test_another_release_on_its_way_makes_room(robot: Layout) -> None:
    first, second = make_release(1), make_release(2)
    begun(robot, first)
    begun(robot, second)
    assert not robot.staged(first.id).exists()
    assert robot.staged(second.id).is_dir()


def test_room_is_looked_for_before_a_byte_is_taken(robot: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_release(1)
    needed = admission.bytes_to_come(made.envelope)
    real = os.statvfs(robot.prefix)
    blocks = (needed + admission.SPARE_BYTES - 1) // real.f_frsize
    full = os.statvfs_result((real.f_bsize, real.f_frsize, *real[2:4], blocks, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(BadInput, match="the robot's disk has not enough room") as error:
        begun(robot, made)
    assert "edgevla deploy gc" in str(error.value)
