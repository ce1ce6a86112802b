"""A locked key through a real terminal: who signs is asked for its passphrase, and nothing echoes it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.trust.folder import read_head
from edgevla.trust.keys import generate, load_public

ROOT = Path(__file__).parents[3]
RIGHT, WRONG = b"correct horse", b"battery staple"


@pytest.fixture
def here(tmp_path: Path, tiny_bundle_path: Path) -> Path:
    """A folder with a bundle and a locked key."""
    shutil.copytree(tiny_bundle_path, tmp_path / "tiny.bundle")
    generate(tmp_path / "release.key", tmp_path / "release.pub", RIGHT)
    return tmp_path


def at_a_terminal(folder: Path, words: list[str], answers: list[bytes]) -> tuple[int, str]:
    """Exit code of `edgevla WORDS` and all that its terminal showed; each answer is typed once it is not echoed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
        os.execve(sys.executable, [sys.executable, "-m", "edgevla.cli.main", *words], environment)
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if answers and not termios.tcgetattr(terminal)[3] & termios.ECHO:
            os.write(terminal, answers.pop(0) + b"\n")
            shown += _until_echo(terminal)
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # EIO: the other end is closed
                break
    os.close(terminal)  # whoever still waits there is told to end
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def _until_echo(terminal: int) -> bytes:
    """What is shown until the answer was taken."""
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.0)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
        if termios.tcgetattr(terminal)[3] & termios.ECHO:
            break
    return shown


def test_who_signs_with_a_locked_key_is_asked_for_its_passphrase(here: Path) -> None:
    code, shown = at_a_terminal(here, ["bundle", "sign", "tiny.bundle", "--key", "release.key"], [RIGHT])
    assert code == 0, shown
    assert "Passphrase" in shown
    assert RIGHT.decode() not in shown
    head = read_head(here / "tiny.bundle")
    assert load_public(here / "release.pub").verifies(head.manifest, head.signature or b"")


def test_a_wrong_passphrase_is_one_clear_error_and_nothing_is_signed(here: Path) -> None:
    code, shown = at_a_terminal(here, ["bundle", "sign", "tiny.bundle", "--key", "release.key"], [WRONG])
    assert code == BadInput.exit_code, shown
    assert "the passphrase of this key" in shown
    assert "Traceback" not in shown
    assert WRONG.decode() not in shown
    assert read_head(here / "tiny.bundle").signature is None


def test_where_nobody_can_be_asked_the_error_names_the_other_way(here: Path) -> None:
    command = [sys.executable, "-m", "edgevla.cli.main", "bundle", "sign", "tiny.bundle", "--key", "release.key"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, "--passphrase-fd" in done.stderr) == (2, True), done.stderr
