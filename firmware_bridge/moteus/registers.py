"""Registers, scales, modes and fault codes of moteus (mjbots/moteus, docs/protocol/registers.md), as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

INT8, INT16, INT32, FLOAT = range(4)  # resolutions, as subframes count them


class Mode(IntEnum):
    """Register 0x000."""

    STOPPED = 0  # no torque; the only one that clears a fault or a timeout
    FAULT = 1
    ENABLING = 2
    CALIBRATING = 3
    CALIBRATED = 4
    PWM = 5
    VOLTAGE = 6
    VOLTAGE_FOC = 7
    VOLTAGE_DQ = 8
    CURRENT = 9
    POSITION = 10
    TIMEOUT = 11
    ZERO_VELOCITY = 12
    STAY_WITHIN = 13
    MEASURE_INDUCTANCE = 14
    BRAKE = 15


class Register(IntEnum):
    """Those that this driver reads or writes, or that the virtual device has."""

    MODE = 0x000
    POSITION = 0x001
    VELOCITY = 0x002
    TORQUE = 0x003
    VOLTAGE = 0x00D
    TEMPERATURE = 0x00E
    FAULT = 0x00F
    COMMAND_POSITION = 0x020
    COMMAND_VELOCITY = 0x021
    FEED_FORWARD = 0x022
    KP_SCALE = 0x023
    KD_SCALE = 0x024
    MAX_TORQUE = 0x025
    STOP_POSITION = 0x026
    TIMEOUT = 0x027
    WITHIN_LOWER = 0x040
    WITHIN_UPPER = 0x041
    WITHIN_FEED_FORWARD = 0x042
    WITHIN_KP_SCALE = 0x043
    WITHIN_KD_SCALE = 0x044
    WITHIN_MAX_TORQUE = 0x045
    WITHIN_TIMEOUT = 0x046
    MODEL = 0x100
    FIRMWARE = 0x101
    MAP_VERSION = 0x102


POSITION_SCALE = (0.01, 0.0001, 0.00001, 1.0)  # revolutions per count: int8, int16, int32, float
VELOCITY_SCALE = (0.1, 0.00025, 0.00001, 1.0)  # revolutions per second
TORQUE_SCALE = (0.5, 0.01, 0.001, 1.0)  # N m
SHARE_SCALE = (1 / 127, 1 / 32767, 1 / 2147483647, 1.0)  # kp and kd scale
TIME_SCALE = (0.01, 0.001, 0.000001, 1.0)  # s
VOLTAGE_SCALE = (0.5, 0.1, 0.001, 1.0)
TEMPERATURE_SCALE = (1.0, 0.1, 0.001, 1.0)  # degrees Celsius
_COUNT = (1.0, 1.0, 1.0, 1.0)

SCALES: Final[Mapping[int, tuple[float, float, float, float]]] = {
    Register.POSITION: POSITION_SCALE,
    Register.VELOCITY: VELOCITY_SCALE,
    Register.TORQUE: TORQUE_SCALE,
    Register.VOLTAGE: VOLTAGE_SCALE,
    Register.TEMPERATURE: TEMPERATURE_SCALE,
    Register.COMMAND_POSITION: POSITION_SCALE,
    Register.COMMAND_VELOCITY: VELOCITY_SCALE,
    Register.FEED_FORWARD: TORQUE_SCALE,
    Register.KP_SCALE: SHARE_SCALE,
    Register.KD_SCALE: SHARE_SCALE,
    Register.MAX_TORQUE: TORQUE_SCALE,
    Register.STOP_POSITION: POSITION_SCALE,
    Register.TIMEOUT: TIME_SCALE,
    Register.WITHIN_LOWER: POSITION_SCALE,
    Register.WITHIN_UPPER: POSITION_SCALE,
    Register.WITHIN_FEED_FORWARD: TORQUE_SCALE,
    Register.WITHIN_KP_SCALE: SHARE_SCALE,
    Register.WITHIN_KD_SCALE: SHARE_SCALE,
    Register.WITHIN_MAX_TORQUE: TORQUE_SCALE,
    Register.WITHIN_TIMEOUT: TIME_SCALE,
}
UNITS: Final[Mapping[tuple[float, float, float, float], str]] = {
    POSITION_SCALE: "rev",
    VELOCITY_SCALE: "rev/s",
    TORQUE_SCALE: "N m",
    SHARE_SCALE: "",
    TIME_SCALE: "s",
    VOLTAGE_SCALE: "V",
    TEMPERATURE_SCALE: "deg C",
}
FIRST_LIMITING = 96  # fault codes from here on only say what limits the power: the joint goes on
OWN_CODE = 0x100  # a mode that ends motion, as a code of ours: OWN_CODE + mode

SENTENCES: Final[Mapping[int, str]] = {
    32: "the encoder saw no magnet during calibration",
    33: "the motor driver reports a fault, most often too weak a supply",
    34: "the supply voltage is above servo.max_voltage: the supply cannot take back what braking returns",
    35: "the encoder's readings are not those of a magnet that is there",
    36: "the motor has not been calibrated: run moteus_tool --calibrate",
    37: "the firmware overran its control cycle",
    38: "too hot",
    39: "position control was started outside servopos.position_min and position_max",
    40: "the supply voltage is too low",
    41: "the configuration was changed in a way that needs a stop",
    42: "no encoder for commutation is valid",
    43: "no encoder for the output position is valid",
    44: "the gate driver could not be enabled",
    45: "a stop position was commanded together with velocity or acceleration limits",
    46: "the firmware missed a timing constraint of its own",
    47: "bemf feed-forward is configured but no acceleration limit was commanded",
    48: "servopos.position_min or position_max is beyond what the encoder can count",
    96: "limited by servo.max_velocity",
    97: "limited by servo.max_power_W",
    98: "limited by the supply voltage",
    99: "limited by servo.max_current_A",
    100: "limited because the board is hot (servo.fault_temperature)",
    101: "limited because the motor is hot (servo.motor_fault_temperature)",
    102: "limited by the commanded maximum torque",
    103: "limited by servopos.position_min or position_max",
    OWN_CODE
    + Mode.STOPPED: "it is stopped, without torque, though it was armed: it has restarted, or another host stopped it",
    OWN_CODE + Mode.FAULT: "it is in fault mode without a code",
    OWN_CODE + Mode.ENABLING: "it restarted and begins to enable its driver",
    OWN_CODE + Mode.CALIBRATING: "it restarted and measures its current sensors",
    OWN_CODE + Mode.CALIBRATED: "it restarted and has measured its current sensors",
    OWN_CODE + Mode.PWM: "another host put it into PWM mode",
    OWN_CODE + Mode.VOLTAGE: "another host put it into voltage mode",
    OWN_CODE + Mode.VOLTAGE_FOC: "another host put it into voltage FOC mode",
    OWN_CODE + Mode.VOLTAGE_DQ: "another host put it into voltage DQ mode",
    OWN_CODE + Mode.CURRENT: "another host put it into current mode",
    OWN_CODE + Mode.TIMEOUT: "no command came within its watchdog time: it has latched the timeout mode",
    OWN_CODE + Mode.ZERO_VELOCITY: "it damps motion in zero-velocity mode",
    OWN_CODE + Mode.STAY_WITHIN: "another host put it into stay-within mode",
    OWN_CODE + Mode.MEASURE_INDUCTANCE: "another host makes it measure its motor",
    OWN_CODE + Mode.BRAKE: "it brakes by shorting its phases",
}
ERRORS: Final[Mapping[int, str]] = {1: "there is no such register in that type", 2: "the register cannot be written"}
