"""state.json: read strictly, replaced whole, changed by one process at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.install.layout import Layout
from edgevla.install.state import State, Trial, change_state, encode_state, parse_state, read_state

A, B = "a" * 32, "b" * 32


def test_what_is_written_is_read_again() -> None:
    state = State((A, B), Trial(B, 1), 12)
    raw = b'{"schema": 1, "good": ["%s", "%s"], "trial": {"id": "%s", "tries": 1}, "counter_floor": 12}\n'
    assert encode_state(state) == raw % (A.encode(), B.encode(), B.encode())
    assert parse_state(encode_state(state)) == state


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        b'{"schema": 2, "good": [], "trial": null, "counter_floor": 0}',
        b'{"schema": 1, "good": ["x"], "trial": null, "counter_floor": 0}',
        b'{"schema": 1, "good": ["%s", "%s"], "trial": null, "counter_floor": 0}' % (A.encode(), A.encode()),
        b'{"schema": 1, "good": [], "trial": [], "counter_floor": 0}',
        b'{"schema": 1, "good": [], "trial": {"id": "../x", "tries": 0}, "counter_floor": 0}',
        b'{"schema": 1, "good": [], "trial": null, "counter_floor": -1}',
        b'{"schema": 1, "good": [], "trial": null, "counter_floor": true}',
        b'{"schema": 1, "good": [], "trial": null}',
        b" " * 1_100_000,
    ],
)
def test_anything_else_is_one_error(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        parse_state(raw)
    (tmp_path / "state.json").write_bytes(raw)
    with pytest.raises(BadInput, match=r"state\.json is damaged"):
        read_state(Layout(tmp_path))


def test_the_floor_never_falls_and_the_newest_good_one_is_last() -> None:
    state = State().marked_good(A, 5).marked_good(B, 3).marked_good(A, 5)
    assert (state.good, state.counter_floor) == ((B, A), 5)


def test_changes_of_many_are_all_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    change_state(layout, lambda state: state.on_trial(A))
    threads = [threading.Thread(target=change_state, args=(layout, State.tried_once_more)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_state(layout).trial == Trial(A, 20)


def test_no_change_writes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    change_state(layout, lambda state: state)
    before = layout.state.stat()
    change_state(layout, lambda state: state)
    assert (layout.state.stat().st_ino, layout.state.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
