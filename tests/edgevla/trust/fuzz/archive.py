"""Archives from anybody: what is taken is the one right form of what came out, everything else is one BadInput.

First byte: 0 the rest is a .tar.zst; 1 a tar stream; 2 the tar stream of a right archive with pieces replaced.
"""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from tests.edgevla.trust.fuzz._instrumented import instrumented

with instrumented(__name__ == "__main__"):
    from edgevla.errors import BadInput
    from edgevla.trust.archive import Contents, unsigned
    from edgevla.trust.zstd_stream import FrameReader

from tests.edgevla.trust.releases import FILES, entry, manifest_of, raw_of, sum_line, tar_of, untarred

MANIFEST = raw_of(manifest_of())
HEADS = [("manifest.json", MANIFEST), ("manifest.sha256", sum_line(MANIFEST)), ("manifest.sig", bytes(64))]
RIGHT = tar_of(entry(f"arm.bundle/{name}", raw) for name, raw in [*HEADS, *sorted(FILES.items())])


class Plain:
    """A tar stream without a frame around it, in pieces of uneven size."""

    def __init__(self, raw: bytes) -> None:
        self._file = io.BytesIO(raw)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, 700))

    def finish(self) -> None:
        if self._file.read(1):
            self.refuse("the end", "more")

    def refuse(self, expected: str, got: object) -> NoReturn:
        raise BadInput(f"expected: {expected}, got: {got}")


def seeds() -> list[bytes]:
    from tests.edgevla.trust.releases import compressed

    small = tar_of(entry(f"arm.bundle/{name}", raw) for name, raw in HEADS)
    return [b"\0" + compressed(RIGHT), b"\1" + RIGHT, b"\1" + small, b"\2\0\0\1x", b"\2\6\0\4link"]


def check(data: bytes) -> None:
    """What must hold for any bytes."""
    way, rest = data[:1], data[1:]
    if way == b"\0":
        taken(FrameReader, rest)
    elif way == b"\1":
        taken(lambda file, _: Plain(file.read()), rest)
    elif way == b"\2":
        tar = bytearray(RIGHT)
        while len(rest) > 3:  # 2 bytes of place, 1 of length, the piece
            place, length = int.from_bytes(rest[:2], "little") % len(tar), rest[2] % 64
            tar[place : place + length] = rest[3 : 3 + length]
            rest = rest[3 + length :]
        taken(lambda file, _: Plain(file.read()), bytes(tar))


def taken(reader: object, raw: bytes) -> None:
    """Refused with BadInput, or taken; and then it is what our own writer would make of it."""
    found = {}
    try:
        contents = Contents(reader(io.BytesIO(raw), "fuzzed"), unsigned)  # type: ignore[operator]
        for name, blocks in contents.files():
            found[name] = b"".join(blocks)
    except BadInput:
        return
    head = contents.head
    heads = [("manifest.json", head.manifest), ("manifest.sha256", sum_line(head.manifest))]
    heads += [] if head.signature is None else [("manifest.sig", head.signature)]
    top = contents.envelope.name + ".bundle/"
    again = tar_of(entry(top + name, content) for name, content in [*heads, *sorted(found.items())])
    if again != (untarred(raw) if reader is FrameReader else raw):
        raise RuntimeError("two archives of the same bundle")


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
