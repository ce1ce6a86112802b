"""The steps of an install: their order, and what runs after a failure in each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgevla.install.after import catch_up
from edgevla.install.durable import replace_link
from edgevla.install.install import Install
from edgevla.install.layout import Layout, linked_id
from edgevla.install.rollback import Rollback
from edgevla.install.state import State, Trial, change_state, read_state
from edgevla.install.steps import Options, Outcome
from edgevla.install.tools import Tools
from edgevla.install.unpack import check_release
from edgevla.install.work import begin_work
from edgevla.trust.store import TrustStore, parse_store, pinned
from tests.edgevla.install.kit import (
    WHEEL,
    Made,
    Recorder,
    make_release,
    new_key,
    new_robot,
    runs,
    stage,
    tools_with,
    wheel_bytes,
)

STEPS = ["verify", "torque", "unpack", "stop", "engines", "golden", "self-test", "switch", "start", "health", "good"]


@pytest.fixture
def robot(folder: Path) -> Layout:
    return new_robot(folder / "edgevla")


def install(layout: Layout, made: Made, tools: Tools, **options: Any) -> tuple[Outcome, list[Mapping[str, Any]]]:
    """Staged, unless it is unpacked, and installed."""
    if not layout.release(made.id).exists():
        stage(layout, made)
    events: list[Mapping[str, Any]] = []
    outcome = Install(layout, made.id, tools, Options(**options), events.append).run()
    return outcome, events


def installed(layout: Layout, counter: int, **release: Any) -> tuple[Made, Recorder]:
    """A good release that runs."""
    made, manager = make_release(counter, **release), Recorder(layout)
    outcome, _ = install(layout, made, tools_with(manager))
    assert outcome.good, outcome
    manager.calls.clear()
    return made, manager


def test_every_step_in_its_order_and_the_release_is_good(robot: Layout) -> None:
    made, manager = make_release(3), Recorder(robot)
    outcome, events = install(robot, made, tools_with(manager))
    assert outcome == Outcome(made.id, True, "")
    assert [event["name"] for event in events if event.get("done")] == STEPS
    assert {event["of"] for event in events} == {11}
    assert manager.calls == [
        "stop",
        *(f"{name} {made.id}" for name in ("engines", "golden", "selftest", "start")),
        "health",
    ]
    assert read_state(robot) == State((made.id,), None, 3)
    assert linked_id(robot.current) == made.id
    assert not robot.previous.is_symlink()
    assert not robot.staged(made.id).exists()
    assert robot.chunk_index(made.id).read_bytes() == made.index
    check_release(robot, made.id)
    record = json.loads((robot.release(made.id) / "installed.json").read_text())
    assert [trial["name"] for trial in record["trials"]] == ["engines", "golden", "selftest"]


def test_before_the_stop_nothing_of_the_release_was_started(robot: Layout) -> None:
    """On trial before current; trials before the switch; good after the health window."""
    made = make_release(1)
    seen: list[tuple[str, str | None, Trial | None, int]] = []

    class Watching(Recorder):
        def _asked(self, call: str) -> None:
            seen.append(
                (call.split()[0], linked_id(robot.current), read_state(robot).trial, len(read_state(robot).good))
            )

    stage(robot, made)
    assert Install(robot, made.id, tools_with(Watching(robot)), Options(), lambda _: None).run().good
    assert seen == [("stop", None, None, 0), ("start", made.id, Trial(made.id, 1), 0)]


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ({"torque": "on"}, "torque"),
        ({"engines": "TensorRT is not installed"}, "engines"),
        ({"golden": "stage text differs"}, "golden"),
        ({"selftest": "camera corner is silent"}, "self-test"),
        ({"failing": "stop"}, "stop"),
        ({"failing": "start"}, "start"),
        ({"failing": "health"}, "health"),
        ({"failing": "units"}, "start"),
    ],
)
@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "first"])
def test_a_failure_at_any_step_returns_to_what_ran(
    robot: Layout, broken: dict[str, str], step: str, upgrade: bool
) -> None:
    units = {"runtime/units/edgevla.service": b"[Unit]\n"}
    old, manager = installed(robot, 1, extra=units) if upgrade else (None, Recorder(robot))
    made = make_release(2, extra=units)
    first = broken.get("failing")
    manager.failing = {f"{first} {made.id}" if first in ("start", "units") else first} if first else set()
    reasons = {name: text for name, text in broken.items() if name != "failing"}
    outcome, events = install(robot, made, tools_with(manager, **reasons))

    assert not outcome.good
    assert [event["name"] for event in events if event.get("failed")] == [step]
    done = [event["name"] for event in events if event.get("done")]
    assert done == STEPS[: STEPS.index(step)]
    assert read_state(robot).trial is None
    assert read_state(robot).counter_floor == (1 if upgrade else 0)
    assert linked_id(robot.current) == (old.id if old else None)
    if first != "stop":
        assert outcome.warnings == ()
        assert manager.active is upgrade
        if upgrade and step != "torque":
            assert manager.calls[-1] == f"start {old.id if old else ''}"
            assert manager.calls[-2] == f"units {old.id if old else ''}"
        record = robot.release(made.id) / "installed.json"
        assert step == "torque" or json.loads(record.read_text())["why"] == outcome.why
    else:
        assert "stop fails" in outcome.warnings[0]


def test_a_second_try_of_a_release_that_failed_needs_no_second_transfer(robot: Layout) -> None:
    old, manager = installed(robot, 1)
    made = make_release(2)
    assert not install(robot, made, tools_with(manager, golden="stage text differs"))[0].good
    assert runs(robot) == old.id
    outcome, _ = install(robot, made, tools_with(manager))
    assert outcome.good
    assert runs(robot) == made.id
    assert linked_id(robot.previous) == old.id


def test_the_same_release_again_is_already_installed(robot: Layout) -> None:
    made, manager = installed(robot, 1)
    outcome, events = install(robot, made, tools_with(manager))
    assert (outcome.good, outcome.why, events, manager.calls) == (True, "already installed", [], [])


def test_a_good_release_that_came_back_and_is_sick_gives_way_again(robot: Layout) -> None:
    first, manager = installed(robot, 1)
    second = make_release(2)
    install(robot, second, tools_with(manager))
    manager.failing = {f"start {first.id}"}
    outcome, _ = install(robot, first, tools_with(manager))
    assert not outcome.good
    assert runs(robot) == second.id
    assert read_state(robot).good == (first.id, second.id)


@pytest.mark.parametrize(
    ("counter", "said"), [(4, "older than one that was good here"), (5, "another release with the")]
)
def test_a_lower_or_equal_counter_is_refused(robot: Layout, counter: int, said: str) -> None:
    old, manager = installed(robot, 5)
    outcome, _ = install(robot, make_release(counter, extra={"x.bin": b"x"}), tools_with(manager))
    assert (outcome.good, outcome.exit_code) == (False, 1)
    assert said in outcome.why
    assert (runs(robot), manager.calls) == (old.id, [])


@pytest.mark.parametrize(
    ("release", "said"),
    [({"arch": "riscv64"}, "riscv64 with Python"), ({"python": "3.4"}, "with Python 3.4")],
)
def test_a_release_for_another_machine_is_refused(robot: Layout, release: dict[str, str], said: str) -> None:
    outcome, _ = install(robot, make_release(1, **release), tools_with(Recorder(robot)))
    assert outcome.exit_code == 1
    assert said in outcome.why


def test_a_strange_signature_is_refused_before_anything_of_it_is_used(robot: Layout) -> None:
    manager = Recorder(robot)
    outcome, events = install(robot, make_release(1, key=new_key(9)), tools_with(manager))
    assert (outcome.exit_code, manager.calls) == (4, [])
    assert "signature is wrong" in outcome.why
    assert [event["name"] for event in events if event.get("failed")] == ["verify"]


def test_every_byte_of_staging_is_verified_once_more(robot: Layout) -> None:
    made = make_release(1)
    stage(robot, made)
    path = robot.staged(made.id) / "release" / "bundle" / "model" / "head.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    outcome = Install(robot, made.id, tools_with(Recorder(robot)), Options(), lambda _: None).run()
    assert "model/head.onnx: the bundle is damaged or altered" in outcome.why
    assert not robot.release(made.id).exists()


def test_what_is_not_here_is_one_sentence(robot: Layout) -> None:
    outcome = Install(robot, "f" * 32, tools_with(Recorder(robot)), Options(), lambda _: None).run()
    assert f"release {'f' * 32} is not here" in outcome.why


def test_unknown_torque_of_a_running_service_is_refused_unless_somebody_vouches(robot: Layout) -> None:
    _, manager = installed(robot, 1)
    made = make_release(2)
    assert "torque off" in install(robot, made, tools_with(manager, torque="unknown"))[0].why
    assert install(robot, made, tools_with(manager, torque="unknown"), accept_unknown_torque=True)[0].good


def test_where_no_service_runs_the_verified_release_looks_at_the_arm(robot: Layout) -> None:
    manager, made = Recorder(robot), make_release(1)
    outcome, events = install(robot, made, tools_with(manager, torque="unknown on"))
    assert (outcome.exit_code, manager.calls) == (1, [])
    assert [event["name"] for event in events if event.get("failed")] == ["stop"]
    assert install(robot, made, tools_with(manager, torque="unknown off"))[0].good


@pytest.mark.parametrize(
    ("torque", "vouched", "first", "second"),
    [
        ("off", False, "the arm's torque is off", None),
        (
            "unknown",
            True,
            "the arm's torque is not known (said by the test); somebody said that it is at rest",
            "unknown",
        ),
        (
            "unknown off",
            False,
            "the arm's torque is not known (said by the test); nobody said that it is at rest",
            "off",
        ),
    ],
)
def test_the_step_says_what_is_known_of_the_torque(
    robot: Layout, torque: str, vouched: bool, first: str, second: str | None
) -> None:
    tools = tools_with(Recorder(robot), torque=torque)
    _, events = install(robot, make_release(1), tools, accept_unknown_torque=vouched)
    texts = {event["name"]: event["text"] for event in events if event.get("done")}
    begun = {event["name"]: event["text"] for event in events if "done" not in event}
    assert texts["torque"] == first
    assert "off" not in begun["torque"]  # it is not known before the look
    figures = {event["name"]: event["figures"] for event in events if event.get("done")}
    assert figures["stop"].get("torque") == second
    assert "said" not in figures["torque"]


def test_a_selector_that_gave_up_the_trial_meanwhile_wins(robot: Layout) -> None:
    old, _ = installed(robot, 1)
    made = make_release(2)

    class Rebooted(Recorder):
        def health(self, ticks: int, timeout_s: float) -> Any:
            replace_link(robot.current, f"releases/{old.id}")
            change_state(robot, State.without_trial)
            return super().health(ticks, timeout_s)

    outcome, _ = install(robot, made, tools_with(Rebooted(robot)))
    assert "not current any more" in outcome.why
    assert runs(robot) == old.id


def test_a_failure_of_the_log_itself_returns_too(robot: Layout) -> None:
    old, manager = installed(robot, 1)
    made = make_release(2)
    stage(robot, made)

    def full(event: Mapping[str, Any]) -> None:
        if event["name"] == "health":
            raise OSError(28, "No space left on device")

    outcome = Install(robot, made.id, tools_with(manager), Options(), full).run()
    assert "No space left on device" in outcome.why
    assert runs(robot) == old.id
    assert manager.calls[-1] == f"start {old.id}"


def test_the_newest_good_releases_stay_and_others_go(robot: Layout) -> None:
    made = [installed(robot, counter)[0] for counter in (1, 2, 3, 4)]
    failed, manager = make_release(5), Recorder(robot)
    install(robot, failed, tools_with(manager, golden="differs"), keep=2)
    assert robot.release(failed.id).exists()
    last = make_release(6)
    assert install(robot, last, tools_with(manager), keep=2)[0].warnings == ()
    assert robot.releases_there() == sorted([made[3].id, last.id])
    assert read_state(robot).good == (made[3].id, last.id)
    assert sorted(path.stem for path in robot.chunks.iterdir()) == robot.releases_there()
    assert [entry.name for entry in robot.staging.iterdir()] == [".waste"]
    assert not list(robot.waste.iterdir())


def trust_with(*seeds: int, serial: int, revoked: tuple[str, ...] = ()) -> TrustStore:
    return TrustStore(serial, pinned(new_key(seed).public for seed in seeds).keys, revoked)


def test_a_trust_update_counts_once_its_release_is_good(robot: Layout) -> None:
    update = trust_with(1, 2, serial=2, revoked=(new_key(1).public.id,))
    rotating = make_release(1, extra={"trust/trust.json": update.to_bytes()})
    manager = Recorder(robot)
    assert not install(robot, rotating, tools_with(manager, golden="differs"))[0].good
    assert parse_store(robot.trust.read_bytes()).serial == 1
    assert install(robot, rotating, tools_with(manager))[0] == Outcome(rotating.id, True, "")
    assert parse_store(robot.trust.read_bytes()).revoked == (new_key(1).public.id,)
    refused, _ = install(robot, make_release(2), tools_with(manager))
    assert "revoked key" in refused.why
    assert install(robot, make_release(2, key=new_key(2)), tools_with(manager))[0].good


def test_what_a_power_cut_kept_back_is_done_at_the_next_contact(robot: Layout) -> None:
    update = trust_with(1, 2, serial=2)
    first = make_release(1, extra={"trust/trust.json": update.to_bytes()})
    manager = Recorder(robot)
    install(robot, first, tools_with(manager))
    robot.trust.write_bytes(trust_with(1, serial=1).to_bytes())  # the cut came between mark and update
    begin_work(robot).close()
    assert robot.trust.read_bytes() == update.to_bytes()
    newest = trust_with(1, 2, 3, serial=9)
    robot.trust.write_bytes(newest.to_bytes())
    begin_work(robot).close()
    assert robot.trust.read_bytes() == newest.to_bytes()
    robot.trust.write_bytes(trust_with(1, serial=1).to_bytes())
    install(robot, make_release(2), tools_with(manager))
    assert catch_up(robot) == ()  # the newest good release has no update
    assert Rollback(robot, None, tools_with(manager), Options(), lambda _: None).run().good
    assert catch_up(robot) == ()  # after a rollback the older release says nothing any more
    assert parse_store(robot.trust.read_bytes()).serial == 1


@pytest.mark.parametrize(
    ("pinned_there", "update", "said"),
    [
        (trust_with(1, serial=5), trust_with(1, 2, serial=3), "the trust update is older"),
        (
            trust_with(1, 3, serial=5, revoked=(new_key(3).public.id,)),
            trust_with(1, 2, serial=6),
            "takes back a revocation",
        ),
    ],
)
def test_a_release_whose_trust_update_is_impossible_is_refused_before_anything_happens(
    robot: Layout, pinned_there: TrustStore, update: TrustStore, said: str
) -> None:
    robot.trust.write_bytes(pinned_there.to_bytes())
    made, manager = make_release(1, extra={"trust/trust.json": update.to_bytes()}), Recorder(robot)
    outcome, events = install(robot, made, tools_with(manager))
    assert (outcome.good, outcome.exit_code, manager.calls) == (False, 4, [])
    assert said in outcome.why
    assert [event["name"] for event in events if event.get("failed")] == ["verify"]
    assert not robot.release(made.id).exists()
    assert robot.trust.read_bytes() == pinned_there.to_bytes()


def test_a_release_that_was_good_here_comes_back_though_its_trust_update_is_older_by_now(robot: Layout) -> None:
    first = make_release(1, extra={"trust/trust.json": trust_with(1, 2, serial=2).to_bytes()})
    second = make_release(2, extra={"trust/trust.json": trust_with(1, 2, 3, serial=3).to_bytes()})
    manager = Recorder(robot)
    for made in (first, second):
        assert install(robot, made, tools_with(manager))[0] == Outcome(made.id, True, "")
    outcome, _ = install(robot, first, tools_with(manager))
    assert outcome.good
    assert parse_store(robot.trust.read_bytes()).serial == 3


def test_an_installer_that_does_not_start_does_not_replace_the_one_that_does(robot: Layout) -> None:
    (robot.agents / ("0" * 32)).mkdir()
    replace_link(robot.agent, "0" * 32)
    made = make_release(1, agent_wheels=[WHEEL])  # a package `edgevla` without edgevla.install
    outcome, _ = install(robot, made, tools_with(Recorder(robot)))
    assert outcome.good
    assert "the release's installer does not start" in outcome.warnings[0]
    assert robot.agent.readlink() == Path("0" * 32)


def test_an_installer_that_starts_replaces_the_old_one(robot: Layout) -> None:
    (robot.agents / ("0" * 32)).mkdir()
    replace_link(robot.agent, "0" * 32)
    names = ("__init__", "install/__init__", "install/agent", "install/select", "cli/__init__", "cli/entry")
    wheel = wheel_bytes(files={f"edgevla/{name}.py": b"def main(): return 0\n" for name in names})
    made = make_release(1, wheels={WHEEL: wheel}, agent_wheels=[WHEEL])
    outcome, _ = install(robot, made, tools_with(Recorder(robot)))
    assert outcome == Outcome(made.id, True, "")
    assert robot.agent.readlink() == Path(made.id)
    assert (robot.agent / "edgevla" / "install" / "agent.py").is_file()
    assert [entry.name for entry in robot.agents.iterdir() if not entry.is_symlink()] == [made.id]


class Restarted(Recorder):
    """Sends itself a polite end when it starts the old release, and notes which signals what it starts ignores."""

    ignored = ""

    def start(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        self.ignored = subprocess.run(
            ["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, restore_signals=False
        ).stdout
        super().start()


def test_the_way_back_is_not_interrupted_and_what_it_starts_ignores_no_signal(robot: Layout) -> None:
    first, _ = installed(robot, 1)
    manager = Restarted(robot)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    outcome, _ = install(robot, make_release(2), tools_with(manager, golden="differs"))
    assert (outcome.good, runs(robot)) == (False, first.id)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    ignored = int(manager.ignored.split()[1], 16)
    assert not ignored & (1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1)
