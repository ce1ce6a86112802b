"""A robot in a private prefix: a release with a real environment, a virtual arm, a recorded camera."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np

from edgevla.bundle import open_bundle, write_bundle
from edgevla.sensors.confirm import confirm
from edgevla.sensors.identity import of_source
from edgevla.sensors.sources.base import parse_source
from edgevla.telemetry.png import encode_png
from tests.tiny_bundle import tiny_files, tiny_manifest

ROOT = Path(__file__).parents[3]
PERIOD_S = 0.02
PATIENT = ("max_state_age_s = 0.050", "max_age_s = 0.100", "hold_s = 0.5", "max_skew_s = 0.075")
LOOSE = (
    (ROOT / "tests" / "loose_target.toml")
    .read_text()
    .replace("latency_budget_s = 0.025", "latency_budget_s = 0.06")  # d = 3
    .replace("replan_ticks = 8", "replan_ticks = 3")  # an inference each 60 ms
    .replace("servo_ratio = 1", "servo_ratio = 2")
)


class Robot:
    """`prefix` with one release, current; `port` of a virtual arm that a busy machine does not stop."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.release = folder / "p", folder / "p" / "releases" / ("ab" * 16)
        write_release_bundle(folder / "tiny.bundle").rename(made(self.release) / "bundle")
        make_environment(self.release / "venv")
        (self.prefix / "current").symlink_to(Path("releases") / self.release.name)
        self.camera = pictures(folder / "pictures")
        self.arm = virtual_arm()
        self.port = json.loads(self.arm.stdout.readline())["port"]
        self.write_config()
        confirm_camera(self.release / "bundle", self.camera, self.prefix / "var" / "edgevla" / "cameras.json")

    def write_config(self, port: str = "", **more: str) -> Path:
        """robot.toml; `more`: key -> its value as TOML writes it."""
        lines = ['service = "direct"', f'port = "{port or self.port}"', 'instruction = "open the drawer"']
        lines += ["best_effort = true", *(f"{key} = {value}" for key, value in more.items())]
        path = self.prefix / "etc" / "robot.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([*lines, "[cameras]", f'corner = "{self.camera}"', ""]))
        return path

    def close(self) -> None:
        self.arm.stdin.close()
        self.arm.wait(20)
        self.arm.stdout.close()


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def write_release_bundle(dest: Path) -> Path:
    """A tiny bundle that brings its profiles along, as one that was built for a robot does."""
    manifest = tiny_manifest()
    manifest["timing"]["period_s"] = PERIOD_S
    manifest["start_low"] = [0.4, 0.40, 0.05, -1.0]  # where the arm is not: only arming is refused there
    own = {"profiles/target.toml": LOOSE.encode(), "profiles/arm.toml": patient_arm().encode()}
    return write_bundle(dest, manifest, {**tiny_files(), **own}).path


def patient_arm() -> str:
    """The reference arm, but a stalled test machine must not look like a stalled camera."""
    text = (ROOT / "profiles" / "arms" / "metaworld-sawyer.toml").read_text()
    for line in PATIENT:
        assert line in text
        text = text.replace(line, line.split("=")[0] + "= 10.0")
    return text


def make_environment(folder: Path) -> None:
    """A venv that finds this tree and the libraries of the test's own environment, as a robot's finds its wheels."""
    venv.create(folder, symlinks=True, with_pip=False)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    (site / "here.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")


def pictures(folder: Path) -> str:
    folder.mkdir()
    for index in range(4):
        (folder / f"{index}.png").write_bytes(encode_png(np.full((96, 96, 3), 40 * index, np.uint8)))
    return f"file:{folder},loop"


def virtual_arm() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgevla.sim.virtual_arm", "--plant", "integrator", "--period-s", str(PERIOD_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def confirm_camera(bundle: Path, source: str, state_file: Path) -> None:
    confirm(open_bundle(bundle), {"corner": of_source(parse_source(source))}, state_file)
