"""The judgement of a state: a sound robot passes, and each thing that must not be is seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.install.durable import replace_link
from edgevla.install.layout import Layout, link_to
from edgevla.install.state import change_state
from tests.edgevla.install.kit import new_robot
from tests.edgevla.install.test_install import installed
from tests.powercut.boot import Expected
from tests.powercut.judge import Judge, Pool, digest_of, whole
from tests.powercut.model import ROOT, Data, Entry
from tests.powercut.replay import Replay
from tests.powercut.trees import Trees

OTHER = "f" * 32


@pytest.fixture
def robot(tmp_path: Path) -> Layout:
    """One good release, an installer and settings."""
    layout = new_robot(tmp_path / "edgevla")
    layout.robot.write_text("settings")
    installed(layout, 1)
    (layout.agents / OTHER).mkdir(exist_ok=True)
    replace_link(layout.agent, OTHER)
    layout.launcher.write_text("#!/bin/sh")
    return layout


def judged(layout: Layout, spoil: Callable[[Replay], None] = lambda replay: None, **expected: object) -> str:
    """The verdict on the robot's folder after `spoil`; the folder itself makes room for the state."""
    replay = Replay(layout.prefix, layout.prefix)
    replay.load(layout.prefix)
    releases, agents = whole(replay, "releases"), whole(replay, "agent")
    wanted = Expected("", False, (layout.robot.read_bytes(),) * 2, (layout.trust.read_bytes(),) * 2)
    layout.prefix.rename(layout.prefix.with_name("aside"))
    spoil(replay)
    trees = Trees(replay.disk)
    judge = Judge(trees, releases, agents, layout.prefix, layout.prefix.with_name("work"))
    return judge.judge(trees.image(len(replay.disk.operations)), replace(wanted, **expected), True)


def inode_of(replay: Replay, path: str) -> int:
    trees = Trees(replay.disk)
    return dict(trees.walk(trees.image(len(replay.disk.operations)), ROOT))[path]


def test_a_good_release_passes(robot: Layout) -> None:
    assert judged(robot) == ""


def test_releases_that_are_missing_are_lost(robot: Layout) -> None:
    def lose(replay: Replay) -> None:
        replay.disk.operations.append(Entry(ROOT, "releases", None))

    assert judged(robot, lose) == "no release is current"


@pytest.mark.parametrize("file", ["bundle/manifest.sig", "venv/pyvenv.cfg", "venv/bin/edgevla"])
def test_one_altered_byte_of_the_release_is_seen(robot: Layout, file: str) -> None:
    current = os.readlink(robot.current)

    def alter(replay: Replay) -> None:
        replay.disk.operations.append(Data(inode_of(replay, f"{current}/{file}"), 0, b"\0"))

    said = judged(robot, alter)
    assert "is not whole" in said or "the verifier refuses" in said


def test_settings_of_another_release_are_seen(robot: Layout) -> None:
    assert "does not have its settings" in judged(robot, settings=(b"others", b"others"))


def test_a_trust_store_of_a_release_that_is_not_good_is_seen(robot: Layout) -> None:
    assert "trust.json" in judged(robot, trust=(b"before", b"after"))


def test_a_release_on_trial_must_leave_a_good_one_behind(robot: Layout) -> None:
    good = os.readlink(robot.current).removeprefix("releases/")
    new, _ = installed(robot, 2)
    change_state(robot, lambda state: state.without(new.id).on_trial(new.id))
    assert judged(robot, new=new.id) == ""

    def forget(replay: Replay) -> None:
        replay.disk.operations.append(Entry(inode_of(replay, "releases"), good, None))

    shutil.rmtree(robot.prefix.with_name("work"))
    robot.prefix.with_name("aside").rename(robot.prefix)
    replace_link(robot.current, link_to(new.id))
    assert judged(robot, forget, new=new.id) == "after a release had used up its starts: no release is current"


def test_a_folder_that_was_lent_and_changed_is_noticed_and_not_lent_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("as it was")
    replay = Replay(source, source)
    replay.load(source)
    trees = Trees(replay.disk)
    found = trees.image(len(replay.disk.operations))
    pool, place = Pool(tmp_path / "pool"), tmp_path / "releases" / "one"
    place.parent.mkdir()
    pool.lend(trees, found, ROOT, place)
    assert (pool.digest(place), pool.take_back()) == (digest_of(source), "")
    pool.lend(trees, found, ROOT, place)
    (place / "file").write_text("As it was")
    assert pool.take_back() == "something in releases/one was changed at boot"
    pool.lend(trees, found, ROOT, place.with_name("two"))
    assert place.with_name("two").joinpath("file").read_text() == "as it was"
