"""The boot selector: over every combination of small states, and on a real disk."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.install import select
from edgevla.install.durable import replace_link
from edgevla.install.layout import Layout, link_to, linked_id
from edgevla.install.lock import InstallLock, this_holder
from edgevla.install.place import PLACES, RULES, place_units
from edgevla.install.select import AGAIN, Snapshot, count, decide, no_installer, recover
from edgevla.install.settings import new_digest, replace_settings
from edgevla.install.state import MAX_TRIES, State, Trial, change_state, encode_state, read_state
from tests.edgevla.install.kit import make_release, new_robot

IDS = ("a" * 32, "b" * 32, "c" * 32)


def every_snapshot() -> Iterator[Snapshot]:
    """Three releases: each there or not, good in any order, on trial with any number of tries, linked in any way."""
    links = (None, *IDS)
    goods = [order for size in range(4) for order in itertools.permutations(IDS, size)]
    trials = [None, *(Trial(one, tries) for one in IDS for tries in range(MAX_TRIES + 2))]
    wholes = [frozenset(some) for size in range(4) for some in itertools.combinations(IDS, size)]
    for good, trial, whole, current, previous in itertools.product(goods, trials, wholes, links, links):
        yield Snapshot(State(good, trial, 7), current, previous, whole)


def test_every_small_state_has_a_sound_and_final_decision() -> None:
    seen = 0
    for found in every_snapshot():
        seen += 1
        made = decide(found)
        good_there = [one for one in found.state.good if one in found.whole]
        on_trial = found.state.trial is not None and found.state.trial.id == found.current
        fresh = on_trial and found.state.trial is not None and found.state.trial.tries < MAX_TRIES
        if good_there:  # never none when one was good before
            assert made.current in found.whole, found
        if made.current is not None:
            assert made.current in good_there or (fresh and made.current == found.current), found
        if found.current in good_there:  # a good release that runs is never left
            assert made.current == found.current, found
        if made.current != found.current and found.previous in good_there:
            assert made.current == found.previous, found
        assert made.state.good == tuple(good_there), found
        assert made.state.counter_floor == 7
        assert made.state.trial is None or made.state.trial.id == made.current, found
        assert made.previous is None or (made.previous in good_there and made.previous != made.current), found
        for half in (  # what `recover` leaves when it is cut off: before and after each of its three changes
            replace(found, current=made.current),
            replace(found, current=made.current, previous=made.previous),
            Snapshot(made.state, made.current, made.previous, found.whole),
        ):
            again = decide(half)
            assert (again.state, again.current, again.previous) == (made.state, made.current, made.previous), found
    assert seen == 16 * 13 * 8 * 4 * 4


@pytest.fixture
def robot(folder: Path) -> Layout:
    return new_robot(folder / "edgevla")


def put(layout: Layout, counter: int) -> str:
    """A release folder as far as the selector looks."""
    made = make_release(counter)
    made.write(layout.release(made.id) / "bundle")
    launcher = layout.release(made.id) / "venv" / "bin" / "edgevla"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("#!/bin/sh\n")
    return made.id


def everything(layout: Layout) -> dict[str, object]:
    return {
        "current": linked_id(layout.current),
        "previous": linked_id(layout.previous),
        "state": layout.state.read_bytes(),
        "names": sorted(path.name for path in layout.prefix.iterdir()),
        "waste": sorted(layout.staging.rglob("*")),
    }


def test_a_release_on_trial_gets_two_starts_and_then_the_old_one_returns(robot: Layout) -> None:
    old, new = put(robot, 1), put(robot, 2)
    change_state(robot, lambda state: state.marked_good(old, 1).on_trial(new))
    replace_link(robot.previous, link_to(old))
    replace_link(robot.current, link_to(new))
    for _ in range(MAX_TRIES):
        assert recover(robot).current == new
        count(robot)
    decision = recover(robot)
    assert decision.current == linked_id(robot.current) == old
    assert "not marked good in 2 starts" in decision.why
    assert read_state(robot) == State((old,), None, 1)
    before = everything(robot)
    recover(robot)
    assert everything(robot) == before


def test_settings_of_an_interrupted_deploy_stay_while_its_release_is_on_trial_and_no_longer(robot: Layout) -> None:
    old, new = put(robot, 1), put(robot, 2)
    change_state(robot, lambda state: state.marked_good(old, 1).on_trial(new))
    replace_link(robot.previous, link_to(old))
    replace_link(robot.current, link_to(new))
    robot.robot.parent.mkdir(exist_ok=True)
    robot.robot.write_bytes(b"old")
    replace_settings(robot, b"new")
    recover(robot)
    assert robot.robot.read_bytes() == b"new"
    for _ in range(MAX_TRIES):
        count(robot)
    assert recover(robot).current == old
    assert robot.robot.read_bytes() == b"old"
    assert not robot.robot_before.exists()


def test_settings_that_were_marked_good_with_their_release_stay_and_only_those(robot: Layout) -> None:
    old, new = put(robot, 1), put(robot, 2)
    robot.robot.parent.mkdir(exist_ok=True)
    robot.robot.write_bytes(b"old")
    replace_settings(robot, b"new")
    digest = new_digest(robot)
    change_state(robot, lambda state: state.marked_good(old, 1).marked_good(new, 2, digest))
    replace_link(robot.current, link_to(new))
    recover(robot)  # the power was cut before the ones before were removed
    assert (robot.robot.read_bytes(), robot.robot_before.exists()) == (b"new", False)
    assert read_state(robot) == State((old, new), None, 2)
    replace_settings(robot, b"newer")
    recover(robot)
    assert (robot.robot.read_bytes(), robot.robot_before.exists()) == (b"new", False)


def test_without_a_good_release_current_is_removed(robot: Layout) -> None:
    new = put(robot, 1)
    replace_link(robot.current, link_to(new))
    assert recover(robot).current is None
    assert not robot.current.is_symlink()


def test_a_dangling_current_returns_to_the_newest_good_release(robot: Layout) -> None:
    first, second = put(robot, 1), put(robot, 2)
    change_state(robot, lambda state: state.marked_good(first, 1).marked_good(second, 2))
    robot.current.symlink_to("releases/" + "d" * 32)
    assert recover(robot).current == second
    assert linked_id(robot.previous) == first


def test_a_release_whose_manifest_is_another_one_is_not_there(robot: Layout) -> None:
    old, new = put(robot, 1), put(robot, 2)
    change_state(robot, lambda state: state.marked_good(old, 1).marked_good(new, 2))
    replace_link(robot.current, link_to(new))
    manifest = robot.release(new) / "bundle" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert recover(robot).current == old


def test_leftovers_of_a_power_cut_are_removed(robot: Layout) -> None:
    (robot.waste / "gone" / "deep").mkdir(parents=True)
    (robot.prefix / ".state.json.new").write_bytes(b"half")
    (robot.prefix / ".current.new").symlink_to("releases/x")
    recover(robot)
    assert not list(robot.waste.iterdir())
    assert not [path for path in robot.prefix.iterdir() if path.name.endswith(".new")]


def test_a_link_that_is_a_text_of_another_form_is_replaced(robot: Layout) -> None:
    old = put(robot, 1)
    change_state(robot, lambda state: state.marked_good(old, 1))
    robot.current.symlink_to(robot.release(old))  # absolute: the prefix could not be moved
    assert recover(robot).current == old
    assert robot.current.readlink() == Path(link_to(old))


def call(layout: Layout, *words: str) -> tuple[int, dict[str, object], str]:
    """As the units call it: by path, isolated, with no PYTHONPATH to help."""
    command = [sys.executable, "-I", str(Path(select.__file__)), str(layout.prefix), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_the_command_recovers_and_counts_by_path(robot: Layout) -> None:
    old, new = put(robot, 1), put(robot, 2)
    change_state(robot, lambda state: state.marked_good(old, 1).on_trial(new))
    replace_link(robot.current, link_to(new))
    assert call(robot, "recover")[:2] == (
        0,
        {"current": new, "tries": 0, "why": "the current release is on trial, 0 of 2 starts used"},
    )
    assert call(robot, "count")[1]["tries"] == 1
    assert call(robot, "count")[1]["tries"] == 2
    assert call(robot)[1]["current"] == old


def test_while_an_installer_is_at_work_the_selector_only_counts(robot: Layout) -> None:
    new = put(robot, 1)
    change_state(robot, lambda state: state.on_trial(new))  # `current` is switched a moment later
    lock = InstallLock.take(robot, this_holder())
    code, said, _ = call(robot, "recover")
    assert (code, said["why"]) == (0, "an installer is at work, and decides")
    assert call(robot, "count")[1]["tries"] == 0  # another one starts
    replace_link(robot.current, link_to(new))
    assert call(robot, "count")[1]["tries"] == 1
    robot.current.unlink()
    assert read_state(robot).trial == Trial(new, 1)
    lock.close()
    call(robot, "recover")
    assert read_state(robot).trial is None


def test_a_damaged_state_stops_no_robot_that_runs(robot: Layout) -> None:
    old = put(robot, 1)
    replace_link(robot.current, link_to(old))
    robot.state.write_bytes(b'{"schema": 1, "good"')
    code, said, errors = call(robot, "recover")
    assert (code, said) == (0, {})
    assert "state.json is damaged" in errors
    assert linked_id(robot.current) == old
    robot.current.unlink()
    assert call(robot, "recover")[0] == 4


def test_a_wrong_call_is_usage(robot: Layout) -> None:
    assert call(robot, "remove")[0] == 2
    assert call(robot, "recover", "count")[0] == 2
    assert select.main([]) == 2


def test_a_robot_with_nothing_installed_is_no_error(robot: Layout) -> None:
    assert call(robot, "recover")[:2] == (
        0,
        {"current": None, "tries": None, "why": "there was no current release; no release is good"},
    )
    assert read_state(robot) == State()
    assert robot.state.read_bytes() == encode_state(State())


def lock_made_by_hand(layout: Layout) -> Path:
    layout.lock.touch()
    layout.lock.chmod(0o644)
    return layout.lock


def test_a_lock_that_others_may_open_is_theirs_no_longer(robot: Layout) -> None:
    path = lock_made_by_hand(robot)
    InstallLock.take(robot, this_holder()).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path = lock_made_by_hand(robot)
    with no_installer(robot) as alone:
        assert alone
    assert path.stat().st_mode & 0o777 == 0o600
    robot.state_lock.touch()
    robot.state_lock.chmod(0o666)
    change_state(robot, State.without_trial)
    assert robot.state_lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_a_link_is_not_followed(robot: Layout, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    robot.lock.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        InstallLock.take(robot, this_holder())


def units_for(prefix: Path, comment: str) -> dict[str, bytes]:
    unit = f"[Unit]\n# {comment}\nConditionPathExists={prefix}/current\n".encode()
    return {"runtime/units/edgevla.service": unit, f"runtime/units/{RULES}": f"# {comment}\n".encode()}


@pytest.fixture
def placed(robot: Layout, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root where the units of a failed release are placed; what systemctl is told stands in its file `told`."""
    root, tools = folder / "root", folder / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$*" >> {folder}/told\n')
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    old, failed = (make_release(n, extra=units_for(robot.prefix, f"of {n}")) for n in (1, 2))
    for made in (old, failed):
        made.write(robot.release(made.id) / "bundle")
        (robot.release(made.id) / "venv" / "bin").mkdir(parents=True)
        (robot.release(made.id) / "venv" / "bin" / "edgevla").touch()
    change_state(robot, lambda now: replace(now, good=(old.id,), trial=Trial(failed.id, MAX_TRIES)))
    replace_link(robot.current, link_to(failed.id))
    replace_link(robot.previous, link_to(old.id))
    place_units(robot.release(failed.id) / "bundle" / "runtime" / "units", root)
    return root


def test_a_return_brings_the_units_of_the_good_release_back_and_has_systemd_begin_again(
    robot: Layout, placed: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert select.main([str(robot.prefix), "recover"], placed) == AGAIN
    assert json.loads(capsys.readouterr().out)["units"] == "brought back"
    for name in ("edgevla.service", RULES):
        assert "of 1" in (placed / PLACES[name]).read_text()
    assert (folder / "told").read_text() == "daemon-reload\n"
    assert select.main([str(robot.prefix), "recover"], placed) == 0  # the start that systemd begins anew
    assert (folder / "told").read_text() == "daemon-reload\n"


def test_units_stay_where_the_release_is_on_trial_or_another_prefix_or_installer_is_concerned(
    robot: Layout, placed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = placed / PLACES["edgevla.service"]
    change_state(robot, lambda now: replace(now, trial=Trial(now.trial.id, 0)) if now.trial else now)
    assert select.main([str(robot.prefix)], placed) == 0  # on trial: its own are placed
    change_state(robot, lambda now: replace(now, trial=Trial(now.trial.id, MAX_TRIES)) if now.trial else now)
    lock = InstallLock.take(robot, this_holder())
    assert select.main([str(robot.prefix)], placed) == 0
    lock.close()
    assert "of 2" in service.read_text()
    service.write_text("[Unit]\nConditionPathExists=/opt/another/current\n")
    assert select.main([str(robot.prefix)], placed) == 0
    assert service.read_text() == "[Unit]\nConditionPathExists=/opt/another/current\n"
    capsys.readouterr()


def test_where_units_cannot_be_written_the_service_starts_all_the_same(
    robot: Layout, placed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = placed / PLACES["edgevla.service"]
    (service.parent / ".edgevla.service.new").mkdir()  # in the way of what is written beside, also for root
    assert select.main([str(robot.prefix)], placed) == 0
    said = capsys.readouterr()
    assert "its units cannot be brought back" in said.err
    assert json.loads(said.out)["units"] == "of another release"
    assert "of 2" in service.read_text()
