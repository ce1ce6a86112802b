"""The motors of one bus as a state machine: frames and a clock in, answers and plant out.

What the real ones are said to do and this does: every frame to a motor is answered by its state on MST_ID; a command to
a motor that is off moves nothing and says so; commands that cease for TIMEOUT (register 9) switch an enabled motor off,
status D, until the error is cleared; so does any other fault; written registers live until the supply goes, saving them
works only while disabled; without torque an arm falls. Frames of a mode that is not CTRL_MODE's are not answered.
Not here: position-velocity and velocity mode (2, 3), and a `motor` slower than its answers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.damiao import codec, registers
from firmware_bridge.damiao.driver import REPLY_OFFSET
from firmware_bridge.damiao.models import KD_MAX, KP_MAX, Scale, scale_of
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Device, Reply
from firmware_bridge.virtual.plant import JointPlant

SW_VER = 1  # any number serves
AMBIENT_C = 30.0
_HOT_C_PER_NM = 0.5  # above ambient while it pushes: enough to see it move
_TIMEOUT_UNIT_US = codec.TIMEOUT_UNIT_S * 1e6
_POSITION_KP, _POSITION_KD = 60.0, 1.5  # of the motor's own loop in force-position mode
FAULTS = {
    "overload": codec.OVERLOAD,
    "over-current": codec.OVER_CURRENT,
    "overheat": codec.ROTOR_HOT,
    "overheat-mos": codec.MOS_HOT,
    "voltage": codec.UNDER_VOLTAGE,
    "over-voltage": codec.OVER_VOLTAGE,
    "encoder": codec.SENSOR,
}

Act = Callable[[int, bytes], None]


class DamiaoDevice:
    """`flash`: joint index -> register -> value, where a motor was set to something else than its model's."""

    def __init__(
        self,
        joints: Sequence[Joint],
        plant: JointPlant,
        flash: Mapping[int, Mapping[int, float]] | None = None,
        reply_delay_us: int = 0,
    ) -> None:
        self.plant = plant
        self._flash = [_factory(joint) | dict((flash or {}).get(i, {})) for i, joint in enumerate(joints)]
        self._delay_us = reply_delay_us
        n = len(joints)
        self._zero_rad = [0.0] * n  # the plant's angle where the motor says 0
        self._gliding: dict[int, float] = {}  # joint -> goal of force-position mode, rad of the plant
        self._speed_rad_s = [0.0] * n
        self._at_us = 0
        self._said: dict[tuple[int, bool, bool], Reply] = {}  # (joint, FD, BRS), until something may have changed
        self._said_at = -1  # of plant.steps
        self.counts = {"commands": 0, "refused": 0, "foreign": 0, "lost": 0, "saved": 0}
        self._restart()

    def _restart(self) -> None:
        self._ram = [dict(values) for values in self._flash]
        self._status = [codec.DISABLED] * len(self._ram)
        self._fed_us = [0] * len(self._ram)
        for i in range(len(self._ram)):
            self._switch(i, codec.DISABLED)
        self._address()

    def _address(self) -> None:
        """After registers changed: who listens to which id, and to what. Where two do, the first one answers."""
        self._commands: dict[int, tuple[int, Act]] = {}
        self._specials: dict[int, int] = {}  # who is enabled, disabled, zeroed or cleared; -1: that is a set-point
        for i, ram in enumerate(self._ram):
            motor, mode = int(ram[registers.ESC_ID]), ram[registers.CTRL_MODE]
            self._specials.setdefault(motor, i)
            if mode == registers.MIT:
                self._commands.setdefault(motor, (i, self._mit))
            if mode == registers.FORCE_POS:
                self._specials.setdefault(codec.FORCE_ID + motor, -1)
                self._commands.setdefault(codec.FORCE_ID + motor, (i, self._force_position))
        self._changed()

    def _changed(self) -> None:
        """Nothing that was said or reckoned holds any more."""
        self._said.clear()
        self._tails = [b""] * len(self._ram)  # of the MIT commands that the plant's gains come from
        self._expiry_us = 0.0

    # --- Device -----------------------------------------------------------------------------------------------

    def feed(self, data: Any, now_us: int) -> list[Reply]:
        self._run_to(now_us)
        can_id, payload, extended, _, _, remote = frame = data
        if extended or remote or len(payload) != 8:
            self.counts["foreign"] += 1
            return []
        if can_id == codec.ALL_ID:
            return self._registers(frame)
        if payload[0] == 0xFF and self._specials.get(can_id, -1) >= 0 and self._is_special(payload):
            return self._special(self._specials[can_id], frame)
        command = self._commands.get(can_id)
        if command is None:
            self.counts["foreign"] += 1
            return []
        return self._command(*command, frame)

    def tick(self, now_us: int) -> list[Reply]:
        self._run_to(now_us)
        return []

    def power(self, on: bool, now_us: int) -> None:
        self._run_to(now_us)
        self._restart()

    def fault(self, joint: int, name: str) -> None:
        if name not in FAULTS:
            raise ValueError(f"a fault of a Damiao motor: {', '.join(FAULTS)}, got {name}")
        self._switch(joint, FAULTS[name])

    def report(self) -> Mapping[str, Any]:
        return {**self.counts, "status": list(self._status), "timeout": [r[registers.TIMEOUT] for r in self._ram]}

    # --- inside -----------------------------------------------------------------------------------------------

    def _run_to(self, now_us: int) -> None:
        if self._gliding:
            self._glide(min(max(0, now_us - self._at_us), 10_000) * 1e-6)
        self._at_us = now_us
        self.plant.run_to(now_us)
        if now_us > self._expiry_us:
            self._expire(now_us)

    def _glide(self, step_s: float) -> None:
        for i, goal_rad in self._gliding.items():
            left = goal_rad - self.plant.target[i]
            self.plant.target[i] += math.copysign(min(abs(left), self._speed_rad_s[i] * step_s), left)

    def _expire(self, now_us: int) -> None:
        """Switches off whom no command came to for too long; nobody's time is over before the next `_expiry_us`."""
        self._expiry_us = math.inf
        for i, ram in enumerate(self._ram):
            if self._status[i] != codec.ENABLED or not ram[registers.TIMEOUT]:
                continue
            expiry_us = self._fed_us[i] + ram[registers.TIMEOUT] * _TIMEOUT_UNIT_US
            if now_us > expiry_us:
                self.counts["lost"] += 1
                self._switch(i, codec.LOST)
            else:
                self._expiry_us = min(self._expiry_us, expiry_us)

    def _switch(self, i: int, status: int) -> None:
        self._status[i] = status
        self.plant.torque_on[i] = status == codec.ENABLED
        self.plant.kp[i] = self.plant.kd[i] = self.plant.feed_forward[i] = self.plant.target_velocity[i] = 0.0
        self.plant.limit[i] = self._scale(i).tmax_nm
        self._gliding.pop(i, None)
        self._changed()

    def _scale(self, i: int) -> Scale:
        ram = self._ram[i]
        return Scale(ram[registers.PMAX], ram[registers.VMAX], ram[registers.TMAX])

    @staticmethod
    def _is_special(data: bytes) -> bool:
        return data[:7] == b"\xff" * 7 and data[7] in (codec.ENABLE, codec.DISABLE, codec.SET_ZERO, codec.CLEAR)

    def _special(self, i: int, frame: Frame) -> list[Reply]:
        what, status = frame.data[7], self._status[i]
        if what == codec.ENABLE and status == codec.DISABLED:
            self._fed_us[i] = self._at_us
            self._switch(i, codec.ENABLED)
        cleared = what == codec.CLEAR and status > codec.ENABLED
        if cleared or (what == codec.DISABLE and status == codec.ENABLED):
            self._switch(i, codec.DISABLED)
        if what == codec.SET_ZERO and status != codec.ENABLED:
            self._zero_rad[i] = float(self.plant.position[i])
            self._changed()
        return [self._state(i, frame)]

    def _command(self, i: int, act: Act, frame: Frame) -> list[Reply]:
        if self._status[i] == codec.ENABLED:
            self._fed_us[i] = self._at_us
            self.counts["commands"] += 1
            act(i, frame.data)
        else:
            self.counts["refused"] += 1
        return [self._state(i, frame)]

    def _mit(self, i: int, data: bytes) -> None:
        pmax_rad = self._ram[i][registers.PMAX]
        self.plant.target[i] = _signed(data[0] << 8 | data[1], 65535, pmax_rad) + self._zero_rad[i]
        tail = data[2:]
        if tail != self._tails[i]:
            self._tails[i] = tail
            self._gains(i, int.from_bytes(tail, "big"))

    def _gains(self, i: int, word: int) -> None:
        scale, plant = self._scale(i), self.plant
        plant.target_velocity[i] = _signed(word >> 36, 4095, scale.vmax_rad_s)
        plant.kp[i], plant.kd[i] = (word >> 24 & 4095) / 4095 * KP_MAX, (word >> 12 & 4095) / 4095 * KD_MAX
        plant.feed_forward[i] = _signed(word & 4095, 4095, scale.tmax_nm)

    def _force_position(self, i: int, data: bytes) -> None:
        goal_rad, speed, share = struct.unpack("<fHH", data)
        if not math.isfinite(goal_rad):
            return
        if i not in self._gliding:
            self.plant.target[i] = self.plant.position[i]
        self._gliding[i] = goal_rad + self._zero_rad[i]
        self._speed_rad_s[i] = min(speed, 10_000) / 100.0
        self._tails[i] = b""
        self.plant.kp[i], self.plant.kd[i] = _POSITION_KP, _POSITION_KD
        self.plant.limit[i] = min(share, 10_000) / 10_000 * self._scale(i).tmax_nm

    def _state(self, i: int, asked: Frame) -> Reply:
        """What the motor says of itself: measured once a step of the plant, and said again until the next."""
        if self._said_at != self.plant.steps:
            self._said_at = self.plant.steps
            self._said.clear()
        key = i, asked.fd, asked.brs
        reply = self._said.get(key)
        if reply is None:
            reply = self._said[key] = self._reply(i, asked, self._measured(i))
        return reply

    def _measured(self, i: int) -> bytes:
        plant, ram = self.plant, self._ram[i]
        q, dq, tau = plant.position.item(i) - self._zero_rad[i], plant.velocity.item(i), plant.effort.item(i)
        rotor_c = round(AMBIENT_C + _HOT_C_PER_NM * abs(tau))
        motor = int(ram[registers.ESC_ID])
        return codec.state_data(motor, self._status[i], self._scale(i), q, dq, tau, round(AMBIENT_C), rotor_c)

    def _reply(self, i: int, asked: Frame, data: bytes) -> Reply:
        return Reply(Frame(int(self._ram[i][registers.MST_ID]), data, False, asked.fd, asked.brs), self._delay_us, i)

    # --- registers --------------------------------------------------------------------------------------------

    def _registers(self, frame: Frame) -> list[Reply]:
        motor, what, number = frame.data[0] | frame.data[1] << 8, frame.data[2], frame.data[3]
        for i, ram in enumerate(self._ram):
            if ram[registers.ESC_ID] != motor:
                continue
            if what == codec.REFRESH:
                return [self._state(i, frame)]
            if what == codec.SAVE:
                return self._save(i, frame)
            if what == codec.WRITE and number in _WRITABLE:
                ram[number] = registers.from_raw(number, frame.data[4:])
                self._address()
            if what in (codec.READ, codec.WRITE) and number in ram:
                return [self._reply(i, frame, frame.data[:4] + registers.to_raw(number, ram[number]))]
        self.counts["foreign"] += 1
        return []

    def _save(self, i: int, frame: Frame) -> list[Reply]:
        if self._status[i] == codec.ENABLED:
            return []
        self._flash[i] = dict(self._ram[i])
        self.counts["saved"] += 1
        return [self._reply(i, frame, frame.data[:3] + b"\x01" + bytes(4))]


_WRITABLE = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 21, 22, 23})


def _factory(joint: Joint) -> dict[int, float]:
    scale = scale_of(joint.model)
    reply_id = joint.id + REPLY_OFFSET if joint.reply_id is None else joint.reply_id
    mode = registers.FORCE_POS if joint.kp is None else registers.MIT
    return {
        registers.MST_ID: reply_id,
        registers.ESC_ID: joint.id,
        registers.TIMEOUT: 0,  # off, as it is delivered
        registers.CTRL_MODE: mode,
        registers.SW_VER: SW_VER,
        registers.PMAX: scale.pmax_rad,
        registers.VMAX: scale.vmax_rad_s,
        registers.TMAX: scale.tmax_nm,
    }


def _signed(raw: int, steps: int, end: float) -> float:
    return raw / steps * 2.0 * end - end


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Any]) -> Device:
    """Options: `flash` {joint index: {register: value}}, `reply_delay_us`; those of the driver are passed over."""
    known = {"flash", "reply_delay_us", "speed_rad_s"}
    if not options.keys() <= known:
        raise BridgeError(
            explain("options of virtual Damiao motors", sorted(known), sorted(options), "name known ones")
        )
    flash = {int(i): {int(at): float(v) for at, v in row.items()} for i, row in options.get("flash", {}).items()}
    return DamiaoDevice(joints, plant, flash, int(options.get("reply_delay_us", 0)))
