"""A disk that is full, or may not be written: one sentence, what runs stays, and it goes on when there is room."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgevla.errors import BadInput
from edgevla.install import unpack
from edgevla.install.admission import SPARE_BYTES
from edgevla.install.frames import error_of
from edgevla.install.install import Install
from edgevla.install.layout import Layout
from edgevla.install.select import recover
from edgevla.install.staging import Staging
from edgevla.install.state import State, change_state, read_state
from edgevla.install.steps import Options, Outcome
from edgevla.install.unpack import check_release
from edgevla.install.watch import Health
from tests.edgevla.install.agent import Client, Refusal
from tests.edgevla.install.kit import Made, Recorder, make_release, new_robot, runs, stage, tools_with
from tests.edgevla.install.test_install import install, installed

DISK_BYTES = 24 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Layout]:
    """A provisioned robot on a disk of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small disk of its own needs root: mount -t tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "edgevla-test", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield new_robot(place / "edgevla")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(layout: Layout, but: int) -> Path:
    """Take all of the disk but so many bytes."""
    filler = layout.prefix / "filler"
    left = os.statvfs(layout.prefix)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize - but)
    return filler


def big_release(counter: int) -> Made:
    return make_release(counter, extra={"model/big.onnx": random.Random(counter).randbytes(2_000_000)})


def test_an_offer_without_room_is_refused_and_nothing_is_taken(disk: Layout) -> None:
    old, _ = installed(disk, 1)
    fill(disk, but=SPARE_BYTES)
    with Client(disk) as client, pytest.raises(Refusal, match="the robot's disk has not enough room") as error:
        client.offer(big_release(2))
    assert error.value.exit_code == 4
    assert recover(disk).current == runs(disk) == old.id


def test_a_disk_that_fills_up_on_the_way_costs_nothing_that_was_sent(disk: Layout) -> None:
    old, manager = installed(disk, 1)
    made = big_release(2)
    content = made.chunks()
    staging = Staging(disk, made.envelope, made.index)
    staging.begin(made.manifest, made.signature)
    filler = fill(disk, but=600_000)  # somebody else's log
    names = staging.missing()
    with pytest.raises(OSError, match="No space left") as error:  # noqa: PT012
        for name in names:
            staging.store(content[name], [len(content[name])])
    told = error_of(error.value)
    assert told["exit_code"] == 4
    assert "the robot's disk refused" in told["text"]
    assert "edgevla deploy gc" in told["text"]
    assert recover(disk).current == old.id
    filler.unlink()
    again = Staging(disk, made.envelope, made.index)
    again.begin(made.manifest, made.signature)
    assert 0 < len(again.missing()) < len(names)
    stage(disk, made)
    assert install(disk, made, tools_with(manager))[0].good


def test_an_install_on_a_disk_that_fills_up_leaves_what_runs(disk: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room was there when it was looked for: with more and more of it the venv, the record, the links are reached."""
    old, manager = installed(disk, 1)
    made, failed = make_release(2), set()
    monkeypatch.setattr(unpack, "require_space", lambda *_: None)
    stage(disk, made)
    for room in range(0, 200_000, 4_096):
        filler, events = fill(disk, but=room), list[Mapping[str, Any]]()
        outcome = Install(disk, made.id, tools_with(manager), Options(), events.append).run()
        filler.unlink()
        assert recover(disk).current == runs(disk)
        check_release(disk, runs(disk) or "")
        if outcome.good:
            break
        assert runs(disk) == old.id
        assert "No space left on device" in outcome.why, outcome
        failed |= {event["name"] for event in events if event.get("failed")}
    assert outcome == Outcome(made.id, True, "")
    assert runs(disk) == made.id
    assert failed >= {"unpack"}


@pytest.mark.parametrize("moment", ["stop", "start", "health"])
def test_the_way_back_needs_no_room(disk: Layout, moment: str) -> None:
    """The service's own log takes the last block while the release is on trial."""
    old, _ = installed(disk, 1)
    made = make_release(2)
    stage(disk, made)

    class Writes(Recorder):
        def _asked(self, call: str) -> None:
            super()._asked(call)
            if call in (moment, f"{moment} {made.id}") and not (disk.prefix / "filler").exists():
                fill(disk, but=0)

        def health(self, ticks: int, timeout_s: float) -> Health:
            self._asked("health")
            return super().health(ticks, timeout_s)

    manager = Writes(disk, active=True)
    outcome = Install(disk, made.id, tools_with(manager), Options(), lambda _: None).run()
    assert not outcome.good
    assert "No space left on device" in outcome.why
    assert (runs(disk), manager.active) == (old.id, True)
    (disk.prefix / "filler").unlink()
    recover(disk)
    assert read_state(disk) == State((old.id,), None, 1)


def test_state_stays_as_it_was_when_it_cannot_be_replaced(disk: Layout) -> None:
    old, _ = installed(disk, 1)
    before = disk.state.read_bytes()
    fill(disk, but=0)
    with pytest.raises(OSError) as error:
        change_state(disk, lambda state: State(tuple(f"{n:032x}" for n in range(200)), None, 1))
    assert error.value.errno == errno.ENOSPC
    assert disk.state.read_bytes() == before
    assert [path for path in disk.prefix.iterdir() if path.name.endswith(".new")] == []
    assert recover(disk).current == old.id


def test_a_disk_that_may_not_be_written_is_one_sentence(disk: Layout) -> None:
    old, _ = installed(disk, 1)
    place = disk.prefix.parent
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        with Client(disk) as client:
            assert client.ask("hello")["current"] == old.id
            with pytest.raises(Refusal, match="Read-only file system") as error:
                client.offer(make_release(2))
        assert "mount it for writing" in str(error.value)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def test_a_prefix_of_another_user_is_one_sentence(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere: permissions are tested as an ordinary user")
    layout = new_robot(folder / "edgevla")
    layout.prefix.chmod(0o555)
    try:
        with Client(layout) as client, pytest.raises(Refusal, match="Permission denied"):
            client.offer(make_release(1))
    finally:
        layout.prefix.chmod(0o755)
    with pytest.raises(BadInput):
        read_state(Layout(folder / "edgevla" / "etc" / "trust.json"))
