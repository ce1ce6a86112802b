"""Command lines of the two flashing tools, and whether the board may be flashed now. No shell is involved.

dfu-util: ST's DfuSe (UM0424, AN3156): -s ADDRESS:leave starts the firmware afterwards.
openocd: `program FILE ADDRESS verify reset exit` (its manual, section "Flash Programming").
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.arm import Mode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Decoder, Ping, State
from firmware_bridge.errors import BadFirmware, FirmwareError, NoAnswer, explain
from firmware_bridge.transport.base import Transport

ANSWER_S = 0.5  # s, for the one question before flashing
_SEQ = 0x0F1A  # of that question: any number, a PING is never refused
CHIP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # one of openocd's target scripts, which it reads as a file's name
_RISKY = set(' \t\r\n{}[]$"\\;')  # openocd takes the path inside a Tcl command


def dfu_util(image: Path, address: int, _chip: str) -> list[str]:
    return ["dfu-util", "-a", "0", "-s", f"{address:#010x}:leave", "-D", str(image)]


def openocd(image: Path, address: int, chip: str) -> list[str]:
    """`chip`: a target script of openocd, without its folder and ending. ELF files carry their own addresses."""
    if _RISKY & set(str(image)):
        raise BadFirmware(
            explain("openocd cannot take this path", "no spaces or Tcl signs", str(image), "move the image elsewhere")
        )
    where = "" if image.suffix == ".elf" else f" {address:#010x}"
    program = f"program {image}{where} verify reset exit"
    return ["openocd", "-f", "interface/stlink.cfg", "-f", f"target/{chip}.cfg", "-c", program]


TOOLS: dict[str, Callable[[Path, int, str], list[str]]] = {"dfu-util": dfu_util, "openocd": openocd}


def require_disarmed(transport: Transport) -> None:
    """Asks the device, without greeting it: PortError when a run has the port, NoAnswer, FirmwareError when armed.

    Flashing ends torque. A stopped arm holds with torque, so it is refused like an armed one.
    """
    transport.open()
    try:
        transport.write(codec.encode(Ping(_SEQ)))
        state = _answer(transport, time.monotonic_ns() + int(ANSWER_S * 1e9))
    finally:
        transport.close()
    if state is None:
        raise NoAnswer(
            explain(
                f"the device on {transport.name} does not say whether it is armed",
                f"a STATE within {ANSWER_S:g} s",
                "silence",
                "check power and baud rate; for a board without this firmware pass --blank",
            )
        )
    if state.mode != Mode.DISARMED:
        raise FirmwareError(
            explain(
                f"the arm on {transport.name} is not disarmed",
                "mode DISARMED: flashing ends torque, and the arm may fall",
                f"mode {Mode(state.mode).name}",
                "end the run, support the arm, power-cycle it (it starts disarmed), then flash",
            )
        )


def _answer(transport: Transport, deadline_ns: int) -> State | None:
    decoder = Decoder()
    while transport.wait_readable(deadline_ns):
        for message in decoder.feed(transport.read()):
            if isinstance(message, State) and message.seq == _SEQ:
                return message
    return None
