"""A folder of recorded shards is of one plan, from its first shard on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevla.errors import BadInput, Usage
from examples.metaworld import demos as reference
from examples.metaworld.folder import claim, finish
from examples.metaworld.mt import demos, play

PLAN = {"seed": 0, "set": "mt10", "shards": [{"file": "a.npz", "episodes": 2}, {"file": "b.npz", "episodes": 2}]}
SHORT: dict[str, Any] = {  # a recorder's name -> how it records the least
    "reference": lambda out, **other: reference.record(
        out, **{"episodes": 1, "half_way": 0, "seed": 0, "workers": 1, **other}
    ),
    "demos": lambda out, **other: demos.record(
        out, **{"which": "mt10", "episodes": 1, "half_way": 0, "seed": 0, "workers": 1, "disturb": "none", **other}
    ),
    "play": lambda out, **other: play.take_all(
        out, **{"which": "mt10", "scenes": 1, "pictures": 2, "seed": 1_000_000, "workers": 1, **other}
    ),
}
OTHERS = [
    ("reference", {"episodes": 2}), ("reference", {"half_way": 1}), ("reference", {"seed": 1}),
    ("demos", {"which": "mt50"}), ("demos", {"episodes": 2}), ("demos", {"half_way": 1}), ("demos", {"seed": 7}),
    ("demos", {"disturb": "noise"}),
    ("play", {"which": "mt50"}), ("play", {"scenes": 3}), ("play", {"pictures": 1}), ("play", {"seed": 5}),
]  # fmt: skip


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each recorder was about to do, in the place of doing them."""
    found: list[int] = []
    for module in (reference, play):
        monkeypatch.setattr(module, "work_through", lambda jobs, workers, told: found.append(len(jobs)))
    return found


@pytest.mark.parametrize("finished", ["", "before there were plans", "half"])
@pytest.mark.parametrize(("recorder", "other"), OTHERS)
def test_other_options_are_refused_before_anything_is_written(
    tmp_path: Path, recorder: str, other: dict[str, Any], finished: str, done: list[int]
) -> None:
    SHORT[recorder](tmp_path)
    if finished:
        (tmp_path / ("dataset.json" if finished == "half" else "plan.json")).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput, match="pass another -o, or remove it to begin anew"):
        SHORT[recorder](tmp_path, **other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(done) == 1


@pytest.mark.parametrize("lost", ["", "plan.json", "dataset.json"])
@pytest.mark.parametrize("recorder", SHORT)
def test_the_same_options_go_on_and_say_the_same(tmp_path: Path, recorder: str, lost: str, done: list[int]) -> None:
    SHORT[recorder](tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"plan.json", "dataset.json"}
    if lost:
        (tmp_path / lost).unlink()
    SHORT[recorder](tmp_path, workers=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert done[0] == done[1] > 0


def test_more_half_way_episodes_than_there_are_record_the_same(tmp_path: Path) -> None:
    SHORT["demos"](tmp_path, half_way=1)
    SHORT["demos"](tmp_path, half_way=15)


def test_the_plan_is_there_before_the_first_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    see = lambda jobs, workers, told: seen.append(sorted(path.name for path in tmp_path.iterdir()))  # noqa: E731
    monkeypatch.setattr(play, "work_through", see)
    SHORT["play"](tmp_path)
    assert seen == [["plan.json"]]


def test_what_differs_is_said_and_nothing_else(tmp_path: Path) -> None:
    claim(tmp_path, PLAN)
    with pytest.raises(BadInput) as told:
        claim(tmp_path, {**PLAN, "seed": 7, "shards": [PLAN["shards"][0], {"file": "b.npz", "episodes": 3}]})  # type: ignore[index]
    assert "shards of seed 7, shards episodes 3" in str(told.value)
    assert "seed 0, shards episodes 2" in str(told.value)
    assert "mt10" not in str(told.value)
    with pytest.raises(BadInput, match=r'shards \{"file": "b.npz"'):
        claim(tmp_path, {**PLAN, "shards": PLAN["shards"][:1]})  # type: ignore[index]


def test_shards_of_which_nobody_knows_the_options_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".a.part.npz").write_bytes(b"half of it")  # no shard
    claim(tmp_path, PLAN)
    (tmp_path / "plan.json").unlink()
    (tmp_path / "a.npz").write_bytes(b"a shard")
    with pytest.raises(BadInput, match=r"a plan\.json beside its shards"):
        claim(tmp_path, PLAN)
    assert not (tmp_path / "plan.json").exists()


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["plan.json", "dataset.json"])
def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path, name: str, written: bytes) -> None:
    (tmp_path / name).write_bytes(written)
    with pytest.raises(BadInput, match=name):
        claim(tmp_path, PLAN)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder" / "dataset.json").mkdir(parents=True)
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nope"), tmp_path / "folder"):
        with pytest.raises(BadInput, match="a folder to write to"):
            claim(out, PLAN)
    with pytest.raises(BadInput, match=r"dataset\.json"):
        finish(tmp_path / "folder", PLAN)
    assert (tmp_path / "file").read_bytes() == b"mine"


NUMBERS = [
    (reference, "--episodes 0"), (reference, "--episodes -1"), (reference, "--half-way -5"),
    (reference, "--workers 0"), (reference, "--seed -1"),
    (demos, "--episodes 0"), (demos, "--episodes x"), (demos, "--half-way -1"), (demos, "--workers -3"),
    (demos, "--seed -1"),
    (play, "--scenes 0"), (play, "--pictures 0"), (play, "--pictures -1"), (play, "--workers 0"), (play, "--seed -1"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "options"), NUMBERS)
def test_numbers_that_mean_nothing_are_refused(
    tmp_path: Path, command: Any, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["-o", str(tmp_path / "out"), *options.split()])
    assert ended.value.code == Usage.exit_code
    assert f"argument {options.split()[0]}: expected a whole number" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scenes_that_another_task_has_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play.main(["-o", str(tmp_path / "out"), "--scenes", "10001"]) == Usage.exit_code
    assert "error: --scenes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [reference, demos, play])
def test_a_command_says_in_words_what_it_refuses(
    tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str], done: list[int]
) -> None:
    assert command.main(["-o", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "plan.json").read_text())["shards"]
    assert command.main(["-o", str(tmp_path), "--seed", "3"]) == BadInput.exit_code
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}")
    assert len(done) == 1


def test_a_shard_for_which_there_is_no_room_is_told_and_not_left_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, **arrays: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reference.np, "savez", full)
    with pytest.raises(BadInput, match="No space left on device"):
        reference.save_whole(tmp_path / "a.npz", {})
    assert not list(tmp_path.iterdir())
