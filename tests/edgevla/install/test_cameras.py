"""What a release says of this robot's cameras before the service is stopped: its real command, in its environment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevla.errors import DeviceFault, EdgevlaError, Refused
from edgevla.install.cameras import confirm_line, require_cameras
from edgevla.install.layout import Layout
from edgevla.install.robot_config import RobotConfig, load_robot_config, parse_robot_config
from edgevla.install.venv import launcher
from tests.edgevla.install.kit import Recorder, make_release, new_robot, tools_with
from tests.edgevla.install.robot import Robot
from tests.edgevla.install.test_install import install, installed


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    made = Robot(tmp_path_factory.mktemp("robot") / "p q")  # a folder whose name a shell takes apart
    command = made.release / "venv" / "bin" / "edgevla"
    command.write_bytes(launcher("edgevla.cli.entry:main"))
    command.chmod(0o755)
    yield made
    made.close()


def config_of(robot: Robot) -> RobotConfig:
    return load_robot_config(robot.write_config())


def test_cameras_that_a_person_confirmed_are_in_order(robot: Robot) -> None:
    assert require_cameras(robot.release, config_of(robot)) == {"cameras": 1}


def test_one_that_nobody_confirmed_is_refused_with_the_line_that_confirms_it(robot: Robot) -> None:
    (robot.prefix / "var" / "edgevla" / "cameras.json").unlink()
    config = config_of(robot)
    with pytest.raises(Refused, match="camera corner is not confirmed for this bundle") as told:
        require_cameras(robot.release, config)
    assert "never confirmed" in str(told.value)
    line = next(line.strip() for line in str(told.value).splitlines() if line.strip().startswith("XDG_STATE_HOME="))
    assert line == confirm_line(robot.release, config)
    typed = subprocess.run(["sh", "-c", line], input=b"y\n", capture_output=True, timeout=120, check=False)
    assert b"is it the right camera?" in typed.stderr or b"is this the same view?" in typed.stderr, typed
    assert require_cameras(robot.release, config) == {"cameras": 1}


@pytest.mark.parametrize(
    ("cameras", "kind", "said"),
    [
        ("", Refused, "robot.toml has no camera corner, which this release needs"),
        (
            "corner = 'CORNER'\nfront = 'csi:0'",
            Refused,
            "robot.toml names a camera front that this release does not have",
        ),
        ("corner = 'file:/nowhere'", DeviceFault, "camera corner is not there"),
    ],
)
def test_settings_that_the_release_cannot_use_are_one_refusal(
    robot: Robot, cameras: str, kind: type[EdgevlaError], said: str
) -> None:
    path = robot.write_config()
    head = path.read_text().partition("[cameras]")[0]
    text = f"{head}[cameras]\n{cameras.replace('CORNER', robot.camera)}\n"
    with pytest.raises(kind, match=said):
        require_cameras(robot.release, parse_robot_config(text.encode()))


def test_a_release_without_opencv_refuses_a_camera_that_needs_it(robot: Robot) -> None:
    site = next((robot.release / "venv" / "lib").glob("python*")) / "site-packages"
    (site / "no_opencv.pth").write_text("import sys; sys.modules['cv2'] = None\n")
    try:
        with pytest.raises(Refused, match="camera corner cannot be read by this release") as told:
            require_cameras(robot.release, config_of(robot))
    finally:
        (site / "no_opencv.pth").unlink()
    assert "--no-opencv" in str(told.value)
    assert "ModuleNotFoundError" not in str(told.value)


def test_on_systemd_the_line_is_typed_as_the_services_user() -> None:
    text = 'service = "systemd"\nport = "can0"\ninstruction = "x"\n[cameras]\nfront = "gst:v4l2src ! x"\n'
    config = parse_robot_config(text.encode())
    assert confirm_line(Path("/opt/edgevla/releases/ab"), config) == (
        "sudo -u edgevla XDG_STATE_HOME=/var/lib /opt/edgevla/releases/ab/venv/bin/edgevla camera check "
        "--bundle /opt/edgevla/releases/ab/bundle --camera 'front=gst:v4l2src ! x' --confirm"
    )


def test_a_release_that_refuses_the_cameras_leaves_what_runs_alone(folder: Path) -> None:
    layout: Layout = new_robot(folder / "edgevla")
    _, manager = installed(layout, 1)
    made = make_release(2)
    outcome, events = install(layout, made, tools_with(manager, cameras="camera corner is not confirmed"))
    assert (outcome.good, outcome.exit_code, outcome.warnings) == (False, 1, ())
    assert [event["name"] for event in events if event.get("failed")] == ["stop"]
    assert (manager.calls, manager.active) == ([], True)
    first = Recorder(layout)
    assert install(layout, made, tools_with(first))[0].good  # the release stayed: the line above can be typed
