"""The argument vector that the service executes, and the flight records it makes room for."""

from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.install.launch import command_of, current_release, main, next_record, robot_options
from edgevla.install.robot_config import parse_robot_config

RELEASE = Path("/opt/edgevla/releases/abc")
BASE = 'service = "systemd"\nport = "/dev/edgevla-arm"\n'


def command(text, release=RELEASE, record=None):
    return command_of(parse_robot_config((BASE + text).encode()), release, record)


def test_the_run_is_disarmed_and_of_the_releases_own_python():
    words = command('instruction = "--arm-at-start"\n')
    assert words[:6] == ["/opt/edgevla/releases/abc/venv/bin/python3", "-I", "-B", "-m", "edgevla.cli.main", "run"]
    assert words[6:] == [
        *("--bundle", "/opt/edgevla/releases/abc/bundle", "--disarmed", "--port", "/dev/edgevla-arm"),
        "--instruction=--arm-at-start",  # one word: an instruction never becomes an option
    ]


def test_settings_become_options():
    words = command(
        'tasks = "/etc/tasks.toml"\ncalibration = "/etc/arm.json"\naccept_no_watchdog = true\n'
        '[cameras]\nfront = "v4l2:/dev/video0"\nwrist = "gst:videotestsrc ! queue; rm -rf"\n',
        record=Path("/var/lib/edgevla/flight-000001"),
    )
    assert words[11:] == [
        "--camera=front=v4l2:/dev/video0",
        "--camera=wrist=gst:videotestsrc ! queue; rm -rf",
        *("--calibration", "/etc/arm.json", "--accept-no-watchdog", "--tasks", "/etc/tasks.toml"),
        *("--record", "/var/lib/edgevla/flight-000001", "--record-mb", "2000"),
    ]
    assert command('instruction_file = "/etc/words"\n')[-2:] == ["--instruction-file", "/etc/words"]


def test_a_run_without_systemd_listens_in_its_working_folder():
    config = parse_robot_config(b'service = "direct"\nport = "can0"\ninstruction = "x"\nbest_effort = true\n')
    assert command_of(config, RELEASE, None)[-2:] == ["--socket", "run.sock"]
    assert robot_options(config) == ["--best-effort"]


def test_the_profiles_of_the_bundle_are_used_where_it_has_some(tmp_path):
    (tmp_path / "bundle/profiles").mkdir(parents=True)
    (tmp_path / "bundle/profiles/arm.toml").touch()
    words = command('instruction = "x"\n', release=tmp_path)
    assert words[words.index("--arm") + 1] == f"{tmp_path}/bundle/profiles/arm.toml"
    assert "--target" not in words


def test_flight_records_are_numbered_and_the_oldest_go(tmp_path):
    folder = tmp_path / "flights"
    assert next_record(folder, 2).name == "flight-000001"
    for number in (3, 8, 9):
        (folder / f"flight-{number:06d}").mkdir()
        (folder / f"flight-{number:06d}" / "flight.mcap").touch()
    (folder / "mine").mkdir()
    (folder / "flight-000002").symlink_to(folder / "mine")
    assert next_record(folder, 2).name == "flight-000010"
    assert sorted(entry.name for entry in folder.iterdir()) == ["flight-000002", "flight-000009", "mine"]


def test_a_folder_that_is_none_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="no flight record can be made"):
        next_record(tmp_path / "file", 3)


def test_no_release_is_said(tmp_path, capsys):
    with pytest.raises(BadInput, match="no release is installed"):
        current_release(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/robot.toml").write_text(BASE + 'instruction = "x"\n')
    (tmp_path / "current").symlink_to("releases/gone")
    assert main([str(tmp_path)]) == 4
    assert "no release is installed" in capsys.readouterr().err
    assert main([]) == 2
