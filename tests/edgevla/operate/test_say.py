"""The socket of a run: what it hears, what it cannot hear, and that no client holds it."""

import itertools
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgevla.errors import BadInput, DeviceFault, Refused, Usage
from edgevla.operate.ask import ask, find
from edgevla.operate.place import OwnedSocket, folders, living, socket_path
from edgevla.operate.say import MAX_LINE, Message, NoMessage, SayServer, parse

WORDS = {"open", "close", "the", "drawer"}


def accept(text: str) -> str | None:
    return None if set(text.split()) <= WORDS else f"unknown words in {text!r}"


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Path:
    """The runtime folder of this user."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("edgevla.operate.place._SYSTEM_FOLDER", tmp_path / "system")  # never speak to a real run
    return tmp_path / "edgevla"


@pytest.fixture
def serve(runtime):
    """Servers that are polled as a run does it."""
    ended, started = threading.Event(), []

    def loop(server):
        while not ended.is_set():
            select.select([server.fd], [], [], 0.01)
            server.poll(time.monotonic_ns())

    def starter(name="run", taken=accept):
        server = SayServer(socket_path(name), taken, lambda: {"phase": "track"}, acts_within_ticks=10)
        thread = threading.Thread(target=loop, args=[server])
        started.append((server, thread))
        thread.start()
        return server

    yield starter
    ended.set()
    for server, thread in started:
        thread.join()
        server.close()


def talk(server, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5.0)
        client.connect(str(server.path))
        client.sendall(data)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += client.recv(65536)
    return answer


def test_an_instruction_is_taken_and_the_answer_says_when_it_acts(serve):
    heard = []
    server = serve(taken=lambda text: heard.append(text) or accept(text))
    assert ask(find(), {"say": " close the drawer "}) == {
        "ok": True,
        "instruction": "close the drawer",
        "acts_within_ticks": 10,
    }
    assert heard == ["close the drawer"]
    assert json.loads(talk(server, b'{"status": true}\n')) == {"phase": "track"}


def test_the_refusal_of_the_policy_is_the_error_of_the_client(serve):
    serve()
    with pytest.raises(BadInput, match="unknown words in 'dance'"):
        ask(find(), {"say": "dance"})


def test_no_message_arms_stops_or_quits():
    """By construction: whatever is parsed is an instruction or a look, and nothing else has a field."""
    assert set(Message.__dataclass_fields__) == {"say"}
    words = ["arm", "stop", "quit", "order", "go", "torque", "epoch", "instruction", "ARM", "say", "status"]
    values = [True, 1, "arm", None, ["arm"], {"arm": True}]
    for word, value in itertools.product(words, values):
        for data in ({word: value}, {word: value, "say": "open the drawer"}, {word: value, "status": True}):
            try:
                message = parse(json.dumps(data).encode())
            except NoMessage:
                continue
            assert data in ({"say": message.say}, {"status": True})


def test_an_arm_order_over_the_socket_is_refused_and_reaches_nobody(serve):
    heard = []
    server = serve(taken=lambda text: heard.append(text) or None)
    for order in (b'{"arm": true}\n', b'{"say": "open the drawer", "arm": true}\n', b'["arm"]\n', b"arm\n"):
        assert "cannot arm" in json.loads(talk(server, order))["error"]
    assert heard == []


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"\xff", b"null", b"1e999", b"[" * 4000, b'{"say": 1}', b'{"say": ""}', b'{"say": "\\u0007"}'),
        *(b'{"say": "a\\nb"}', b'{"say": "\\ud800"}', b'{"status": 1}', b'{"status": false}', b'{"say": "'),
        b'{"say": "' + b"x" * 401 + b'"}',
    ],
)
def test_what_is_no_message_has_one_clear_error(line):
    with pytest.raises(NoMessage, match=r"expected one line|printable characters"):
        parse(line)


def test_a_message_without_end_is_cut_off(serve):
    server = serve()
    assert "4096 bytes at most" in json.loads(talk(server, b"x" * (MAX_LINE + 1)))["error"]
    assert "4096 bytes at most" in json.loads(talk(server, b"x" * (MAX_LINE + 1) + b"\n"))["error"]


def test_silent_and_slow_clients_are_let_go_and_never_hold_the_others(serve):
    server = serve()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for client in silent:
        client.connect(str(server.path))
        client.sendall(b'{"say"')
    begun = time.monotonic()
    assert ask(server.path, {"say": "open the drawer"})["ok"]
    assert time.monotonic() - begun < 0.9
    for client in silent:
        client.settimeout(5.0)
        assert client.recv(1) == b""  # closed by the run, after its second
        client.close()
    assert 0.9 < time.monotonic() - begun < 3.0


def test_more_clients_than_it_holds_are_told_so(serve):
    server = serve()
    held = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for client in held:
        client.connect(str(server.path))
    time.sleep(0.1)
    with pytest.raises(BadInput, match="busy"):
        ask(server.path, {"status": True})
    for client in held:
        client.close()
    time.sleep(0.1)
    assert ask(server.path, {"status": True}) == {"phase": "track"}


def test_a_client_that_reads_nothing_does_not_hold_the_server(runtime):
    big = {"phase": "x" * 4_000_000}
    with SayServer(socket_path(), accept, lambda: big, 10) as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.path))
        client.sendall(b'{"status": true}\n')
        begun = time.monotonic()
        for _ in range(5):
            server.poll(time.monotonic_ns())
        assert time.monotonic() - begun < 0.5
        server.poll(time.monotonic_ns() + 2_000_000_000)
        client.settimeout(1.0)
        while client.recv(1 << 20):  # what was sent until its second was over, and then the end
            pass


def test_socket_and_folder_are_for_this_user_only(runtime):
    with SayServer(socket_path(), accept, dict, 10) as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700
    assert list(runtime.iterdir()) == []


def test_a_folder_that_is_too_open_is_closed(runtime):
    runtime.mkdir(mode=0o755)
    with SayServer(socket_path(), accept, dict, 10):
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_where_permissions_let_him_in(serve, tmp_path):
    server = serve()
    code = (
        "import os, sys; from pathlib import Path; from edgevla.operate.ask import ask;"
        "os.setgid(65534); os.setuid(65534); ask(Path(sys.argv[1]), {'status': True})"
    )
    for folder in (server.path.parent, *server.path.parents):  # a test's own folders
        if folder.is_relative_to(tmp_path.parent.parent):
            folder.chmod(0o755)
    call = [sys.executable, "-c", code, str(server.path)]
    refused = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert "call as that user (`sudo -u`) or as root" in refused.stderr
    server.path.chmod(0o666)
    answered = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert "this run belongs to another user" in answered.stderr


def test_a_living_run_keeps_its_name(serve):
    serve()
    with pytest.raises(Refused, match="another run listens"):
        SayServer(socket_path(), accept, dict, 10)
    assert ask(find(), {"status": True}) == {"phase": "track"}


def test_the_socket_of_a_killed_run_is_replaced(runtime):
    code = (
        "import sys, time; from edgevla.operate.say import SayServer; from edgevla.operate.place import socket_path;"
        "s = SayServer(socket_path(), str, dict, 10); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert (runtime / "run.sock").exists()
    assert living() == []
    with pytest.raises(DeviceFault, match="no run is going"):
        find()
    with SayServer(socket_path(), accept, dict, 10):
        assert living() == [runtime / "run.sock"]


def test_something_else_under_the_name_is_left_alone(runtime):
    runtime.mkdir(mode=0o700)
    (runtime / "run.sock").write_text("mine")
    with pytest.raises(BadInput, match="something that is no socket"):
        OwnedSocket(socket_path())
    assert (runtime / "run.sock").read_text() == "mine"
    assert not (runtime / "run.sock.lock").exists()


def test_several_runs_are_told_apart_by_name(serve):
    serve("left")
    with pytest.raises(DeviceFault, match="'right' is going"):
        find("right")
    assert find().stem == "left"
    serve("right")
    with pytest.raises(Usage, match="left, right"):
        find()
    assert find("right").stem == "right"


@pytest.mark.parametrize("name", ["", "../run", ".run", "a/b", "-x", "a b"])
def test_a_name_is_a_file_name(name):
    with pytest.raises(Usage):
        socket_path(name)


def test_a_path_longer_than_a_socket_takes_is_said_before_it_fails():
    with pytest.raises(Usage, match="too long"):
        socket_path("run", Path("/tmp") / ("x" * 120))


def test_the_folder_of_the_service_comes_first():
    known = {"RUNTIME_DIRECTORY": "/run/edgevla", "XDG_RUNTIME_DIR": "/run/user/1000"}
    assert folders(known) == [Path("/run/edgevla"), Path("/run/user/1000/edgevla")]
    assert folders({}) == [Path("/run/edgevla")]


def test_a_run_that_never_answers_is_not_waited_for(runtime):
    with SayServer(socket_path(), accept, dict, 10), pytest.raises(DeviceFault, match="silence"):
        ask(find(), {"status": True}, patience_s=0.2)
