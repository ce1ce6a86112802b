"""An instruction in a file: taken when the file changes to another whole line. Polled, pure but for the reading.

A file that is being written is never taken: the line must end in a newline, and two looks in a row must see the
same file. Best is to write beside it and rename: `echo "close the drawer" > x.new && mv x.new x`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from edgevla.errors import BadInput, explain
from edgevla.operate.say import NoMessage, clean

MAX_BYTES = 4096
Mark = tuple[int, int, int]  # inode, size, mtime in ns: another one means another content


@dataclass(frozen=True)
class Heard:
    """A new instruction, or why the new content is none (the old instruction stays). One of both is empty."""

    instruction: str = ""
    error: str = ""


@dataclass(frozen=True)
class Seen:
    """What earlier looks saw. `mark` of the last look, `judged` of the content that was last decided about."""

    mark: Mark | None = None
    judged: Mark | None = None
    instruction: str = ""


def text_of(content: bytes) -> str:
    """The one instruction in a file. Raises BadInput: not one line of UTF-8 that ends in a newline."""
    try:
        if len(content) > MAX_BYTES:
            raise NoMessage(f"more than {MAX_BYTES} bytes")
        if not content.endswith(b"\n"):
            raise NoMessage("no newline at the end: it may still be being written")
        return clean(content.decode("utf-8"))
    except UnicodeDecodeError:
        got = "other bytes"
    except NoMessage as error:
        got = str(error)
    what = "the instruction file holds no instruction"
    todo = 'write it with `echo "close the drawer" > FILE.new && mv FILE.new FILE`'
    raise BadInput(explain(what, "one line of UTF-8 with a newline at its end", got, todo))


def due(seen: Seen, mark: Mark | None) -> bool:
    """The content is worth reading: it stood still since the last look and nothing was decided about it."""
    return mark is not None and mark == seen.mark and mark != seen.judged


def decide(seen: Seen, mark: Mark, content: bytes) -> tuple[Seen, Heard | None]:
    """After reading `content` under `mark`: what to remember, and what was heard (None: nothing new)."""
    seen = replace(seen, judged=mark)
    try:
        text = text_of(content)
    except BadInput as error:
        return seen, Heard(error=str(error))
    if text == seen.instruction:
        return seen, None
    return replace(seen, instruction=text), Heard(instruction=text)


class InstructionFile:
    """`poll` it at every look of the run (50 ms); two looks after a change it tells what was heard."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = Seen()

    def first(self) -> str:
        """The instruction to begin with. Raises BadInput: no such file, or it holds none."""
        mark, content = self._read()
        if mark is None:
            what, todo = f"no instruction file at {self.path}", "write one, or pass --instruction"
            raise BadInput(explain(what, "a file with one line", "nothing that can be read", todo))
        text = text_of(content)
        self._seen = Seen(mark, mark, text)
        return text

    def poll(self) -> Heard | None:
        """What the file says since the last call; a file that is missing says nothing."""
        mark = self._mark()
        heard = None
        if due(self._seen, mark):
            read, content = self._read()
            if read == mark and read is not None:  # nobody wrote while it was read
                self._seen, heard = decide(self._seen, read, content)
        self._seen = replace(self._seen, mark=mark)
        return heard

    def _mark(self) -> Mark | None:
        try:
            return _mark_of(os.stat(self.path))
        except OSError:
            return None

    def _read(self) -> tuple[Mark | None, bytes]:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe under that name never holds
        except OSError:
            return None, b""
        try:
            content = os.read(fd, MAX_BYTES + 1)
            return _mark_of(os.fstat(fd)), content
        except OSError:
            return None, b""
        finally:
            os.close(fd)


def _mark_of(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns
