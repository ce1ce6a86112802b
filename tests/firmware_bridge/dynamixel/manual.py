"""Packets that the e-manual prints, docs/en/dxl/protocol2/."""

# e-manual, Ping, Example 1: id 1 is an XM430-W210 (1030) with firmware 38
PING_1 = bytes.fromhex("ff ff fd 00 01 03 00 01 19 4e")
PONG_1 = bytes.fromhex("ff ff fd 00 01 07 00 55 00 06 04 26 65 5d")
# Fast Sync Read, Example: ids 3, 7, 4 at 166, 2079, 1023
FAST_ANSWER = bytes.fromhex(
    "ff ff fd 00 fe 19 00 55 00 03 a6 00 00 00 84 08 00 07 1f 08 00 00 16 ca 00 04 ff 03 00 00 d1 9e"
)
