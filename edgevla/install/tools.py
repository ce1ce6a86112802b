"""What an install needs of the robot besides its disk: the service, and the trials that a release must pass."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from edgevla.install.cameras import require_cameras
from edgevla.install.layout import Layout
from edgevla.install.robot_config import load_robot_config
from edgevla.install.service import ServiceManager, manager_of, require_one_manager
from edgevla.install.trial import Trial, run_golden, run_selftest, torque_state

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ENGINES_TIMEOUT_S = 3_600.0  # TensorRT builds a large vision tower for many minutes


@dataclass(frozen=True)
class Tools:
    """Bound to one robot. Each may raise an EdgevlaError; a trial says itself whether it is kept."""

    manager: ServiceManager
    port: str  # of robot.toml
    torque: Callable[[Path | None], tuple[str, str]]  # of a release that looks; None: the current one
    cameras: Callable[[Path], Mapping[str, Any]]  # raises where a release could not use those of robot.toml
    engines: Callable[[Path], Trial]
    golden: Callable[[Path], Trial]
    selftest: Callable[[Path], Trial]
    one_manager: Callable[[], None] = lambda: None  # raises where another manager than robot.toml's has the service
    again: Callable[[], Tools] | None = None  # of the settings that stand now, where they were taken back


def tools_of(layout: Layout) -> Tools:
    """Of this robot, as its robot.toml says. Raises BadInput when that is missing or wrong."""
    config = load_robot_config(layout.robot)
    return Tools(
        manager=manager_of(layout.prefix, config),
        port=config.port,
        torque=lambda release: torque_state(layout.prefix, config, release),
        cameras=lambda release: require_cameras(release, config),
        engines=run_engines,
        golden=run_golden,
        selftest=lambda release: run_selftest(release, config),
        one_manager=lambda: require_one_manager(layout.prefix, config),
        again=lambda: tools_of(layout),
    )


def run_engines(release: Path) -> Trial:
    """Build the engines of a release in its own environment, where its target has TensorRT; else there are none.

    They lie in `engines/` of the release. `figures["engines"]`: path below it -> sha256.
    """
    bundle = release / "bundle"
    if _artifact(bundle / "profiles" / "target.toml") != "trt":
        return Trial("engines", True, "", {"engines": {}})
    command = [release / "venv" / "bin" / "python3", "-I", "-B", "-m", "edgevla.policy.engines"]
    command += ["--bundle", bundle, "--target", bundle / "profiles" / "target.toml"]
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ENGINES_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Trial("engines", False, f"TensorRT did not end within {_ENGINES_TIMEOUT_S:g} s", {}, 5)
    said = _last_object(done.stdout)
    if done.returncode != 0 or not isinstance(said.get("engines"), dict):
        words = [*done.stderr.decode(errors="replace").strip().splitlines(), f"exit code {done.returncode}"]
        why = said.get("message") or said.get("error") or words[-2 if len(words) > 1 else -1]
        return Trial("engines", False, str(why), {}, done.returncode or 5)
    return Trial("engines", True, "", {"engines": said["engines"]})


def _artifact(target: Path) -> str:
    """What the bundle's target runs; 'cpu' where it does not say. Read as plainly as a newer profile can be read."""
    try:
        data = tomllib.loads(target.read_text("utf-8"))
    except FileNotFoundError:
        return "cpu"
    except ValueError as error:
        raise BadInput(explain(f"{target} is wrong", "TOML", error, "build the bundle again")) from None
    return str(data.get("artifact", "cpu"))


def _last_object(raw: bytes) -> dict[str, Any]:
    for line in reversed(raw.decode(errors="replace").splitlines()):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            return data
    return {}
