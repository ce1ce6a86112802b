"""The worked example of docs/edgelink.md is what the codec makes."""

import re
from pathlib import Path

from edgevla.sim.virtual_arm import CHANNELS
from firmware_bridge.cobs import cobs_decode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import SENTENCES, Command, Kind, Limits, State, Verdict

PAGE = (Path(__file__).parents[2] / "docs/edgelink.md").read_text(encoding="utf-8")
NAN = float("nan")
COMMAND = codec.encode(Command(7, 1_000_000, (0.0, 0.6, 0.2, -1.0)), Limits(CHANNELS))
STATE = codec.encode(State(7, 1_000_000, 1, 0, 0, 0, (0.0, 0.6, 0.2, 1.0), (NAN, NAN, NAN, -400.0)))


def test_frames_on_the_page_are_the_codecs():
    assert COMMAND.hex(" ") in PAGE
    assert STATE.hex(" ") in PAGE


def test_the_taken_apart_command_is_its_body_row_by_row():
    start = PAGE.index("    04                     COMMAND")
    rows = PAGE[start : PAGE.index("\n\n", start)].splitlines()
    shown = "".join("".join(re.findall(r"\b[0-9a-f]{2}\b", row[:25])) for row in rows)
    assert bytes.fromhex(shown) == cobs_decode(COMMAND[1:-1])


def test_sizes_schema_and_codes_on_the_page_are_the_codecs():
    assert f"a COMMAND takes {len(COMMAND)} bytes and a STATE {len(STATE)}" in PAGE
    assert f"{codec.schema_hash(CHANNELS):#x}" in PAGE
    for kind in Kind:
        assert f"| {kind:02x} | {kind.name} |" in PAGE
    assert all(f"| {verdict.value} | " in PAGE for verdict in Verdict)
    assert len(SENTENCES) == len(Verdict)
