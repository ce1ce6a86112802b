"""The client of a run's socket: one message, one answer, a clear error for everything else."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, DeviceFault, Usage, explain
from edgevla.operate.place import barred, folders, living, socket_path

_MAX_ANSWER = 1 << 20  # bytes
_ANSWER_S = 3.0  # a run looks at its socket every 50 ms


def find(name: str = "", explicit: Path | None = None) -> Path:
    """The socket of the run that is meant. Raises Usage: several runs and no name; DeviceFault: no run."""
    if explicit is not None:
        return explicit
    if name:
        socket_path(name)
    there = living()
    found = [path for path in there if not name or path.stem == name]
    if not found:
        raise _no_run(name, [path.stem for path in there])
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise Usage(explain("several runs are going", "one, or its name", names, "pass --name"))
    return found[0]


def _no_run(name: str, others: list[str]) -> DeviceFault:
    closed = [f"{folder} is closed to this user" for folder in barred()]
    return DeviceFault(
        explain(
            f"no run named {name!r} is going" if name else "no run is going",
            f"its socket in {', '.join(str(folder) for folder in folders())}",
            ", ".join([*others, *closed]) or "nothing",
            "call as the user of the run, or as root" if closed else "start one with `edgevla run`, or pass --socket",
        )
    )


def ask(place: Path, message: Mapping[str, Any], patience_s: float = _ANSWER_S) -> dict[str, Any]:
    """The answer of the run at `place`.

    Raises:
        BadInput: the run refuses the message, in its own words.
        DeviceFault: nobody listens there, this user may not, or no answer came within `patience_s`.
    """
    try:
        raw = _exchange(place, json.dumps(message).encode() + b"\n", patience_s)
        answer = json.loads(raw)
    except PermissionError:
        raise _no_answer(place, "it belongs to another user", "call as that user (`sudo -u`) or as root") from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise _no_answer(place, "nobody listens", "start a run with `edgevla run`") from None
    except TimeoutError:
        raise _no_answer(place, f"silence for {patience_s:g} s", "see whether the run still moves, and again") from None
    except ValueError:
        raise _no_answer(place, "what is no JSON", "make sure that the socket is that of a run") from None
    except OSError as error:
        raise _no_answer(place, error.strerror or error, "see whether the run is still there") from None
    if not isinstance(answer, dict):
        raise _no_answer(place, "what is no answer of a run", "make sure that the socket is that of a run")
    if "error" in answer:
        raise BadInput(str(answer["error"]))
    return answer


def _exchange(place: Path, line: bytes, patience_s: float) -> bytes:
    until = time.monotonic() + patience_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience_s)
        connection.connect(str(place))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused at once: the answer says why
            connection.sendall(line)
        raw = b""
        while not raw.endswith(b"\n") and len(raw) < _MAX_ANSWER:
            connection.settimeout(max(1e-3, until - time.monotonic()))
            data = connection.recv(65536)
            if not data:
                break
            raw += data
    return raw


def _no_answer(place: Path, got: object, todo: str) -> DeviceFault:
    return DeviceFault(explain(f"the run at {place} does not answer", "one line of JSON", got, todo))
