"""The view on a real pseudo-terminal: alternate screen and back, and one that stands still."""

import os
import pty
import select
import termios
import time
import tty

import pytest
from rich.text import Text

from edgevla.operate.screen import PatientTerminal, Screen


@pytest.fixture
def terminal():
    """(master, slave) of a raw pty."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def read_all(master) -> bytes:
    data = b""
    while select.select([master], [], [], 0.05)[0]:
        data += os.read(master, 65536)
    return data


def test_the_alternate_screen_is_entered_drawn_on_and_left(terminal):
    master, slave = terminal
    with Screen(slave) as screen:
        assert screen.show(Text("TRACK"))
        drawn = read_all(master)
    assert drawn.index(b"\x1b[?1049h") < drawn.index(b"TRACK")
    assert read_all(master).endswith((b"\x1b[?1049l\x1b[?25h", b"\x1b[?25h\x1b[?1049l"))


def test_it_is_left_after_an_exception_too(terminal):
    master, slave = terminal
    with pytest.raises(ZeroDivisionError), Screen(slave):
        raise ZeroDivisionError
    assert b"\x1b[?1049l" in read_all(master)


def test_a_suspended_run_gives_the_screen_back_and_takes_it_again(terminal):
    master, slave = terminal
    with Screen(slave) as screen:
        screen.leave()
        assert b"\x1b[?1049l" in read_all(master)
        screen.enter()
        screen.show(Text("again"))
        drawn = read_all(master)
        assert drawn.index(b"\x1b[?1049h") < drawn.index(b"again")


def test_a_terminal_that_stands_still_never_holds_the_run(terminal):
    master, slave = terminal
    view = Text("x" * 2000)
    with Screen(slave) as screen:
        begun, drawn = time.monotonic(), 0
        for _ in range(500):  # nobody reads the master: its buffer is full after a few
            drawn += screen.show(view)
        assert time.monotonic() - begun < 2.0
        assert drawn < 100
        read_all(master)
        assert screen.show(view)  # it moves again: the next frame is drawn
        read_all(master)


def test_the_flags_of_the_inherited_descriptor_are_left_alone(terminal):
    _, slave = terminal
    before = os.get_blocking(slave), termios.tcgetattr(slave)
    with Screen(slave):
        assert (os.get_blocking(slave), termios.tcgetattr(slave)) == before


def test_nothing_is_drawn_on_what_is_no_terminal(monkeypatch, terminal):
    _, slave = terminal
    read, write = os.pipe()
    monkeypatch.setenv("TERM", "xterm")
    assert Screen.possible(slave)
    assert not Screen.possible(write)
    with pytest.raises(OSError):
        PatientTerminal(write)
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.possible(slave)
    os.close(read)
    os.close(write)
