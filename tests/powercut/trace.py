"""Mutating calls of a real command, as strace saw them: nothing bypasses the kernel, so nothing bypasses this list."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Every call that changes a file system, and those that say which file a descriptor is and where it stands.
CALLS = (  # noqa: SIM905
    "open openat creat write pwrite64 writev pwritev ftruncate truncate fallocate sendfile copy_file_range splice "
    "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat "
    "fsync fdatasync sync syncfs lseek chdir fchdir clone clone3 fork vfork"
).split()
_LONGEST = 1 << 24  # bytes of one write that are kept whole
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$")
_HEX = re.compile(r"\\x([0-9a-f]{2})")
_TOKEN = re.compile(r'"[^"]*"|[\[{\]},]')
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One call that succeeded. `arguments` as strace prints them, strings quoted; `nth` of its name in its process."""

    pid: int
    name: str
    arguments: tuple[str, ...]
    result: str
    nth: int


class TraceError(Exception):
    """The trace cannot be understood: better no result than one with a hole."""


def record(command: Sequence[str], dest: Path, environment: dict[str, str] | None = None) -> int:
    """Run under strace; the exit code of the command. The trace lies in `dest`."""
    return _traced(
        ["-y", "-xx", "-s", str(_LONGEST), "-e", f"trace={','.join(CALLS)}", "-o", str(dest)], command, environment
    )


def kill_at(
    command: Sequence[str],
    name: str,
    nth: int,
    environment: dict[str, str] | None = None,
    paths: Sequence[str] = (),
) -> list[str]:
    """Run until the nth call of that name (that concerns one of those paths) in one of its processes: SIGKILL instead.

    Returns the lines of the calls that were never made: one, or none where nothing was killed.
    """
    with tempfile.NamedTemporaryFile(prefix="killed-") as file:
        only = [word for path in paths for word in ("-P", path)]
        inject = f"inject={name}:signal=KILL:when={nth}"
        _traced(["-y", "-xx", *only, "-e", f"trace={name}", "-e", inject, "-o", file.name], command, environment)
        lines = Path(file.name).read_text(encoding="latin-1").splitlines()
    return [line for line in lines if line.endswith((" = ?", _UNFINISHED))]


def _traced(options: Sequence[str], command: Sequence[str], environment: dict[str, str] | None) -> int:
    """The command's own exit code. strace, a grandchild here, is let go then: else it follows the service on."""
    words = ["strace", "-D", "-f", "-I1", "-qqq", *options, *command]
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(words, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    code = started.wait()
    with contextlib.suppress(ProcessLookupError):  # the group holds strace alone: what goes on has left it
        while True:
            os.killpg(started.pid, signal.SIGTERM)
            time.sleep(0.02)
    return code


def read(path: Path) -> Iterator[Call]:
    """Calls in the order in which they ended. Raises TraceError."""
    begun: dict[int, str] = {}
    counts: dict[tuple[int, str], int] = {}
    with path.open(encoding="latin-1") as lines:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                raise TraceError(f"not a line of strace: {line[:100]!r}")
            pid, resumed, text = int(match[1]), match[2], match[3]
            if text.startswith(("+++", "---")):
                continue
            if text.endswith(_UNFINISHED):
                begun[pid] = text.removesuffix(_UNFINISHED)
                continue
            if resumed:
                text = begun.pop(pid) + text
            name, _, rest = text.partition("(")
            counts[pid, name] = counts.get((pid, name), 0) + 1
            body, _, result = rest.rpartition(" = ")
            if result.startswith(("-1 ", "?")):
                continue
            yield Call(pid, name, _split(body.rstrip().removesuffix(")")), result, counts[pid, name])


def text_of(quoted: str) -> bytes:
    """The bytes of a string as strace quotes it with -xx. Raises TraceError: it was cut short."""
    if not quoted.startswith('"') or not quoted.endswith('"'):
        raise TraceError(f"not a whole string: {quoted[:60]!r} ... {quoted[-20:]!r}")
    return bytes.fromhex(_HEX.sub(r"\1", quoted[1:-1]))


def unhex(text: str) -> str:
    """What strace -xx shows, without its escapes."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def folder_of(argument: str) -> str:
    """The path that -y shows behind a descriptor: `3</a/b>` -> '/a/b'; '' where it shows none."""
    shown = argument.partition("<")[2].rpartition(">")[0]
    return unhex(shown)


def number_of(argument: str) -> int:
    """The descriptor itself."""
    return int(argument.partition("<")[0])


def _split(body: str) -> tuple[str, ...]:
    """Arguments; commas within quotes, brackets and <> do not count. With -xx a string holds no other quote."""
    parts, depth, start = [], 0, 0
    for token in _TOKEN.finditer(body):
        char = token[0]
        if char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(body[start : token.start()].strip())
            start = token.end()
    parts.append(body[start:].strip())
    return tuple(parts)
