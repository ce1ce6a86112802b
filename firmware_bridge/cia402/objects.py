"""An object dictionary out of an EDS file (CiA 306), as far as a device needs it to serve one."""

from __future__ import annotations

import configparser
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EDS = Path(__file__).with_name("drive.eds")
STRING = 0x0009
_FORMS = {1: "<B", 2: "<b", 3: "<h", 4: "<i", 5: "<B", 6: "<H", 7: "<I"}  # data types of CiA 301
_SECTION = re.compile(r"([0-9A-Fa-f]{4})(?:sub([0-9A-Fa-f]+))?")
Place = tuple[int, int]  # index, sub-index


@dataclass(frozen=True)
class Entry:
    """One object: `form` packs its value, None for a string."""

    name: str
    form: struct.Struct | None
    readable: bool
    writable: bool
    default: int | bytes

    def pack(self, value: int | bytes) -> bytes:
        """The value's bytes on the wire. Raises struct.error for one out of the type's range."""
        return value if isinstance(value, bytes) else (self.form.pack(value) if self.form else b"")


def load(node: int, file: Path = EDS) -> Mapping[Place, Entry]:
    """The dictionary of node `node`. Raises OSError, ValueError, KeyError for a file that is no EDS."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(file.read_text(encoding="utf-8"))
    entries: dict[Place, Entry] = {}
    for title in parser.sections():
        match = _SECTION.fullmatch(title)
        if match is None or "DataType" not in parser[title]:
            continue
        entries[int(match[1], 16), int(match[2] or "0", 16)] = _entry(parser[title], node)
    return entries


def _entry(section: Mapping[str, str], node: int) -> Entry:
    kind, access, text = int(section["DataType"], 0), section["AccessType"].lower(), section.get("DefaultValue", "0")
    form = None if kind == STRING else struct.Struct(_FORMS[kind])
    default: int | bytes = text.encode() if form is None else _number(text, node)
    return Entry(section["ParameterName"], form, access != "wo", access in ("rw", "rww", "rwr", "wo"), default)


def _number(text: str, node: int) -> int:
    return sum(node if part.strip() == "$NODEID" else int(part, 0) for part in text.split("+"))
