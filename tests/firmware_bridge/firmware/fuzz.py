"""The fuzz target built, its first corpus, and a run of any length.

python -m tests.firmware_bridge.firmware.fuzz --seconds 600 --out out/fuzz-firmware
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
from binascii import crc_hqx
from pathlib import Path

from firmware_bridge.cobs import cobs_encode
from firmware_bridge.edgelink.codec import ArmRequest, Hello, Ping, Stop, encode
from tests.firmware_bridge.firmware.native import HERE, LIBRARY, compile_c

CLANG = "clang-14"
NO_CLANG = f"no {CLANG} here: apt install clang-14 libclang-rt-14-dev"


def build(folder: Path) -> Path:
    flags = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    return compile_c(folder, "fuzz", [*LIBRARY, HERE / "fuzz.c"], *flags, cc=CLANG)


def seed(folder: Path) -> None:
    """Whole conversations, in the pieces that fuzz.c reads: length, half milliseconds, bytes."""
    body = struct.pack("<BBHI2f", 4, 0, 3, 0x0000_1000, 0.4, -1.0)
    command = b"\0" + cobs_encode(body + struct.pack("<H", crc_hqx(body, 0xFFFF))) + b"\0"
    said = [encode(Hello(1, 0x06E25C48)), encode(ArmRequest(2, 0x0000_1000)), command, encode(Ping(4)), encode(Stop(5))]
    folder.mkdir(parents=True, exist_ok=True)
    for end in range(1, len(said) + 1):
        pieces = b"".join(bytes([len(wire), 10]) + wire for wire in said[:end])
        (folder / f"conversation-{end}").write_bytes(pieces + bytes([0, 10]) * 40)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="libFuzzer on the device in C.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz-firmware"))
    arguments = parser.parse_args(argv)
    seed(arguments.out / "corpus")
    options = [f"-max_total_time={arguments.seconds}", "-timeout=5", f"-artifact_prefix={arguments.out}/"]
    return subprocess.run([build(arguments.out), *options, arguments.out / "corpus"]).returncode


if __name__ == "__main__":
    sys.exit(main())
