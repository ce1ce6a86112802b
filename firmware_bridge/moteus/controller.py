"""moteus controllers' modes, watchdogs and what they make of commands: registers in, the plant's law out.

Modes change as in the firmware (fw/bldc_servo_control.h): from stopped a command first measures the current sensors;
a fault or a timeout is left only by a stop; only position and stay-within have a watchdog, which starts anew with
each command and not with a question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from firmware_bridge.moteus.codec import REV
from firmware_bridge.moteus.registers import Mode, Register
from firmware_bridge.virtual.plant import JointPlant

DEFAULT_TIMEOUT_S = 0.1  # servo.default_timeout_s
OPTIONS: Mapping[str, float] = {
    "timeout_mode": 12,
    "position_min": math.nan,
    "position_max": math.nan,
    "kp": 60.0 * REV,
    "kd": 1.5 * REV,
    "enable_ms": 10,
    "firmware": 0x010A00,
    "max_torque_nm": 3.0,
}
UNSAID: Mapping[int, float] = {  # what a command that does not name a register means
    Register.COMMAND_POSITION: 0.0,
    Register.COMMAND_VELOCITY: 0.0,
    Register.FEED_FORWARD: 0.0,
    Register.KP_SCALE: 1.0,
    Register.KD_SCALE: 1.0,
    Register.MAX_TORQUE: math.nan,
    Register.STOP_POSITION: math.nan,
    Register.TIMEOUT: 0.0,
    Register.WITHIN_LOWER: math.nan,
    Register.WITHIN_UPPER: math.nan,
}
_WITHIN = Register.WITHIN_FEED_FORWARD - Register.FEED_FORWARD  # 0x042..0x045 shadow 0x022..0x025
_TIMED = (Mode.POSITION, Mode.STAY_WITHIN)
_STARTING = (Mode.ENABLING, Mode.CALIBRATING, Mode.CALIBRATED)
_LIMITED = 103  # fault code of a target beyond servopos.position_min or position_max


def written(register: int) -> int | None:
    """The register of motion that a write to `register` reaches; None for one that cannot be written."""
    if Register.WITHIN_FEED_FORWARD <= register <= Register.WITHIN_MAX_TORQUE:
        return register - _WITHIN
    if register == Register.WITHIN_TIMEOUT:
        return Register.TIMEOUT
    return register if register in UNSAID else None


@dataclass
class Controller:
    """One joint's registers. `wanted`: the mode of the last command, entered when the present one allows it."""

    mode: Mode = Mode.STOPPED
    wanted: Mode = Mode.STOPPED
    fault: int = 0
    limiting: int = 0
    command: Mapping[int, float] = field(default_factory=lambda: UNSAID)  # replaced where it is written, never changed
    enabled_us: int = 0  # when the current sensors are measured
    expires_us: float = math.inf


class Controllers:
    """All joints of `plant`, stopped. `timeouts` and `commands` count."""

    def __init__(self, plant: JointPlant, options: Mapping[str, float]) -> None:
        self.plant, self.options = plant, options
        self.timeouts = self.commands = 0
        self.restart()

    def restart(self) -> None:
        """As after power-on."""
        self.all = [Controller() for _ in self.plant.position]
        self._look_us: float = math.inf  # before then no joint changes by itself
        for index in range(len(self.all)):
            self._drive(index)

    def fail(self, index: int, code: int) -> None:
        """The joint finds fault `code`."""
        self.all[index].mode, self.all[index].fault = Mode.FAULT, code
        self.plant.torque_on[index] = False

    def command(self, index: int, mode: Mode, now_us: int) -> None:
        """A frame wrote `mode`, after the registers that go with it."""
        if mode in (Mode.FAULT, *_STARTING):
            return
        self.commands += 1
        controller = self.all[index]
        controller.wanted = mode
        asked_s = controller.command[Register.TIMEOUT]
        timeout_s = DEFAULT_TIMEOUT_S if asked_s == 0.0 else asked_s
        controller.expires_us = math.inf if math.isnan(timeout_s) else now_us + timeout_s * 1e6
        if mode is Mode.STOPPED:
            controller.mode, controller.fault = Mode.STOPPED, 0
        elif controller.mode is Mode.STOPPED:
            controller.mode = Mode.ENABLING
            controller.enabled_us = now_us + round(self.options["enable_ms"] * 1000)
        elif controller.mode not in (Mode.FAULT, Mode.TIMEOUT, *_STARTING):
            self._enter(index, mode)
        self._look_us = 0.0
        self._drive(index)

    def move(self, index: int, registers: Mapping[int, float], now_us: int) -> bool:
        """A position command that differs from the one before in its position alone. False: use `command`."""
        controller, target = self.all[index], registers[Register.COMMAND_POSITION] * REV
        if controller.mode is not Mode.POSITION or controller.wanted is not Mode.POSITION or math.isnan(target):
            return False
        timeout_s = registers[Register.TIMEOUT]
        if not timeout_s > 0.0:
            return False
        self.commands += 1
        controller.command, controller.expires_us = registers, now_us + timeout_s * 1e6
        self._look_us = min(self._look_us, controller.expires_us)
        self.plant.target[index] = self._bounded(controller, target)
        return True

    def run_to(self, now_us: int) -> None:
        """Sensors measured, watchdogs expired, then the plant."""
        if now_us >= self._look_us:
            self._look_us = math.inf
            for index, controller in enumerate(self.all):
                self._change(index, controller, now_us)
        self.plant.run_to(now_us)

    def _change(self, index: int, controller: Controller, now_us: int) -> None:
        """What a joint does by itself at `now_us`, and when to look again."""
        if controller.mode in _STARTING and now_us >= controller.enabled_us:
            controller.mode = Mode.CALIBRATED
            self._enter(index, controller.wanted)
            self._drive(index)
        if controller.mode in _TIMED and now_us > controller.expires_us:
            controller.mode = Mode.TIMEOUT
            self.timeouts += 1
            self._drive(index)
        elif controller.mode is Mode.STAY_WITHIN:
            self._drive(index)
            self._look_us = 0.0  # its law changes with where the joint is
        if controller.mode in _STARTING:
            self._look_us = min(self._look_us, controller.enabled_us)
        elif controller.mode in _TIMED:
            self._look_us = min(self._look_us, controller.expires_us)

    def _enter(self, index: int, mode: Mode) -> None:
        controller = self.all[index]
        if mode in _TIMED and controller.mode is not mode and self._outside(index):
            controller.mode, controller.fault = Mode.FAULT, 39
        else:
            controller.mode = mode

    def _outside(self, index: int) -> bool:
        at, options = self.plant.position[index] / REV, self.options
        return bool(at < options["position_min"] or at > options["position_max"])  # NaN: no limit

    def _drive(self, index: int) -> None:
        """The plant's law for the mode that the joint is in."""
        plant, controller = self.plant, self.all[index]
        mode: int = controller.mode
        if mode is Mode.TIMEOUT:
            mode = int(self.options["timeout_mode"])
        plant.torque_on[index] = mode in (Mode.POSITION, Mode.ZERO_VELOCITY, Mode.STAY_WITHIN, Mode.BRAKE)
        plant.kp[index] = 0.0
        plant.kd[index] = self.options["kd"] / REV
        plant.feed_forward[index] = plant.target_velocity[index] = 0.0
        plant.limit[index] = self.options["max_torque_nm"]
        controller.limiting = 0
        if controller.mode in _TIMED:
            self._follow(index, controller)
        elif mode == Mode.POSITION:  # a timeout that holds
            plant.kp[index], plant.target[index] = self.options["kp"] / REV, plant.position[index]

    def _follow(self, index: int, controller: Controller) -> None:
        plant, said, options = self.plant, controller.command, self.options
        here = float(plant.position[index])
        if controller.mode is Mode.STAY_WITHIN:
            low, high = said[Register.WITHIN_LOWER] * REV, said[Register.WITHIN_UPPER] * REV
            target = low if here < low else high if here > high else math.nan
            kp_scale = 0.0 if math.isnan(target) else said[Register.KP_SCALE]
            kd_scale = 0.0 if math.isnan(target) else said[Register.KD_SCALE]
            plant.target[index] = here if math.isnan(target) else target
        else:
            target = said[Register.COMMAND_POSITION] * REV
            kp_scale, kd_scale = said[Register.KP_SCALE], said[Register.KD_SCALE]
            plant.target[index] = self._bounded(controller, here if math.isnan(target) else target)
            velocity = said[Register.COMMAND_VELOCITY] * REV
            plant.target_velocity[index] = 0.0 if math.isnan(velocity) else velocity
        plant.kp[index], plant.kd[index] = options["kp"] / REV * kp_scale, options["kd"] / REV * kd_scale
        plant.feed_forward[index] = said[Register.FEED_FORWARD]
        most = said[Register.MAX_TORQUE]
        plant.limit[index] = min(options["max_torque_nm"], math.inf if math.isnan(most) else most)

    def _bounded(self, controller: Controller, target: float) -> float:
        low, high = self.options["position_min"] * REV, self.options["position_max"] * REV
        outside = target < low or target > high  # NaN: no limit
        controller.limiting = _LIMITED if outside else 0
        return (low if target < low else high) if outside else target
