"""The service manager hears the truth, over real datagram sockets."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from edgevla.operate.arm_signal import ArmSignal
from edgevla.operate.notify import Notifier, WatchdogFeed

UNIT = Path(__file__).parents[3] / "examples" / "standalone" / "edgevla.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(its address, its socket)."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@edgevla-test-{os.getpid()}-{time.time_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1))
        receiver.setblocking(False)
        yield address, receiver


def heard(receiver) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(receiver.recv(4096))
        except BlockingIOError:
            return found


def test_ready_status_watchdog_and_stopping_arrive(manager):
    address, receiver = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    assert notifier.wanted
    notifier.ready()
    notifier.status("track: follows the policy")
    notifier.status("track: follows the policy")
    notifier.feed()
    notifier.stopping()
    assert heard(receiver) == [b"READY=1", b"STATUS=track: follows the policy", b"WATCHDOG=1", b"STOPPING=1"]
    notifier.close()


def test_a_status_is_one_line_and_cannot_say_more_than_a_status(manager):
    address, receiver = manager
    Notifier(address).status("open\nWATCHDOG=1" + "ü" * 600)
    (datagram,) = heard(receiver)
    assert b"\n" not in datagram
    assert len(datagram) <= 507
    datagram.decode()


def test_a_manager_that_reads_nothing_or_is_gone_never_holds_the_run(manager):
    address, receiver = manager
    notifier = Notifier(address)
    begun = time.monotonic()
    for _ in range(10_000):
        notifier.feed()
    receiver.close()
    notifier.feed()
    assert time.monotonic() - begun < 5.0


def test_without_a_manager_nothing_is_said():
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier.from_environment(environment)
        assert not notifier.wanted
        notifier.ready()


def test_the_watchdog_is_fed_at_half_its_time_while_the_servo_steps():
    feed, fed = WatchdogFeed.from_environment({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, pid=7), []
    for look in range(101):  # 5 s, a look every 50 ms, 80 Hz
        feed, now = feed.look(steps=4 * look + 1, now_ns=10**12 + look * 50_000_000)
        if now:
            fed.append(look * 0.05)
    assert fed == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def test_a_servo_that_stands_still_starves_the_watchdog(manager):
    """The supervisor lives on and looks; the steps end at 1 s: nothing is sent any more."""
    address, receiver = manager
    notifier, feed, now_ns = Notifier(address), WatchdogFeed(500_000_000), 10**12
    for look in range(200):
        feed, due = feed.look(steps=min(80, 4 * (look + 1)), now_ns=now_ns + look * 50_000_000)
        if due:
            notifier.feed()
        if look == 20:
            assert len(heard(receiver)) == 2 + 1  # at 0, 0.5 and 1.0 s
    assert heard(receiver) == []
    assert feed.look(steps=81, now_ns=now_ns + 10**12)[1]  # it steps again: so does the feed


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}],
)
def test_nobody_watches_where_systemd_did_not_ask_this_process(environment):
    feed = WatchdogFeed.from_environment(environment, pid=7)
    assert feed.interval_ns is None
    assert feed.look(1, 10**18) == (feed, False)


def test_usr1_arms_once_and_only_inside_its_block():
    before = signal.getsignal(signal.SIGUSR1)
    with ArmSignal() as arm:
        assert not arm.take()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert arm.take()
        assert not arm.take()
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_one_that_systemd_understands_to_the_last_key(tmp_path):
    """systemd-analyze verify exits with 0 on unknown keys and only prints: any line is a failure."""
    # The program is not installed here.
    text = UNIT.read_text().replace("/opt/edgevla/current/venv/bin/python3", "/bin/true")
    unit = tmp_path / "edgevla.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(text.replace("WatchdogSec", "WatchdogSecs"))
    assert (
        "WatchdogSecs"
        in subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60).stderr
    )


def unit_key(name: str) -> list[str]:
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


def test_the_unit_starts_disarmed_and_gives_the_arm_time_to_rest():
    assert unit_key("Type") == ["notify"]
    assert unit_key("Restart") == ["on-failure"]
    assert unit_key("KillMode") == ["mixed"]
    assert unit_key("RuntimeDirectoryMode") == ["0700"]
    (command,) = unit_key("ExecStart")
    assert "--arm-at-start" not in command
    assert float(unit_key("TimeoutStopSec")[0]) > 5.0
    assert float(unit_key("WatchdogSec")[0]) >= 1.0
