"""`edgevla run` as an operator uses it: disarmed on a terminal of its own, armed, spoken to, stopped, all for real."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATIENT = ("max_state_age_s = 0.050", "max_age_s = 0.100", "hold_s = 0.5", "max_skew_s = 0.075")
LOOSE = (ROOT / "tests" / "loose_target.toml").read_text()


@pytest.fixture
def command(tiny_bundle_path, tmp_path):
    """`edgevla run` on the simulated drawer, disarmed, with a socket; stalls of a busy test machine end nothing."""
    arm = (ROOT / "profiles" / "arms" / "metaworld-sawyer.toml").read_text()
    for line in PATIENT:
        assert line in arm
        arm = arm.replace(line, line.split("=")[0] + "= 10.0")
    (tmp_path / "arm.toml").write_text(arm)
    (tmp_path / "target.toml").write_text(LOOSE)
    return [
        *(sys.executable, "-m", "edgevla.cli.main", "run", "--bundle", str(tiny_bundle_path)),
        *("--arm", str(tmp_path / "arm.toml"), "--target", str(tmp_path / "target.toml"), "--sim", "drawer-open-v3"),
        *("--best-effort", "--disarmed", "--duration-s", "60", "--socket", str(tmp_path / "run.sock")),
    ]


def asked(tmp_path, *words):
    socket = ["--socket", str(tmp_path / "run.sock"), "--json"]
    say = [sys.executable, "-m", "edgevla.cli.main", "say", *words, *socket]
    done = subprocess.run(say, capture_output=True, text=True, cwd=ROOT, timeout=60)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}


def until(reached, patience_s=60.0):
    give_up = time.monotonic() + patience_s
    while not (found := reached()):
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.1)
    return found


def phase(tmp_path):
    return asked(tmp_path, "--status").get("phase")


def test_a_service_is_armed_by_a_signal_spoken_to_over_its_socket_and_stopped_by_sigterm(command, tmp_path):
    run = subprocess.Popen(
        [*command, "--instruction", "open the drawer", "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        until(lambda: phase(tmp_path) == "disarmed")
        run.send_signal(signal.SIGUSR1)
        until(lambda: phase(tmp_path) == "track")
        assert asked(tmp_path, "close the drawer")["acts_within_ticks"] == 10
        assert "vocabulary" in asked(tmp_path, "dance on the table")["error"]
        run.send_signal(signal.SIGTERM)
        out, lines = run.communicate(timeout=60)
    finally:
        run.kill()
    told = json.loads(out)
    assert (run.returncode, told["stop_reason"]) == (0, "operator stop")
    assert told["instructions_said"] == ["close the drawer"]
    assert "acting on 'close the drawer'" in lines
    assert told["device"]["mode"] == "STOPPED"


def test_on_a_terminal_a_arms_space_stops_and_q_ends(command, tmp_path):
    child, screen = pty.fork()  # a terminal of its own, and its controlling one
    if child == 0:
        os.chdir(ROOT)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}
        os.execv(command[0], [*command, "--instruction", "open the drawer"])
    drawn = bytearray()

    def seen(phase_wanted):
        drawn.extend(read_now(screen))
        return phase(tmp_path) == phase_wanted

    try:
        until(lambda: seen("disarmed"))
        os.write(screen, b"a")
        until(lambda: seen("track"))
        os.write(screen, b" ")
        until(lambda: seen("latched"))
        os.write(screen, b"a")
        until(lambda: seen("track"))
        os.write(screen, b"q")
        ended = until(lambda: drawn.extend(read_now(screen)) or [x for x in [os.waitpid(child, os.WNOHANG)] if x[0]])
        drawn += read_now(screen)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(screen)
    assert os.waitstatus_to_exitcode(ended[0][1]) == 0
    assert b"stopped: operator stop" in drawn


def read_now(fd):
    """All that the terminal was sent so far; a full one would hold its program."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while part := os.read(fd, 1 << 16):
            data += part
    except OSError:  # nothing more for now, or the program has gone
        pass
    return data


def test_a_run_follows_its_instruction_file(command, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("open the drawer\n")
    run = subprocess.Popen(
        [*command, "--instruction-file", str(words), "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        until(lambda: phase(tmp_path) == "disarmed")
        (tmp_path / "new.txt").write_text("close the drawer\n")
        os.replace(tmp_path / "new.txt", words)
        until(lambda: asked(tmp_path, "--status")["instruction"] == "close the drawer")
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 0
