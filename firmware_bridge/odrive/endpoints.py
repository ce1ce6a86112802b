"""Parameters of an ODrive by path, through the flat_endpoints.json that ODrive publishes for each firmware.

Endpoint ids change with every firmware and board: a file of another one would write to whatever has that id there. So
the file must name exactly the version that the board reports, or nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.errors import BridgeError, WrongJoint, explain
from firmware_bridge.odrive.codec import PARAMETER_TYPES

_LARGEST = 4_000_000  # bytes; published files have some 0.2 MB
_TODO = "take flat_endpoints.json of exactly this board and firmware from ODrive's release page"


@dataclass(frozen=True)
class Endpoints:
    """`entries`: path -> (id, type), of types that an SDO of CANSimple carries."""

    file: str
    firmware: str  # 0.6.11
    hardware: str  # 5.2.0
    entries: Mapping[str, tuple[int, str]]

    def entry(self, path: str) -> tuple[int, str]:
        """Raises BridgeError for a path that the file does not have."""
        if path not in self.entries:
            raise BridgeError(explain(f"{self.file} lacks a parameter", path, "no such entry", _TODO))
        return self.entries[path]

    def check(self, joint: str, version: tuple[int, ...]) -> None:
        """`version`: the values of Get_Version. Raises WrongJoint unless the file is of that board and firmware."""
        hardware, firmware = ".".join(map(str, version[1:4])), ".".join(map(str, version[4:7]))
        if (hardware, firmware) != (self.hardware, self.firmware):
            raise WrongJoint(
                explain(
                    f"{joint}: {self.file} is of another board or firmware, nothing was written",
                    f"board {self.hardware}, firmware {self.firmware}",
                    f"board {hardware}, firmware {firmware}",
                    _TODO,
                )
            )


def load(file: str) -> Endpoints:
    """Raises BridgeError for a file that is not a flat_endpoints.json."""
    try:
        if Path(file).stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        parsed = json.loads(Path(file).read_text(encoding="utf-8"))
        entries = {
            path: (int(entry["id"]), str(entry["type"]))
            for path, entry in parsed["endpoints"].items()
            if entry.get("type") in PARAMETER_TYPES
        }
        firmware = str(parsed["fw_version"]).partition("-")[0]
        return Endpoints(file, firmware, str(parsed["hw_version"]), entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise BridgeError(explain(f"cannot use {file}", "a flat_endpoints.json", got, _TODO)) from None
