"""The one form of a tar entry in a release archive: a plain file, mode 644, owner 0, time 0, named in full.

As an archive has exactly one right form, the reader compares headers instead of interpreting them: what a link, a
device, an extended header or a second name would do never matters. `describe` only finds the words for what came.
"""

from __future__ import annotations

import re

from edgevla.trust.words import shown

BLOCK = 512  # bytes
END = bytes(2 * BLOCK)
MANIFEST_ROOT = ".bundle/"  # behind the bundle's name, in front of every path

_LONG = b"././@LongLink"  # GNU tar's, for the few names that the older form cannot hold
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder of its own",
    b"6": "a named pipe",
    b"K": "a long link name",
    b"L": "a long name",
    b"S": "a sparse file",
    b"x": "an extended (PAX) header",
    b"g": "a global extended (PAX) header",
}
_FIRST = re.compile(rb"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.bundle/manifest\.json")


def header(path: str, size: int) -> bytes:
    """The bytes in front of a file's content: 512, or 1536 where the path does not fit the older form. Path: ASCII."""
    name = path.encode("ascii")
    if len(name) <= 100:
        return _block(name, b"", size, b"0")
    cut = name.find(b"/", max(0, len(name) - 101))
    if 0 < cut <= 155:
        return _block(name[cut + 1 :], name[:cut], size, b"0")
    return _block(_LONG, b"", len(name) + 1, b"L") + padded(name + b"\0") + _block(name[:100], b"", size, b"0")


def padded(content: bytes) -> bytes:
    """With zeros up to the next whole block."""
    return content + bytes(-len(content) % BLOCK)


def first_entry(block: bytes) -> tuple[str, int] | None:
    """Name of the bundle and size of its manifest, from the first header; None if it is no such header."""
    found = _FIRST.fullmatch(block[:100].rstrip(b"\0"))
    size = block[124:135]
    if found is None or not re.fullmatch(rb"[0-7]{11}", size):
        return None
    name, count = found[1].decode("ascii"), int(size, 8)
    return (name, count) if header(f"{name}.bundle/manifest.json", count) == block else None


def describe(block: bytes, path: str) -> str:
    """Why a block is not the header of `path`, in words; reads defensively and decides nothing."""
    if len(block) < BLOCK:
        return "the archive ends"
    block = block[:BLOCK]
    if block == bytes(BLOCK):
        return "the end of the archive"
    if _checksum(block) != block[148:156]:
        return "a damaged header"
    prefix, name = block[345:500].rstrip(b"\0"), block[:100].rstrip(b"\0")
    found = shown((prefix + b"/" + name if prefix else name).decode("ascii", "backslashreplace"))
    kind = _KINDS.get(block[156:157])
    if kind:
        return f"{kind}: {found}"
    if block[156:157] not in (b"0", b"\0"):
        return f"an entry of unknown kind: {found}"
    if found.startswith("/"):
        return f"an absolute path: {found}"
    if ".." in found.split("/"):
        return f"a path out of the bundle: {found}"
    return f"another size, mode, owner or time of {found}" if found == path else f"the file {found}"


def _block(name: bytes, prefix: bytes, size: int, kind: bytes) -> bytes:
    """One ustar header (POSIX.1-1988); numbers are octal text."""
    fields = [
        name.ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0" * 2,  # uid, gid
        b"%011o\0" % size,
        b"00000000000\0",  # time
        b" " * 8,  # checksum, counted as spaces
        kind,
        bytes(100),  # link name
        b"ustar\x0000",
        bytes(64 + 16),  # names of user and group, device numbers
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(fields)
    return block[:148] + _checksum(block) + block[156:]


def _checksum(block: bytes) -> bytes:
    return b"%06o\0 " % (sum(block[:148]) + 8 * ord(" ") + sum(block[156:]))
