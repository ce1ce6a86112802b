"""A firmware image as data: its vector table, where it was linked, whose device it is. Nothing is run.

.bin: the bytes from the vector table on. .elf: 32-bit little-endian Arm; its loadable segments in physical order.
Vector table: Arm DDI 0403 B1.5.3 (word 0 the stack pointer, word 1 the reset handler with bit 0 set).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.errors import BadFirmware, explain

LARGEST = 4 * 1024 * 1024  # bytes: no microcontroller of this kind holds more
_MAGIC = b"EDGEFW\0\1"
_IDENTITY = struct.Struct("<8sIIHBB44s")  # src/identity.h
_ELF_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SEGMENT = struct.Struct("<IIIIIIII")  # type, offset, vaddr, paddr, filesz, memsz, flags, align
_ARM, _LOAD = 40, 1
_SRAM = range(0x2000_0000, 0x4000_0000)  # Armv7-M memory map, DDI 0403 B3.1
_CCM = range(0x1000_0000, 0x2000_0000)  # core-coupled memory of some STM32


@dataclass(frozen=True)
class Image:
    """What an image says of itself. `linked_at`: where its vector table belongs; None for a .bin: it does not say."""

    path: str
    size: int  # bytes that go to the flash
    sha256: str  # of the file
    stack_pointer: int
    reset: int  # address of the first instruction
    linked_at: int | None
    schema: int
    profile: str
    channels: int
    watchdog_ms: int
    period_us: int


def read_image(path: Path) -> Image:
    """Raises BadFirmware for whatever is no firmware of ours for a Cortex-M."""
    data = _bytes_of(path)
    linked_at, flat = _flattened(path, data) if data.startswith(b"\x7fELF") else (None, data)
    stack_pointer, reset = _vectors(path, flat, linked_at)
    schema, period_us, watchdog_ms, channels, name = _identity(path, flat)
    digest = hashlib.sha256(data).hexdigest()
    return Image(
        *(str(path), len(flat), digest, stack_pointer, reset - 1, linked_at),
        *(schema, name, channels, watchdog_ms, period_us),
    )


def require_fits(image: Image, address: int, schema: int) -> None:
    """Raises BadFirmware unless `image` may be flashed to `address` for a host of `schema`."""
    if image.schema != schema:
        raise _refusal(
            image.path,
            f"firmware schema {image.schema:#010x}, host schema {schema:#010x}: reflash with firmware of this profile",
            f"an image for schema {schema:#010x}",
            f"one for schema {image.schema:#010x}, profile {image.profile}",
            "build it again from the profile that the host will use",
        )
    if image.linked_at not in (None, address) or image.reset not in range(address, address + image.size):
        raise _refusal(
            image.path,
            "the image was linked for another address",
            f"a vector table and a reset handler at {address:#010x} .. {address + image.size:#010x}",
            f"reset handler {image.reset:#010x}",
            "link it for your board's flash, or pass that address with --address",
        )


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if 0 < size <= LARGEST else b""
    except OSError as error:
        raise _refusal(str(path), "the image cannot be read", "a file", error.strerror, "pass its path") from None
    if not data:
        raise _refusal(str(path), "no image", f"1 to {LARGEST} bytes", f"{size} bytes", "pass a .bin or an .elf")
    return data


def _flattened(path: Path, data: bytes) -> tuple[int, bytes]:
    """(lowest physical address, bytes from there on) of an ELF file's loadable segments."""
    try:
        header = _ELF_HEADER.unpack_from(data)
        ident, machine, offset, entry_size, count = header[0], header[2], header[5], header[9], header[10]
        segments = [_SEGMENT.unpack_from(data, offset + i * entry_size) for i in range(count)]
    except struct.error:
        raise _refusal(str(path), "a cut ELF file", "whole headers", f"{len(data)} bytes", "build it again") from None
    loads = sorted((s[3], data[s[1] : s[1] + s[4]], s[4]) for s in segments if s[0] == _LOAD and s[4] > 0)
    sound = ident[4:6] == b"\x01\x01" and machine == _ARM and loads
    span = loads[-1][0] + loads[-1][2] - loads[0][0] if sound else 0
    if not sound or span > LARGEST or any(len(part) != size for _, part, size in loads):
        got = f"machine {machine}, class {ident[4]}, {len(loads)} segments over {span} bytes"
        expected = "32-bit little-endian Arm, whole segments"
        raise _refusal(str(path), "an ELF file that no Cortex-M runs", expected, got, "pass the firmware's image")
    flat = bytearray(span)
    for address, part, size in loads:
        flat[address - loads[0][0] : address - loads[0][0] + size] = part
    return loads[0][0], bytes(flat)


def _vectors(path: Path, flat: bytes, linked_at: int | None) -> tuple[int, int]:
    if len(flat) < 64:
        raise _refusal(str(path), "no vector table", "16 words at least", f"{len(flat)} bytes", "build it again")
    stack_pointer, reset = struct.unpack_from("<II", flat)
    in_ram = stack_pointer % 4 == 0 and any(stack_pointer - 1 in memory for memory in (_SRAM, _CCM))
    code = range(linked_at, linked_at + len(flat)) if linked_at is not None else range(0x1000_0000)
    if not in_ram or not reset & 1 or reset - 1 not in code:
        raise _refusal(
            str(path),
            "its vector table is no Cortex-M's",
            "a stack pointer in RAM (0x20000000 on) and a reset handler with bit 0 set inside the image",
            f"{stack_pointer:#010x}, {reset:#010x}",
            "pass the .bin or .elf that the build made",
        )
    return stack_pointer, reset


def _identity(path: Path, flat: bytes) -> tuple[int, int, int, int, str]:
    """(schema, period us, watchdog ms, channels, profile)."""
    at = flat.find(_MAGIC)
    if at < 0 or flat.find(_MAGIC, at + 1) >= 0 or at + _IDENTITY.size > len(flat):
        times = flat.count(_MAGIC)
        raise _refusal(
            str(path),
            "no firmware of this project",
            "one identity inside the image",
            f"{times} found",
            "build it with `edgevla firmware build`, or include src/identity.h in your own",
        )
    _, schema, period_us, watchdog_ms, channels, _, name = _IDENTITY.unpack_from(flat, at)
    return schema, period_us, watchdog_ms, channels, name.rstrip(b"\0").decode("ascii", "replace")


def _refusal(path: str, what: str, expected: object, got: object, todo: str) -> BadFirmware:
    return BadFirmware(explain(f"{path}: {what}", expected, got, todo))
