"""All ways of seeing and steering together, as the loop of a run uses them."""

import json
import os
import signal
import socket
import time
from dataclasses import replace

import pytest

from edgevla.control.ladder import Phase
from edgevla.errors import BadInput
from edgevla.operate.instruction_file import InstructionFile
from edgevla.operate.panel import Desk, Panel, Run
from edgevla.operate.tasks import read_sequence
from edgevla.operate.wish import Kind, Wish
from tests.edgevla.operate.rows import fold, moment, ticks_of
from tests.edgevla.operate.terminal import Terminal

WORDS = ("open the drawer", "close the drawer")
PROGRAM = """
import os, time
from edgevla.control.crew import Interrupt
from edgevla.operate.panel import Desk, Panel, Run
from tests.edgevla.operate.rows import moment
say = lambda text: os.write(2, (text + "\\n").encode())
state = moment()
run = Run(lambda text: None, dict, 10, lambda: say("halt"), say)
with Interrupt() as interrupt, Panel(Desk(live=True), run) as panel:
    say(f"live {panel.live}")
    while not interrupt.asked:
        now_ns = time.monotonic_ns()
        for wish in panel.wishes(now_ns):
            say(f"{wish.kind.value} by {wish.by}")
        if panel.due(now_ns):
            panel.show(state, now_ns)
        time.sleep(0.01)
say("end")
"""


@pytest.fixture
def lines():
    return []


@pytest.fixture
def run(lines):
    return Run(
        hears=lambda text: None if text in WORDS else f"unknown: {text}",
        status=lambda: {"phase": "track"},
        acts_within_ticks=10,
        halt=lambda: lines.append("halt"),
        line=lines.append,
    )


@pytest.fixture(autouse=True)
def _no_manager(monkeypatch):
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


def say(panel, path, message) -> dict:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(json.dumps(message).encode() + b"\n")
        wishes = [wish for _ in range(3) for wish in panel.wishes(time.monotonic_ns())]
        return json.loads(client.recv(4096)) | {"wishes": wishes}


def test_the_socket_can_wish_for_an_instruction_and_for_nothing_else(run, tmp_path):
    path = tmp_path / "run.sock"
    with Panel(Desk(socket=path), run) as panel:
        assert panel.fds
        answer = say(panel, path, {"say": "close the drawer"})
        assert answer["ok"]
        assert answer["wishes"] == [Wish(Kind.INSTRUCT, "close the drawer", "edgevla say")]
        for message in ({"say": "dance"}, {"arm": True}, {"say": "arm"}, {"order": "stop"}):
            answer = say(panel, path, message)
            assert "error" in answer
            assert answer["wishes"] == []
    assert not path.exists()


def test_usr1_wishes_to_arm_and_the_file_gives_instructions(run, lines, tmp_path):
    file = tmp_path / "instruction"
    file.write_text("open the drawer\n")
    watched = InstructionFile(file)
    watched.first()
    with Panel(Desk(instruction_file=watched), run) as panel:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert panel.wishes(0) == [Wish(Kind.ARM, by="SIGUSR1")]
        file.write_text("dance\n")
        assert [wish for _ in range(3) for wish in panel.wishes(0)] == []
        assert lines == ["the old instruction stays: unknown: dance"]
        file.write_text("close the drawer\n")
        assert [wish for _ in range(3) for wish in panel.wishes(0)] == [
            Wish(Kind.INSTRUCT, "close the drawer", "instruction file")
        ]


def test_a_task_sequence_gives_the_instructions_and_nobody_else(run, tmp_path):
    (tmp_path / "tasks.toml").write_text('[[task]]\nsay = "open the drawer"\nduration_s = 2.0\n')
    path = tmp_path / "run.sock"
    with Panel(Desk(socket=path, tasks=read_sequence(tmp_path / "tasks.toml")), run) as panel:
        said = []
        for look in range(60):
            now_ns = 10**12 + look * 50_000_000
            panel.show(moment(ticks_of(20)), now_ns)
            said += [wish.kind for wish in panel.wishes(now_ns)]
        assert said == [Kind.INSTRUCT, Kind.QUIT]
        assert "task sequence" in say(panel, path, {"say": "close the drawer"})["error"]


def test_without_a_terminal_there_is_a_line_per_change_and_not_one_more(run, lines):
    with Panel(Desk(live=True), run) as panel:  # the standard input of a test is no terminal
        assert not panel.live or os.isatty(1)
        panel = Panel(Desk(), run)
        track = moment()
        for look in range(50):
            panel.show(replace(track, rate_hz=80.0 + look), look)
        panel.show(replace(track, phase=Phase.LATCHED), 51)
    assert [line.split(":")[0] for line in lines] == ["track", "latched"]


def test_the_manager_hears_ready_and_is_fed_by_the_steps_of_the_servo(run, monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        heard = []
        with Panel(Desk(), run) as panel:
            panel.show(moment(), 10**12)  # not ready yet: nothing is fed
            panel.ready()
            for look in range(80):  # 8 s; the servo stands still after the fourth
                stepped = fold(ticks_of(20 + 8 * min(look, 40)))
                panel.show(replace(moment(), tally=stepped), 10**12 + look * 100_000_000)
            panel.stopping()
        while True:
            try:
                heard.append(manager.recv(4096).split(b"=")[0])
            except BlockingIOError:
                break
    assert heard == [b"READY", b"WATCHDOG", b"STATUS", *[b"WATCHDOG"] * 4, b"STOPPING"]


def test_on_a_terminal_the_run_is_drawn_and_steered_and_left_as_it_was():
    terminal = Terminal(PROGRAM)
    try:
        terminal.expect("live True")
        shown = terminal.drawn("gripper")
        assert "follows the policy" in shown
        terminal.type("a")
        terminal.expect("arm by key arm")
        terminal.type("?")
        assert "SIGTERM stops and ends" in terminal.drawn("SIGTERM stops and ends")
        terminal.type(" ")
        terminal.expect("stop by key stop")
        terminal.process.send_signal(signal.SIGTSTP)
        assert "halt" in terminal.expect("halt")
        terminal.type("q")
        terminal.expect("quit by key quit")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.drawn("\x1b[?1049l")
        assert "track:" not in terminal.expect("end")  # no journal lines into the drawing
        assert terminal.process.wait(10.0) == 0
        assert terminal.restored()
    finally:
        terminal.close()


def test_a_panel_that_cannot_have_its_socket_leaves_nothing_behind(run, tmp_path):
    (tmp_path / "file").write_text("")
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(BadInput), Panel(Desk(socket=tmp_path / "file" / "run.sock"), run):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before
