"""The whole way with nothing replaced: a tiny policy, its real runtime, a virtual arm, a recorded camera, a service.

Only lateness is forgiven, in self-test and health window: the machine of a test may be busy.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.bundle import write_bundle
from edgevla.bundle.release import add_release
from edgevla.install.admission import this_machine
from edgevla.install.direct import Direct
from edgevla.install.install import Install
from edgevla.install.layout import Layout, linked_id
from edgevla.install.robot_config import load_robot_config
from edgevla.install.rollback import Rollback
from edgevla.install.state import State, read_state
from edgevla.install.steps import Options, Outcome
from edgevla.install.tools import Tools, tools_of
from edgevla.install.trial import Trial, run_selftest
from edgevla.install.watch import Health
from edgevla.trust.signing import sign_folder
from tests.edgevla.install.kit import WHEEL, Made, new_key, new_robot, read_release, stage, wheel_bytes
from tests.edgevla.install.robot import LOOSE, PERIOD_S, ROOT, confirm_camera, patient_arm, pictures, virtual_arm
from tests.tiny_bundle import tiny_files, tiny_manifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TIMING = {"servo", "bus", "policy", "cameras", "camera corner"}


def here() -> bytes:
    """The wheel of this tree without its files: they and the libraries are those of the test's own environment."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    commands = [f"{name} = {value}" for name, value in project["entry-points"]["edgevla.commands"].items()]
    scripts = ["edgevla = edgevla.cli.entry:main", "[edgevla.commands]", *commands]
    path = f"{ROOT}\n{sysconfig.get_path('purelib')}\n".encode()
    return wheel_bytes(files={"edgevla_here.pth": path}, scripts="\n".join(scripts))


def diverging(golden: bytes) -> bytes:
    """The vectors with another expected chunk."""
    with np.load(io.BytesIO(golden), allow_pickle=False) as file:
        arrays = dict(file)
    written = io.BytesIO()
    np.savez(written, **{**arrays, "chunk": arrays["chunk"] + np.float32(0.5)})
    return written.getvalue()


@dataclasses.dataclass
class Cell:
    """A robot with an arm and a camera."""

    layout: Layout
    folder: Path
    policy: Path
    diverging: Path  # the same with golden vectors that it does not keep
    camera: str
    tested: set[str] = dataclasses.field(default_factory=set)

    def release(self, counter: int, policy: Path | None = None) -> Made:
        machine = this_machine()
        table = {
            "envelope": 1,
            "counter": counter,
            "target": "host",
            "arch": machine.arch,
            "python": machine.python,
            "wheels": [WHEEL],
            "agent_wheels": [],
            "needs_gpu_wheel": False,
        }
        own = {"profiles/target.toml": LOOSE.encode(), "profiles/arm.toml": patient_arm().encode()}
        files = {WHEEL: here(), **own, "sbom.cdx.json": b'{"bomFormat": "CycloneDX"}\n'}
        dest = self.folder / f"release-{counter}.bundle"
        add_release(policy or self.policy, dest, table, files)
        sign_folder(dest, new_key())
        confirm_camera(dest, self.camera, self.layout.prefix / "var" / "edgevla" / "cameras.json")  # a person's part
        return read_release(dest)

    def tools(self) -> Tools:
        config = load_robot_config(self.layout.robot)

        def selftest(release: Path) -> Trial:
            """Of the first release only: it takes seconds, and the others differ from it in nothing but a number."""
            if self.tested:
                return Trial("self-test", True, "")
            self.tested.add(release.name)
            trial = run_selftest(release, config, ["--inferences", "100", "--warm-up-s", "0.5"])
            claims: Any = trial.figures.get("claims", [])
            broken = {claim["name"] for claim in claims if not claim["kept"]}
            return dataclasses.replace(trial, kept=bool(claims) and broken <= TIMING)

        class Forgiving(Direct):
            def health(self, ticks: int, timeout_s: float) -> Health:
                found = super().health(ticks, timeout_s)
                return dataclasses.replace(found, held=found.held or "half a period late" in found.why)

        return dataclasses.replace(tools_of(self.layout), selftest=selftest, manager=Forgiving(self.layout.prefix))

    def install(self, made: Made) -> tuple[Outcome, list[Mapping[str, Any]]]:
        events: list[Mapping[str, Any]] = []
        stage(self.layout, made)
        return Install(self.layout, made.id, self.tools(), Options(health_ticks=25), events.append).run(), events


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    manifest = tiny_manifest()
    manifest["timing"]["period_s"] = PERIOD_S
    files = tiny_files()
    policy = write_bundle(folder / "tiny.bundle", manifest, files).path
    wrong = {**files, "golden/000.npz": diverging(files["golden/000.npz"])}
    other = write_bundle(folder / "diverging.bundle", manifest, wrong).path
    layout, camera, arm = new_robot(folder / "edgevla"), pictures(folder / "pictures"), virtual_arm()
    assert arm.stdout is not None
    assert arm.stdin is not None
    port = json.loads(arm.stdout.readline())["port"]
    lines = ['service = "direct"', f'port = "{port}"', 'instruction = "open the drawer"', "best_effort = true"]
    layout.robot.write_text("\n".join([*lines, "[cameras]", f'corner = "{camera}"', ""]))
    yield Cell(layout, folder, policy, other, camera)
    tools_of(layout).manager.stop()
    arm.stdin.close()
    arm.wait(20)
    arm.stdout.close()


def test_a_policy_is_installed_upgraded_refused_and_rolled_back(cell: Cell) -> None:
    layout, first = cell.layout, cell.release(1)
    outcome, events = cell.install(first)
    assert outcome == Outcome(first.id, True, ""), (outcome.why, tools_of(layout).manager.logs(20))
    assert [event["name"] for event in events if event.get("done")][-1] == "good"
    manager = tools_of(layout).manager
    assert manager.is_active()
    record = json.loads((layout.release(first.id) / "installed.json").read_text())
    assert [trial["name"] for trial in record["trials"]] == ["engines", "golden vectors", "self-test"]
    assert record["trials"][1]["figures"]["kept"] is True

    second = cell.release(2)
    outcome, _ = cell.install(second)
    assert outcome == Outcome(second.id, True, ""), (outcome.why, tools_of(layout).manager.logs(20))
    assert read_state(layout) == State((first.id, second.id), None, 2)
    assert linked_id(layout.previous) == first.id

    outcome, events = cell.install(cell.release(3, cell.diverging))
    assert not outcome.good
    assert [event["name"] for event in events if event.get("failed")] == ["golden"]
    assert outcome.warnings == ()
    assert linked_id(layout.current) == second.id
    assert manager.is_active()

    back = Rollback(layout, None, cell.tools(), Options(health_ticks=25), lambda _: None).run()
    assert back == Outcome(first.id, True, ""), (back.why, tools_of(layout).manager.logs(20))
    assert manager.is_active()
    written = [
        path
        for path in layout.release(first.id).rglob("*.pyc")
        if path.stat().st_mtime_ns > os.stat(layout.state).st_mtime_ns
    ]
    assert written == []
