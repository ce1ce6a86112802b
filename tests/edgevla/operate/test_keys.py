"""Keys on a real pty whose controlling process is the one under test: struck, restored, suspended."""

import os
import pty
import signal
import termios

import pytest

from edgevla.operate.keys import Key, Keys, keys_of
from tests.edgevla.operate.terminal import Terminal

PROGRAM = """
import os, signal, sys, time
from edgevla.control.crew import Interrupt
from edgevla.operate.keys import Keys
say = lambda text: os.write(2, (text + "\\n").encode())
with Interrupt() as interrupt, Keys(0, lambda: say("suspending"), lambda: say("resumed")) as keys:
    say("keys" if keys.fd == 0 else "no keys")
    while not interrupt.asked:
        for key in keys.poll():
            say(key.name)
            if sys.argv[1:] == ["fail"]:
                raise RuntimeError("a defect")
        time.sleep(0.005)
say("end")
"""

SHELL = """
import signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], preexec_fn=os.setpgrp)
os.tcsetpgrp(0, child.pid)
_, status = os.waitpid(child.pid, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
os.write(2, b"asleep\\n" if os.WIFSTOPPED(status) else b"ended\\n")
sys.stdin.readline()
os.tcsetpgrp(0, child.pid)
os.killpg(child.pid, signal.SIGCONT)
child.wait()
os.tcsetpgrp(0, os.getpgrp())
os.write(2, b"shell ends\\n")
"""


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b" ", [Key.STOP]),
        (b"a", [Key.ARM]),
        (b"A", [Key.ARM]),
        (b"q", [Key.QUIT]),
        (b"?", [Key.HELP]),
        (b"x", []),
        (b"aa", []),
        (b"arm it", [Key.STOP]),
        (b"a\n", []),
        (b"quit", [Key.QUIT]),
        (b"\x1b[A", []),
        (b"\x1bOq", []),
        (b"\x1b[200~a b\x1b[201~", [Key.STOP]),
        (b"", []),
    ],
)
def test_arming_takes_a_key_struck_alone_and_a_stop_counts_wherever_it_stands(data, keys):
    assert keys_of(data) == keys


@pytest.fixture
def start():
    terminals = []

    def starter(*arguments: str) -> Terminal:
        terminals.append(Terminal(PROGRAM, *arguments))
        terminals[-1].expect("keys\n")
        return terminals[-1]

    yield starter
    for terminal in terminals:
        terminal.close()


def test_keys_are_heard_one_by_one_and_sigterm_gives_the_terminal_back(start):
    terminal = start()
    assert not terminal.restored()
    for key in Key:
        terminal.type(key.value)
        terminal.expect(key.name)
    terminal.process.send_signal(signal.SIGTERM)
    terminal.expect("end")
    assert terminal.process.wait(10.0) == 0
    assert terminal.restored()


def test_ctrl_c_stays_a_signal_and_ctrl_s_does_not_halt_the_output(start):
    terminal = start()
    assert terminal.normal[0] & termios.IXON  # a terminal halts on Ctrl-S unless told otherwise
    assert not termios.tcgetattr(terminal.slave)[0] & termios.IXON
    terminal.type("\x13 ")
    terminal.expect("STOP")
    terminal.type("\x03")
    terminal.expect("end")


def test_an_exception_gives_the_terminal_back(start):
    terminal = start("fail")
    terminal.type(" ")
    terminal.expect("RuntimeError")
    assert terminal.process.wait(10.0) == 1
    assert terminal.restored()


def test_a_suspended_run_stops_the_arm_first_gives_the_terminal_back_and_takes_it_again(start):
    terminal = start()
    # A session without a shell is an orphaned group, where the kernel ignores a suspension: only the handler runs.
    terminal.process.send_signal(signal.SIGTSTP)
    assert terminal.expect("resumed").index("suspending") == 0
    assert not terminal.restored()
    terminal.type(" ")
    terminal.expect("STOP")


def test_suspended_by_a_shell_it_really_sleeps_and_the_terminal_is_as_it_was():
    terminal = Terminal(SHELL, PROGRAM)
    try:
        terminal.expect("keys\n")
        terminal.type("\x1a")  # Ctrl-Z
        assert "suspending" in terminal.expect("asleep")
        assert terminal.restored()
        terminal.type("fg\n")
        terminal.expect("resumed")
        assert not terminal.restored()
        terminal.type("\x03")
        terminal.expect("shell ends")
        assert terminal.restored()
    finally:
        terminal.close()


def test_without_a_terminal_there_are_no_keys():
    read, write = os.pipe()
    os.write(write, b"a q")
    with Keys(read) as keys:
        assert keys.fd is None
        assert keys.poll() == []
    os.close(read)
    os.close(write)


def test_a_terminal_that_belongs_to_another_job_is_left_alone():
    master, slave = pty.openpty()  # not the controlling terminal of this process
    normal = termios.tcgetattr(slave)
    with Keys(slave) as keys:
        assert keys.fd is None
        assert termios.tcgetattr(slave) == normal
    os.close(master)
    os.close(slave)
