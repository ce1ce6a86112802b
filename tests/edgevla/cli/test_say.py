"""`edgevla say` as an operator meets it, against a server in another thread."""

import json
import select
import threading
import time
from importlib.metadata import EntryPoint

import pytest

from edgevla.cli import main
from edgevla.errors import BadInput
from edgevla.operate.place import socket_path
from edgevla.operate.say import SayServer


@pytest.fixture(autouse=True)
def _command(tmp_path, monkeypatch):
    """Only this command, and a runtime folder of its own."""
    monkeypatch.setattr(main, "_entries", lambda: [EntryPoint("say", "edgevla.cli.say:say", main.GROUP)])
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("edgevla.operate.place._SYSTEM_FOLDER", tmp_path / "system")  # never speak to a real run


@pytest.fixture
def run():
    """A run that knows one instruction."""
    known = "close the drawer"
    server = SayServer(
        socket_path(), lambda text: None if text == known else "unknown words", lambda: {"phase": "hold"}, 10
    )
    ended = threading.Event()

    def loop():
        while not ended.is_set():
            select.select([server.fd], [], [], 0.01)
            server.poll(time.monotonic_ns())

    thread = threading.Thread(target=loop)
    thread.start()
    yield
    ended.set()
    thread.join()
    server.close()


@pytest.mark.usefixtures("run")
def test_the_command_says_and_asks(capsys):
    assert run_say(["close the drawer"]) == 0
    assert capsys.readouterr().out == "'close the drawer' acts within 10 ticks\n"
    assert run_say(["close the drawer", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["acts_within_ticks"] == 10
    assert run_say(["--status"]) == 0
    assert json.loads(capsys.readouterr().out) == {"phase": "hold"}
    assert run_say(["dance"]) == BadInput.exit_code
    assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["open", "--status"], 2), (["open"], 5)])
def test_a_command_that_cannot_be_heard_says_why(capsys, arguments, code):
    assert run_say(arguments) == code
    assert capsys.readouterr().err.startswith("error: ")


def run_say(arguments: list[str]) -> int:
    return main.run_command(["say", *arguments])


def test_help_has_an_example(capsys):
    assert run_say(["--help"]) == 0
    assert 'Example: edgevla say "close the drawer"' in " ".join(capsys.readouterr().out.split())
