"""The promise of the guard: a delay larger than the slack that it printed is red and named, half of it is green.

Real processes throughout. Each delay comes from the slack of a run just before, and medians are judged, so that a busy
host changes neither answer; ages and watchdog are generous for the same reason.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import profiles
from bench.guard.budget import load_budget
from bench.guard.document import guarded, table
from bench.guard.drive import Setup, one_segment, virtual_arm
from bench.guard.stages import stage_names
from edgevla.control.crew import Crew
from edgevla.control.plan import plan_of
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
INFERENCES = 60
GRAPHS = ("vision", "head")
BUDGET = "\n".join(
    [
        'schema = "edgevla.guard-budget/1"',
        "[sound]",
        "stolen_share = 10.0",
        "real_time = false",
        *(
            f'[[stage]]\nname = "{name}"\nquantile = 0.5\nconfidence = 0.9\nlimit_us = {limit_us}'
            for name, limit_us in {
                "capture": 12000,
                "age": 2000000,
                "policy": 14000,
                "wake": 4000,
                "bus": 6000,
                "ack": 6000,
            }.items()
        ),
    ]
)
# What is planted -> the stage that must be named, and what else lies behind it and may break with it.
PLANTS = {
    "policy": ("policy", set()),
    "servo": ("wake", {"bus"}),
    "bus": ("bus", {"ack"}),
    "line": ("ack", set()),
    "capture": ("capture", set()),
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("guard") / "tiny.bundle")
    arm = profiles.load_arm("metaworld-sawyer")
    cameras = tuple(replace(camera, max_age_s=2.0) for camera in arm.cameras)
    arm = replace(arm, watchdog_s=2.0, max_state_age_s=2.0, max_skew_s=2.0, hold_s=5.0, cameras=cameras)
    target = replace(profiles.load_target("host"), replan_ticks=4)
    plan = replace(plan_of(bundle, target, arm), engine="tests.bench.planted:slow_policy")
    return Setup(bundle, plan, GRAPHS, "open the drawer", warm_up_s=0.5)


@pytest.fixture(scope="module")
def budget(tmp_path_factory):
    path = tmp_path_factory.mktemp("budget") / "guard.toml"
    path.write_text(BUDGET)
    return load_budget(path, stage_names(GRAPHS))


@pytest.fixture(scope="module")
def slack_us(setup, budget):
    """By stage, as the guard prints it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        found, broken = run_with(setup, budget, monkeypatch, "nothing", 0.0)
    assert (found.exit_code, broken) == (0, set())
    return {c["stage"]: c["slack_us"] for c in found.document["claims"] if c["kind"] == "bounded" and c["limit_us"]}


def run_with(setup, budget, monkeypatch, what, delay_us):
    """One real run with that delay: what the guard says, and the stages that broke."""
    monkeypatch.setenv("EDGEVLA_PLANT", what)
    monkeypatch.setenv("EDGEVLA_PLANT_S", repr(delay_us / 1e6))
    start, roles = Crew.start, {"camera corner": "capture"} | ({"servo": what} if what in ("servo", "bus") else {})

    def other(self, name, module, arguments, *rest):
        planted = ("tests.bench.planted", [roles[name]]) if name in roles else (module, arguments)
        return start(self, name, *planted, *rest)

    monkeypatch.setattr(Crew, "start", other)
    if what == "line":
        monkeypatch.setattr("bench.guard.drive.virtual_arm", slow_line)
    found = guarded(setup, budget, [one_segment(setup, INFERENCES, print)], {})
    print(*table(found.claims), found.reasons, sep="\n")
    return found, {claim.stage for claim in found.broken}


@contextmanager
def slow_line(plan):
    with virtual_arm(plan) as port:
        command = [sys.executable, "-m", "tests.bench.planted", "line", port.partition("=")[2]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        line = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True
        )
        try:
            yield json.loads(line.stdout.readline())["port"]
        finally:
            line.stdin.close()
            line.wait(10)
            line.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", PLANTS)
def test_a_delay_larger_than_the_slack_is_red_and_its_stage_is_named(setup, budget, slack_us, monkeypatch, what):
    stage, behind = PLANTS[what]
    found, broken = run_with(setup, budget, monkeypatch, what, 1.2 * slack_us[stage])
    assert found.exit_code == 1
    assert stage in broken
    assert broken <= {stage, *behind}


@pytest.mark.slow
@pytest.mark.parametrize("what", PLANTS)
def test_a_delay_smaller_than_half_the_slack_is_green(setup, budget, slack_us, monkeypatch, what):
    stage, _ = PLANTS[what]
    found, broken = run_with(setup, budget, monkeypatch, what, 0.4 * slack_us[stage])
    assert (found.exit_code, broken) == (0, set())
