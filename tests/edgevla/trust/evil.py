"""What somebody may put into an archive, built entry by entry, and the words that must come back."""

from __future__ import annotations

import tarfile
from collections.abc import Callable

from tests.edgevla.trust.releases import FILES, Entry, entry

TOP = "arm.bundle/"
FIRST = 3  # the entry behind manifest.json, manifest.sha256 and manifest.sig: model/head.onnx
LAST = FIRST + len(FILES) - 1
HEAD = FILES["model/head.onnx"]

Change = Callable[[list[Entry]], object]


def put(place: int, *new: Entry) -> Change:
    return lambda entries: entries.__setitem__(slice(place, place), new)


def instead(place: int, *new: Entry) -> Change:
    return lambda entries: entries.__setitem__(slice(place, place + 1), new)


def head(**more: object) -> Entry:
    """model/head.onnx with something else in its header."""
    return entry(TOP + "model/head.onnx", HEAD, **more)


def pax(**headers: str) -> Entry:
    """A file behind an extended header, as tarfile writes it."""
    return entry(TOP + "model/head.onnx", HEAD, form=tarfile.PAX_FORMAT, pax_headers=headers)


def header_changed(place: int, at: int, value: bytes) -> Change:
    """A byte of a header changed, and its checksum made right again."""

    def change(entries: list[Entry]) -> None:
        block = bytearray(entries[place].header)
        block[at : at + len(value)] = value
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        entries[place] = Entry(bytes(block), entries[place].content)

    return change


def swapped(one: int, other: int) -> Change:
    def change(entries: list[Entry]) -> None:
        entries[one], entries[other] = entries[other], entries[one]

    return change


EVIL: dict[str, tuple[Change, str]] = {
    "a path out of the folder": (
        put(FIRST, entry(TOP + "../../evil", b"x")),
        "a path out of the bundle: arm.bundle/../../evil",
    ),
    "an absolute path": (put(FIRST, entry("/etc/cron.d/evil", b"x")), "an absolute path: /etc/cron.d/evil"),
    "a symbolic link": (
        put(FIRST, entry(TOP + "model", kind=tarfile.SYMTYPE, linkname="/etc")),
        "a symbolic link: arm.bundle/model",
    ),
    "a link in place of a file": (
        instead(FIRST, entry(TOP + "model/head.onnx", kind=tarfile.SYMTYPE, linkname="../z.txt")),
        "a symbolic link",
    ),
    "a hard link": (
        instead(FIRST, entry(TOP + "model/head.onnx", kind=tarfile.LNKTYPE, linkname="/etc/shadow")),
        "a hard link",
    ),
    "a character device": (
        put(FIRST, entry(TOP + "null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)),
        "a character device",
    ),
    "a block device": (put(FIRST, entry(TOP + "sda", kind=tarfile.BLKTYPE, devmajor=8)), "a block device"),
    "a named pipe": (put(FIRST, entry(TOP + "pipe", kind=tarfile.FIFOTYPE)), "a named pipe"),
    "a folder": (put(FIRST, entry(TOP + "model", kind=tarfile.DIRTYPE, mode=0o777)), "a folder of its own"),
    "a contiguous file": (instead(FIRST, head(kind=tarfile.CONTTYPE)), "an entry of unknown kind"),
    "an old kind of file": (instead(FIRST, head(kind=tarfile.AREGTYPE)), "another size, mode, owner or time"),
    "a GNU sparse file": (instead(FIRST, head(kind=tarfile.GNUTYPE_SPARSE)), "a sparse file"),
    "an extended header with another path": (instead(FIRST, pax(path="/etc/passwd")), "an extended (PAX) header"),
    "an extended header with another size": (instead(FIRST, pax(size="99999999999")), "an extended (PAX) header"),
    "a sparse map in an extended header": (
        instead(FIRST, pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000000"})),
        "an extended (PAX) header",
    ),
    "a global extended header": (
        put(FIRST, entry("pax_global_header", b"18 path=/etc/pass\n", kind=tarfile.XGLTYPE)),
        "global",
    ),
    "a long name that leads elsewhere": (
        put(FIRST, entry("././@LongLink", b"/etc/passwd\0", kind=tarfile.GNUTYPE_LONGNAME)),
        "a long name",
    ),
    "a long link name": (
        put(FIRST, entry("././@LongLink", b"/etc\0", kind=tarfile.GNUTYPE_LONGLINK)),
        "a long link name",
    ),
    "a file twice": (lambda e: e.insert(FIRST, e[FIRST]), "the file arm.bundle/model/head.onnx"),
    "a file twice with other bytes behind": (put(LAST + 1, head()), "the file arm.bundle/model/head.onnx"),
    "the manifest twice": (lambda e: e.insert(1, e[0]), "the file arm.bundle/manifest.json"),
    "a second manifest at the end": (lambda e: e.append(e[0]), "the file arm.bundle/manifest.json"),
    "the signature twice": (lambda e: e.insert(FIRST, e[2]), "the file arm.bundle/manifest.sig"),
    "the signature at the end": (lambda e: e.append(e.pop(2)), "not signed"),
    "an extra file": (put(LAST + 1, entry(TOP + "zz", b"x")), "the file arm.bundle/zz"),
    "an extra file in front": (put(0, entry(TOP + "a", b"x")), "the file arm.bundle/a"),
    "a missing file": (lambda e: e.pop(FIRST), "the file arm.bundle/profiles/arm.toml"),
    "a missing last file": (lambda e: e.pop(LAST), "the end of the archive"),
    "no manifest": (lambda e: e.pop(0), "NAME.bundle/manifest.json first"),
    "no checksum": (lambda e: e.pop(1), "the file arm.bundle/manifest.sig"),
    "nothing at all": (lambda e: e.clear(), "the end of the archive"),
    "files in another order": (swapped(FIRST, LAST), "the file arm.bundle/z.txt"),
    "the checksum first": (swapped(0, 1), "the file arm.bundle/manifest.sha256"),
    "a file too short": (instead(FIRST, entry(TOP + "model/head.onnx", HEAD[:-1])), "another size"),
    "a file too long": (instead(FIRST, entry(TOP + "model/head.onnx", HEAD + b"x")), "another size"),
    "other bytes": (instead(FIRST, entry(TOP + "model/head.onnx", b"X" + HEAD[1:])), "model/head.onnx: sha256"),
    "other bytes in the checksum": (
        instead(1, entry(TOP + "manifest.sha256", b"0" * 80)),
        "the sha256 of manifest.json",
    ),
    "a checksum of another size": (instead(1, entry(TOP + "manifest.sha256", b"0" * 81)), "another size"),
    "a signature too short": (instead(2, entry(TOP + "manifest.sig", bytes(63))), "not signed"),
    "another signature": (instead(2, entry(TOP + "manifest.sig", bytes(64))), "signature is wrong"),
    "another folder": (
        instead(FIRST, entry("other.bundle/model/head.onnx", HEAD)),
        "the file other.bundle/model/head.onnx",
    ),
    "a name that is not the manifest's": (
        lambda e: e.__setitem__(slice(None), [entry(one.name.replace("arm.", "leg."), one.content) for one in e]),
        "manifest.sha256",
    ),
    "bytes between files": (
        instead(FIRST, Entry(head().header, HEAD + b"\1" * (512 - len(HEAD) % 512))),
        "zeros behind a file",
    ),
    "executable": (instead(FIRST, head(mode=0o755)), "another size, mode, owner or time"),
    "set-user-id": (instead(FIRST, head(mode=0o4644)), "another size, mode, owner or time"),
    "an owner": (instead(FIRST, head(uid=1000)), "another size, mode, owner or time"),
    "a group": (instead(FIRST, head(gid=1000)), "another size, mode, owner or time"),
    "the name of an owner": (instead(FIRST, head(uname="root")), "another size, mode, owner or time"),
    "a time": (instead(FIRST, head(mtime=1)), "another size, mode, owner or time"),
    "GNU's form": (instead(FIRST, head(form=tarfile.GNU_FORMAT)), "another size, mode, owner or time"),
    "a link name on a file": (header_changed(FIRST, 157, b"/etc"), "another size, mode, owner or time"),
    "bytes behind the header's end": (header_changed(FIRST, 500, b"x"), "another size, mode, owner or time"),
    "a prefix that hides the path": (header_changed(FIRST, 345, b".."), "a path out of the bundle"),
    "a size in base 256": (header_changed(FIRST, 124, b"\x80" + bytes(10) + b"\7"), "another size"),
    "a negative size": (header_changed(FIRST, 124, b"\xff" * 12), "another size"),
    "a size that is no number": (header_changed(FIRST, 124, b"99999999999"), "another size"),
    "a manifest of a negative size": (header_changed(0, 124, b"\xff" * 12), "NAME.bundle/manifest.json first"),
    "a manifest of five megabytes": (
        header_changed(0, 124, b"%011o\0" % (5 * 1024**2)),
        "NAME.bundle/manifest.json first",
    ),
    "a name that would clear the terminal": (
        header_changed(FIRST, 0, b"\x1b[2J\n"),
        "the file \\x1b[2J\\nundle/model/head.onnx",
    ),
    "a path that is no text": (header_changed(FIRST, 0, b"\xff\xfe"), "the file \\xff\\xfe"),
    "a header with a wrong checksum": (
        lambda e: e.__setitem__(FIRST, Entry(e[FIRST].header[:1] + b"X" + e[FIRST].header[2:], e[FIRST].content)),
        "a damaged header",
    ),
}
