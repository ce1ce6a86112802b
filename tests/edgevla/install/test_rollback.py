"""Rollback and clean-up: only to what was good here, and never without a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevla.errors import BadInput, Refused
from edgevla.install.layout import Layout, linked_id
from edgevla.install.releases import back_to, collect, discard_release, list_releases, superfluous
from edgevla.install.rollback import Rollback
from edgevla.install.state import read_state
from edgevla.install.steps import Options, Outcome
from tests.edgevla.install.kit import Made, Recorder, make_release, new_robot, runs, tools_with
from tests.edgevla.install.test_install import install, installed


@pytest.fixture
def robot(folder: Path) -> Layout:
    return new_robot(folder / "edgevla")


def three(robot: Layout) -> tuple[list[Made], Recorder]:
    made = [installed(robot, counter) for counter in (1, 2, 3)]
    return [one for one, _ in made], made[-1][1]


def roll_back(robot: Layout, manager: Recorder, wanted: str | None = None, torque: str = "off") -> Outcome:
    return Rollback(robot, wanted, tools_with(manager, torque), Options(), lambda _: None).run()


def test_it_goes_to_the_one_before_and_back_again(robot: Layout) -> None:
    made, manager = three(robot)
    assert roll_back(robot, manager) == Outcome(made[1].id, True, "")
    assert (runs(robot), linked_id(robot.previous)) == (made[1].id, made[2].id)
    assert read_state(robot).counter_floor == 3
    assert roll_back(robot, manager).id == made[2].id


def test_it_goes_to_the_one_that_is_named(robot: Layout) -> None:
    made, manager = three(robot)
    assert roll_back(robot, manager, made[0].id).good
    assert runs(robot) == made[0].id
    assert manager.calls == ["stop", f"start {made[0].id}", "health"]


@pytest.mark.parametrize("failing", ["start", "health"])
def test_a_rollback_that_fails_returns_to_what_ran(robot: Layout, failing: str) -> None:
    made, manager = three(robot)
    manager.failing = {f"start {made[1].id}" if failing == "start" else failing}
    outcome = roll_back(robot, manager)
    assert not outcome.good
    assert runs(robot) == made[2].id
    assert manager.calls[-1] == f"start {made[2].id}"


def test_there_must_be_one_that_was_good(robot: Layout) -> None:
    made, manager = installed(robot, 1)
    never = make_release(2)
    install(robot, never, tools_with(manager, golden="differs"))
    assert "no release to go back to" in roll_back(robot, manager).why
    assert "no release to go back to" in roll_back(robot, manager, never.id).why
    with pytest.raises(Refused, match="which runs already"):
        back_to(robot, made.id)
    assert runs(robot) == made.id


def test_a_damaged_release_is_not_gone_back_to(robot: Layout) -> None:
    made, manager = three(robot)
    (robot.release(made[1].id) / "bundle" / "model" / "head.onnx").write_bytes(b"rot")
    manager.calls.clear()
    assert "model/head.onnx" in roll_back(robot, manager).why
    assert (runs(robot), manager.calls) == (made[2].id, [])


def test_not_while_the_arm_has_torque(robot: Layout) -> None:
    made, manager = three(robot)
    manager.calls.clear()
    assert "torque off" in roll_back(robot, manager, torque="on").why
    assert (runs(robot), manager.calls) == (made[2].id, [])


def test_releases_are_listed_with_what_became_of_them(robot: Layout) -> None:
    made, manager = three(robot)
    never = make_release(4)
    install(robot, never, tools_with(manager, golden="stage text differs"))
    rows = {row["id"]: row for row in list_releases(robot)}
    assert [row["counter"] for row in list_releases(robot)] == [3, 2, 1, 4]
    assert (rows[made[2].id]["current"], rows[made[1].id]["previous"]) == (True, True)
    assert rows[never.id]["good"] is False
    assert "stage text differs" in rows[never.id]["why"]


def test_what_is_superfluous_is_decided_without_a_disk() -> None:
    assert superfluous("abcde", "abcd", {"a", None}, 2) == ["b", "e"]
    assert superfluous("abcd", "abcd", set(), 9) == []
    assert superfluous("abcd", "", {"d"}, 1) == ["a", "b", "c"]


def test_clean_up_never_takes_current_or_previous(robot: Layout) -> None:
    made, manager = three(robot)
    roll_back(robot, manager, made[0].id)
    assert sorted(collect(robot, 1)) == [made[1].id]  # the newest good one is previous now
    assert robot.releases_there() == sorted([made[0].id, made[2].id])
    with pytest.raises(BadInput, match="keep"):
        collect(robot, 0)
    with pytest.raises(Refused, match="the current one"):
        discard_release(robot, made[0].id)
