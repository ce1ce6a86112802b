"""What the service executes: `edgevla run` of the current release, with the robot's own settings.

    python3 -I -B -m edgevla.install.launch PREFIX     (the Python of the release; never through a shell)

Disarmed, always: no setting of robot.toml arms. The release is resolved once, so that no process of the run comes from
another one when `current` changes.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgevla.errors import BadInput, EdgevlaError, Usage, explain
from edgevla.install.robot_config import RobotConfig, load_robot_config

PURE = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}  # for the children of an isolated Python
SOCKET = "run.sock"  # in the runtime folder: of systemd /run/edgevla, else PREFIX/run, which is the working folder
_FLIGHT = re.compile(r"flight-(\d{6})")


def command_of(config: RobotConfig, release: Path, record: Path | None) -> list[str]:
    """The run's argument vector. Pure but for a look which profiles the bundle brings along."""
    bundle = release / "bundle"
    command = [*edgevla(release), "run", "--bundle", str(bundle), "--disarmed", "--port", config.port]
    command += [*profile_options(bundle), *robot_options(config)]
    if config.instruction_file:
        command += ["--instruction-file", config.instruction_file]
    elif config.tasks:
        command += ["--tasks", config.tasks]
    else:
        command += [f"--instruction={config.instruction}"]
    if record is not None:
        command += ["--record", str(record), "--record-mb", str(config.record_mb)]
    if config.service == "direct":
        command += ["--socket", SOCKET]
    return command


def edgevla(release: Path) -> list[str]:
    """`edgevla` of a release: its own Python, isolated from the caller's environment and folder."""
    return [str(release / "venv" / "bin" / "python3"), "-I", "-B", "-m", "edgevla.cli.main"]


def profile_options(bundle: Path) -> list[str]:
    """--target and --arm with the profiles in the bundle; where it has none, its manifest names shipped ones."""
    found = {"--target": bundle / "profiles" / "target.toml", "--arm": bundle / "profiles" / "arm.toml"}
    return [word for option, path in found.items() if path.is_file() for word in (option, str(path))]


def robot_options(config: RobotConfig) -> list[str]:
    """What run and self-test are both told of the robot, but for the port."""
    options = [f"--camera={name}={source}" for name, source in config.cameras.items()]
    options += ["--calibration", config.calibration] if config.calibration else []
    options += ["--accept-no-watchdog"] if config.accept_no_watchdog else []
    return options + (["--best-effort"] if config.best_effort else [])


def next_record(folder: Path, keep: int) -> Path:
    """A name for the next flight record, numbered: the clock of a robot may begin anew at each start.

    All but the newest `keep - 1` are removed first. Raises BadInput.
    """
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        numbers = sorted(int(found[1]) for entry in folder.iterdir() if (found := _FLIGHT.fullmatch(entry.name)))
        for number in numbers[: max(0, len(numbers) - (keep - 1))]:
            _remove(folder / f"flight-{number:06d}")
    except OSError as error:
        todo = "correct `record` in robot.toml, or its owner"
        what = f"no flight record can be made in {folder}"
        raise BadInput(explain(what, "a folder of the service's own", error.strerror or error, todo)) from None
    return folder / f"flight-{max(numbers, default=0) + 1:06d}"


def _remove(record: Path) -> None:
    """A folder of ours, never what a link leads to."""
    if stat.S_ISDIR(os.lstat(record).st_mode):
        shutil.rmtree(record)


def current_release(prefix: Path) -> Path:
    """The folder that `current` leads to. Raises BadInput when there is none."""
    with suppress(OSError):
        return (prefix / "current").resolve(strict=True)
    todo = "install a release: `edgevla deploy`"
    raise BadInput(explain("no release is installed", f"{prefix}/current", "no such folder", todo))


def main(arguments: Sequence[str]) -> int:
    """Replaces this process with the run; returns an exit code only when it cannot."""
    try:
        if len(arguments) != 1:
            expected = "one argument, the prefix"
            raise Usage(explain("edgevla.install.launch", expected, len(arguments), "see edgevla.service"))
        prefix = Path(arguments[0])
        config = load_robot_config(prefix / "etc" / "robot.toml")
        release = current_release(prefix)
        record = next_record(Path(config.record), config.record_keep) if config.record else None
        command = command_of(config, release, record)
        print(f"release {release.name}: {' '.join(command[5:])}", flush=True)
        os.execve(command[0], command, {**os.environ, **PURE})
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return BadInput.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
