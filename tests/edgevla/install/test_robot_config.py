"""robot.toml: what is right becomes a value, what is wrong one error with file, line and key."""

import re

import pytest

from edgevla.errors import BadInput
from edgevla.install.robot_config import CanSettings, load_robot_config, parse_robot_config

WHOLE = b"""\
service = "systemd"
port = "left=can1,right=socketcan:can0"
instruction = "open the drawer"
calibration = "/opt/edgevla/etc/arm.json"
record = "/var/lib/edgevla/flights"
record_mb = 500
record_keep = 3
accept_no_watchdog = true

[cameras]
front = "v4l2:/dev/video0,MJPG"
wrist = "csi:1"

[can]
bitrate = 500_000
txqueuelen = 64
"""
SHORT = 'service = "direct"\nport = "/dev/ttyACM0"\ninstruction = "open the drawer"\n'


def test_a_whole_file_is_read():
    config = parse_robot_config(WHOLE)
    assert (config.service, config.port) == ("systemd", "left=can1,right=socketcan:can0")
    assert config.cameras == {"front": "v4l2:/dev/video0,MJPG", "wrist": "csi:1"}
    assert (config.record_mb, config.record_keep) == (500, 3)
    assert config.accept_no_watchdog
    assert config.can == CanSettings(500_000, None, 64)
    assert config.can_interfaces == ("can1", "can0")
    assert config.as_dict()["can"] == {"bitrate": 500_000, "data_bitrate": None, "txqueuelen": 64}


def test_what_may_be_left_out_has_its_default():
    config = parse_robot_config(SHORT.encode())
    assert (config.cameras, config.calibration, config.record, config.best_effort) == ({}, "", "", False)
    assert (config.record_mb, config.record_keep, config.can) == (2_000, 5, CanSettings())


@pytest.mark.parametrize(
    ("port", "interfaces"),
    [
        ("can0", ("can0",)),
        ("left=can1,right=can0", ("can1", "can0")),
        ("left=can0,right=can0", ("can0",)),
        ("/dev/ttyACM0", ()),
        ("slcan:/dev/ttyACM0", ()),
        ("/tmp/bus", ()),
    ],
)
def test_the_interfaces_of_a_port(port, interfaces):
    assert parse_robot_config(SHORT.replace("/dev/ttyACM0", port).encode()).can_interfaces == interfaces


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('service = "direct"', 'service = "upstart"', r"robot.toml, line 1: `service`.*systemd, direct.*upstart"),
        ('service = "direct"\n', "", r"robot.toml: `service`.*missing"),
        ('port = "/dev/ttyACM0"', "port = 3", r"line 2: `port`"),
        ('port = "/dev/ttyACM0"', 'port = "--arm-at-start"', r"line 2: `port`"),
        ('port = "/dev/ttyACM0"', 'port = "/dev/tty ACM0"', r"line 2: `port`.*without blanks"),
        ("instruction", "instruktion", r"line 3: `instruktion`.*only known keys: service, port"),
        ('"open the drawer"', '"open\\u0000"', r"line 3: `instruction`"),
        ('"open the drawer"', '"a"\ntasks = "/t.toml"', r"line 4: `tasks`.*exactly one of.*instruction and tasks"),
        ('instruction = "open the drawer"\n', "", r"`instruction` is wrong.*exactly one of.*none"),
        ("instruction = ", "tasks = ", r"line 3: `tasks`.*absolute path"),
        ("instruction", "record_mb = 0\ninstruction", r"line 3: `record_mb`.*whole number"),
        ("instruction", "record_mb = true\ninstruction", r"line 3: `record_mb`"),
        ("instruction", 'accept_no_watchdog = "yes"\ninstruction', r"line 3: `accept_no_watchdog`.*true or false"),
        ("drawer", "drawer\n", r"not valid TOML"),
        ('drawer"\n', 'drawer"\n[cameras]\nfront = "/dev/video0"\n', r"line 5: `\[cameras\] front`.*v4l2:"),
        ('drawer"\n', 'drawer"\n[cameras]\n"a b" = "csi:0"\n', r"line 5: `\[cameras\] a b`.*camera's name"),
        ('drawer"\n', 'drawer"\ncameras = 3\n', r"line 4: `cameras`.*a table"),
        ('drawer"\n', 'drawer"\n[can]\nbitrate = 1\n', r"line 5: `\[can\] bitrate`"),
        ('drawer"\n', 'drawer"\n[can]\nspeed = 1\n', r"line 5: `\[can\] speed`.*bitrate, data_bitrate"),
        ('drawer"\n', 'drawer"\n[can]\nbitrate = 500000\n', r"line 4: `can`.*names no CAN interface"),
        (
            'service = "direct"',
            'service = "systemd"\nbest_effort = true',
            r"line 2: `best_effort`.*only with service = \"direct\"",
        ),
        (
            'service = "direct"',
            'service = "systemd"\ncalibration = "/home/me/arm.json"',
            r"line 2: `calibration`.*outside /home",
        ),
        (
            'service = "direct"',
            'service = "systemd"\nrecord = "/data/flights"',
            r"line 2: `record`.*/var/lib/edgevla",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old, new, said):
    text = SHORT.replace(old, new, 1)
    assert text != SHORT
    with pytest.raises(BadInput) as error:
        parse_robot_config(text.encode())
    assert re.search(said, str(error.value), re.DOTALL), str(error.value)


def test_a_file_that_is_not_there_or_no_text_or_endless(tmp_path):
    with pytest.raises(BadInput, match=r"robot\.toml cannot be read"):
        load_robot_config(tmp_path / "robot.toml")
    (tmp_path / "robot.toml").write_bytes(b"port = '\xff'")
    with pytest.raises(BadInput, match=r"UTF-8"):
        load_robot_config(tmp_path / "robot.toml")
    (tmp_path / "robot.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(BadInput, match="too large"):
        load_robot_config(tmp_path / "robot.toml")
