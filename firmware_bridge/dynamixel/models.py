"""The X series: models, registers, codes. Source: the ROBOTIS e-manual, one page per model (docs/en/dxl/x/<model>).

Effort is current times the torque constant, stall torque over stall current at the recommended voltage as the page's
table "Specifications" gives them. Friction in the gears makes that a coarse value, best near stall. Models without a
current sensor report a load in percent of the voltage instead: their effort is not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

COUNTS_PER_TURN = 4096  # of every X series model but XL320 ("Resolution"), which speaks another register table
RAD_PER_COUNT = 2.0 * math.pi / COUNTS_PER_TURN
VELOCITY_RAD_S = 0.229 * 2.0 * math.pi / 60.0  # unit of Present Velocity(128): 0.229 rev/min
ACCELERATION_RAD_S2 = 214.577 * 2.0 * math.pi / 3600.0  # unit of Profile Acceleration(108): 214.577 rev/min^2
WATCHDOG_UNIT_S = 0.020  # of Bus Watchdog(98)
WATCHDOG_MOST = 127
WATCHDOG_EXPIRED = 0xFF  # what Bus Watchdog(98) reads then, until 0 is written
RETURN_DELAY_UNIT_S = 2e-6  # of Return Delay Time(9)
MOST_COUNTS = 1_048_575  # of Goal Position(116) in modes 4 and 5: 256 turns each way


class Register(NamedTuple):
    """Where a value lies; little-endian. Below 64 it is EEPROM: read-only while torque is on."""

    address: int
    size: int
    signed: bool = False
    writable: bool = True


MODEL_NUMBER = Register(0, 2, writable=False)
FIRMWARE = Register(6, 1, writable=False)
ID = Register(7, 1)
RETURN_DELAY = Register(9, 1)
DRIVE_MODE = Register(10, 1)
OPERATING_MODE = Register(11, 1)
SECONDARY_ID = Register(12, 1)
HOMING_OFFSET = Register(20, 4, signed=True)
CURRENT_LIMIT = Register(38, 2)
MAX_POSITION = Register(48, 4)
MIN_POSITION = Register(52, 4)
STARTUP = Register(60, 1)
TORQUE = Register(64, 1)
STATUS_RETURN = Register(68, 1)
HARDWARE_ERROR = Register(70, 1, writable=False)
BUS_WATCHDOG = Register(98, 1)
GOAL_CURRENT = Register(102, 2, signed=True)
PROFILE_ACCELERATION = Register(108, 4)
PROFILE_VELOCITY = Register(112, 4)
GOAL_POSITION = Register(116, 4, signed=True)
MOVING = Register(122, 1, writable=False)
PRESENT_CURRENT = Register(126, 2, signed=True, writable=False)
PRESENT_VELOCITY = Register(128, 4, signed=True, writable=False)
PRESENT_POSITION = Register(132, 4, signed=True, writable=False)
PRESENT_VOLTAGE = Register(144, 2, writable=False)
PRESENT_TEMPERATURE = Register(146, 1, writable=False)
INDIRECT_ADDRESS = Register(168, 2)  # of the first byte of indirect data; the next two bytes: of the second

EEPROM_END = 64
NO_SECONDARY = 255

# Drive Mode(10)
REVERSE = 0x01  # turns the sense of positions, velocities and currents
TIME_PROFILE = 0x04  # profile registers in milliseconds
TORQUE_BY_GOAL = 0x08  # a goal switches torque on

# Startup Configuration(60)
STARTUP_TORQUE = 0x01  # torque on at power-up
RAM_RESTORE = 0x02

# Operating Mode(11)
POSITION, EXTENDED_POSITION, CURRENT_BASED_POSITION = 3, 4, 5
HOMING_OF_POSITION_MODE = 1024  # mode 3 ignores a homing offset beyond this (e-manual, Homing Offset(20))


@dataclass(frozen=True)
class Model:
    """One model. `current_ma`: unit of Present Current(126); None where 126 is a load, not a current."""

    name: str
    number: int
    family: str  # "330", "430", "540"
    current_ma: float | None = None
    stall_nm: float = math.nan  # at the recommended voltage
    stall_a: float = math.nan
    fast: bool = True  # False: knows no fast reads at any firmware

    @property
    def nm_per_unit(self) -> float:
        """N m per unit of Present Current; NaN where it has no current sensor."""
        return math.nan if self.current_ma is None else self.current_ma * 1e-3 * self.stall_nm / self.stall_a

    @property
    def max_current(self) -> int:
        """Largest value of Goal Current(102) that is worth writing: the stall current, in units."""
        return 0 if self.current_ma is None else round(self.stall_a * 1e3 / self.current_ma)

    def reads_fast(self, firmware: int) -> bool:
        """Whether fast sync and bulk read (0x8A, 0x9A) are there: X430/540 from v45, X330 from v46, 2X never."""
        return self.fast and firmware >= (46 if self.family == "330" else 45)

    def has_watchdog(self, firmware: int) -> bool:
        """Bus Watchdog(98) came with v38; X330 has always had it."""
        return self.family == "330" or firmware >= 38

    def has_startup(self, firmware: int) -> bool:
        """Startup Configuration(60) and Torque On by Goal Update: X430/540 from v45, X330 from v46."""
        return firmware >= (46 if self.family == "330" else 45)

    def indirect_data(self, firmware: int) -> int:
        """Address of the first byte of indirect data.

        X330 from v52: 20 of them at 208 (dynamixel-sdk 4.1, xl330_m288_fw52.model); the others: 28 at 224.
        """
        return 208 if self.family == "330" and firmware >= 52 else 224

    def modes(self) -> tuple[int, ...]:
        """The operating modes that follow positions."""
        both = (POSITION, EXTENDED_POSITION)
        return both if self.current_ma is None else (*both, CURRENT_BASED_POSITION)


# Model number and current unit: the page's control table; stall torque and current: its specifications.
MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("xl330-m077", 1190, "330", 1.0, 0.215, 1.47),
        Model("xl330-m288", 1200, "330", 1.0, 0.52, 1.47),
        Model("xc330-t181", 1210, "330", 1.0, 0.76, 0.80),
        Model("xc330-t288", 1220, "330", 1.0, 0.92, 0.80),
        Model("xc330-m181", 1230, "330", 1.0, 0.60, 1.80),
        Model("xc330-m288", 1240, "330", 1.0, 0.93, 1.80),
        Model("xl430-w250", 1060, "430"),
        Model("2xl430-w250", 1090, "430", fast=False),
        Model("xc430-w150", 1070, "430"),
        Model("xc430-w240", 1080, "430"),
        Model("2xc430-w250", 1160, "430", fast=False),
        Model("xm430-w210", 1030, "430", 2.69, 3.0, 2.3),
        Model("xm430-w350", 1020, "430", 2.69, 4.1, 2.3),
        Model("xh430-w210", 1010, "430", 2.69, 2.5, 1.3),
        Model("xh430-w350", 1000, "430", 2.69, 3.4, 1.3),
        Model("xh430-v210", 1050, "430", 1.34, 2.6, 0.7),
        Model("xh430-v350", 1040, "430", 1.34, 3.3, 0.7),
        Model("xm540-w150", 1130, "540", 2.69, 7.3, 4.4),
        Model("xm540-w270", 1120, "540", 2.69, 10.6, 4.4),
        Model("xh540-w150", 1110, "540", 2.69, 7.1, 4.9),
        Model("xh540-w270", 1100, "540", 2.69, 9.9, 4.9),
        Model("xh540-v150", 1150, "540", 2.69, 6.4, 2.4),
        Model("xh540-v270", 1140, "540", 2.69, 9.2, 2.4),
    )
}
BY_NUMBER: dict[int, Model] = {model.number: model for model in MODELS.values()}

# Hardware Error Status(70), bit -> sentence (e-manual, Shutdown(63)). Only a reboot or a power cycle clears it.
HARDWARE_ERRORS: dict[int, str] = {
    0x01: "input voltage outside the servo's limits",
    0x04: "overheating: above the temperature limit",
    0x08: "motor encoder fault",
    0x10: "electrical shock, or too little power to run the motor",
    0x20: "overload: more load than it can hold, for too long",
}


def hardware_sentence(code: int) -> str:
    """In words, for people; an unknown bit is named by its number."""
    known = [text for bit, text in HARDWARE_ERRORS.items() if code & bit]
    unknown = code & ~sum(HARDWARE_ERRORS)
    return "; ".join(known + ([f"unknown bits {unknown:#04x}"] if unknown else [])) or "no hardware error"
