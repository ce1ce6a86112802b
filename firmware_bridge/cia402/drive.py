"""One virtual CiA 402 drive: NMT, PDOs, heartbeat consumer, state machine, fault reaction. Its joint is one of a plant.

Simplified against a real one: ramps are instantaneous, so transitions take one tick; modes other than cyclic
synchronous position are refused; PDOs are sent at SYNC only.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from firmware_bridge.cia402 import codec, states
from firmware_bridge.cia402.objects import Place
from firmware_bridge.cia402.server import Abort, ObjectServer
from firmware_bridge.cia402.states import State
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.plant import JointPlant

CSP = 8  # mode of operation: cyclic synchronous position
_INVALID = 0x8000_0000
_HEARTBEAT_LOST, _FOLLOWING = 0x8130, 0x8611
_REACTION_US = 100_000
_AT_REST_RAD_S = 0.05


@dataclass
class Counts:
    """What it took and refused."""

    commands: int = 0
    dropped: int = 0
    limited: int = 0
    watchdog_trips: int = 0


class VirtualDrive:
    """`joint`: its index in the plant. `brake`: engaged while there is no torque."""

    def __init__(self, node: int, joint: int, plant: JointPlant, brake: bool) -> None:
        self.node, self.joint, self.plant, self.brake = node, joint, plant, brake
        self.objects = ObjectServer(node, self._written)
        self.counts = Counts()
        self._frames: list[Frame] = []
        self._stuck = False  # as it was before the brake
        self._braked = False
        self._now_us = 0
        self.start()

    @property
    def counts_per_rad(self) -> float:
        return self.objects.number(0x608F, 1) / self.objects.number(0x608F, 2) / (2.0 * math.pi)

    def start(self) -> None:
        """Power-on or NMT reset: values of the flash, boot-up message, pre-operational."""
        self.objects.reset()
        self.nmt = codec.PRE_OPERATIONAL_STATE
        self.state = State.SWITCH_ON_DISABLED
        self.error = 0  # EMCY code that is active
        self._last_word = 0
        self._pending: dict[int, bytes] = {}  # RPDO number -> data, until the SYNC
        self._heard_us: int | None = None  # host's heartbeat
        self._beat_us = 0
        self._reaction_us: int | None = None
        self._late_us: int | None = None  # since when the following error is too large
        self._frames = [Frame(codec.HEARTBEAT + self.node, b"\x00")]
        self._sample()
        self._power_stage()

    def feed(self, frame: Frame, now_us: int) -> list[Frame]:
        """One frame of the bus."""
        self._now_us = now_us
        if frame.id == codec.NMT and len(frame.data) == 2 and frame.data[1] in (0, self.node):
            self._nmt(frame.data[0])
        elif frame.id == codec.SDO_REQUEST + self.node and self.nmt != codec.STOPPED_STATE:
            self._sample()
            answer = self.objects.answer(frame.data)
            if answer is not None:
                self._frames.append(Frame(codec.SDO_ANSWER + self.node, answer))
        elif frame.id > codec.HEARTBEAT and frame.id - codec.HEARTBEAT == self.objects.number(0x1016, 1) >> 16:
            self._heard_us = now_us
        elif self.nmt == codec.OPERATIONAL:
            self._process_data(frame)
        return self._out()

    def tick(self, now_us: int) -> list[Frame]:
        """Heartbeats, both ways, and the fault reaction."""
        self._now_us = now_us
        period_us = self.objects.number(0x1017) * 1000
        if period_us and now_us - self._beat_us >= period_us:
            self._beat_us = now_us
            self._frames.append(codec.heartbeat(self.node, self.nmt))
        allowed_us = (self.objects.number(0x1016, 1) & 0xFFFF) * 1000
        if allowed_us and self._heard_us is not None and now_us - self._heard_us > allowed_us:
            self._heard_us = None
            self._host_lost()
        self._watch_following()
        self._react()
        return self._out()

    def fail(self, code: int) -> None:
        """A fault with that EMCY code: reaction, then FAULT."""
        self.error = code
        register = 0x01 | (1 << (code >> 12)) & 0x1E if code < 0x5000 else 0x11 if code >> 12 == 8 else 0x01
        self.objects.values[0x1001, 0], self.objects.values[0x603F, 0] = register, code
        self._frames.append(Frame(codec.EMCY + self.node, struct.pack("<HB5x", code, register)))
        moving = self.state in states.TORQUE
        self.state = State.FAULT_REACTION if moving and self.objects.number(0x605E) != 0 else State.FAULT
        self._reaction_us = None
        self._hold_here()
        self._power_stage()

    # --- inside -----------------------------------------------------------------------------------------------

    def _out(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames

    def _nmt(self, command: int) -> None:
        if command in (codec.RESET, 0x82):
            self.start()
            return
        wanted = {
            codec.START: codec.OPERATIONAL,
            codec.STOP: codec.STOPPED_STATE,
            codec.PRE_OPERATIONAL: codec.PRE_OPERATIONAL_STATE,
        }.get(command, self.nmt)
        if self.nmt == codec.OPERATIONAL and wanted != codec.OPERATIONAL and self.state in states.TORQUE:
            self._abort_connection()
        self.nmt = wanted

    def _host_lost(self) -> None:
        self.counts.watchdog_trips += 1
        if self.objects.number(0x1029, 1) == 0 and self.nmt == codec.OPERATIONAL:
            self.nmt = codec.PRE_OPERATIONAL_STATE
        self._abort_connection()

    def _abort_connection(self) -> None:
        option = self.objects.number(0x6007)
        if option == 1:
            self.fail(_HEARTBEAT_LOST)
        elif option in (2, 3):
            self._control(states.DISABLE_VOLTAGE if option == 2 else states.QUICK_STOP)

    def _process_data(self, frame: Frame) -> None:
        if frame.id == self.objects.number(0x1005) & 0x7FF:
            for number in sorted(self._pending):
                self._take(number, self._pending[number])
            self._pending = {}
            self._sample()
            self._frames += [pdo for number in (0, 1) for pdo in self._tpdo(number)]
            return
        for number in (0, 1):
            cob_id = self.objects.number(0x1400 + number, 1)
            if frame.id != cob_id & 0x7FF or cob_id & _INVALID:
                continue
            if len(frame.data) < sum(self._sizes(0x1600 + number)):
                self.counts.dropped += 1
                self._frames.append(Frame(codec.EMCY + self.node, struct.pack("<HB5x", 0x8210, 0x11)))
            elif self.objects.number(0x1400 + number, 2) <= 240:
                self._pending[number] = frame.data
            else:
                self._take(number, frame.data)

    def _mapped(self, index: int) -> list[Place]:
        entries = [self.objects.number(index, i + 1) for i in range(self.objects.number(index))]
        return [(entry >> 16, entry >> 8 & 0xFF) for entry in entries]

    def _sizes(self, index: int) -> list[int]:
        return [(self.objects.number(index, i + 1) & 0xFF) // 8 for i in range(self.objects.number(index))]

    def _take(self, number: int, data: bytes) -> None:
        at = 0
        for place, size in zip(self._mapped(0x1600 + number), self._sizes(0x1600 + number), strict=True):
            form = self.objects.entries[place].form
            if form is not None:
                value = form.unpack(data[at : at + size])[0]
                self._written(place, value)
                self.objects.values[place] = value
            at += size
        self.counts.commands += 1
        self._follow()

    def _tpdo(self, number: int) -> list[Frame]:
        cob_id = self.objects.number(0x1800 + number, 1)
        if cob_id & _INVALID or not 1 <= self.objects.number(0x1800 + number, 2) <= 240:
            return []
        places = self._mapped(0x1A00 + number)
        data = b"".join(self.objects.entries[place].pack(self.objects.values[place]) for place in places)
        return [Frame(cob_id & 0x7FF, data)]

    def _written(self, place: Place, value: int) -> None:
        if place == (0x6060, 0) and value not in (0, CSP):
            raise Abort(0x0609_0030)
        if place == (0x6040, 0):
            self._control(value)
        elif place == (0x1016, 1):
            self._heard_us = None  # monitoring begins with the next heartbeat
        elif place == (0x6060, 0):
            self.objects.values[0x6061, 0] = value

    def _control(self, word: int) -> None:
        rising = word & 0x80 and not self._last_word & 0x80
        self._last_word = word
        if self.state is State.FAULT:
            if rising:
                self.error = 0
                self.objects.values[0x603F, 0] = self.objects.values[0x1001, 0] = 0
                self._frames.append(Frame(codec.EMCY + self.node, bytes(8)))
                self.state = State.SWITCH_ON_DISABLED
        elif self.state is not State.FAULT_REACTION:
            self.state = self._transition(word)
        self._power_stage()

    def _transition(self, word: int) -> State:
        state, stays = self.state, self.objects.number(0x605A) in (5, 6, 7, 8)
        if not word & 0x02:  # disable voltage
            return State.SWITCH_ON_DISABLED
        if not word & 0x04:  # quick stop
            if state not in (State.OPERATION_ENABLED, State.QUICK_STOP):
                return State.SWITCH_ON_DISABLED
            if state is State.OPERATION_ENABLED:
                self._hold_here()
            return State.QUICK_STOP if stays else State.SWITCH_ON_DISABLED
        if state is State.QUICK_STOP:
            return State.OPERATION_ENABLED if word & 0x0F == 0x0F and stays else state
        if state is State.SWITCH_ON_DISABLED:
            return State.READY if word & 0x07 == 0x06 else state
        wanted = {0x06: State.READY, 0x0E: State.READY, 0x07: State.SWITCHED_ON, 0x0F: State.OPERATION_ENABLED}
        return wanted.get(word & 0x0F, state)

    def _hold_here(self) -> None:
        self.plant.target[self.joint] = self.plant.position[self.joint]

    def _power_stage(self) -> None:
        torque = self.state in states.TORQUE
        self.plant.torque_on[self.joint] = torque
        engaged = self.brake and not torque
        if engaged and not self._braked:
            self._stuck = bool(self.plant.stuck[self.joint])
        if engaged != self._braked:
            self.plant.stuck[self.joint] = engaged or self._stuck
        self._braked = engaged

    def _follow(self) -> None:
        if self.state is not State.OPERATION_ENABLED or self.objects.number(0x6060) != CSP:
            return
        wanted = self.objects.number(0x607A)
        low, high = self.objects.number(0x607D, 1), self.objects.number(0x607D, 2)
        target = min(max(wanted, low), high) if low < high else wanted
        self.counts.limited += target != wanted
        self.plant.target[self.joint] = target / self.counts_per_rad

    def _watch_following(self) -> None:
        window = self.objects.number(0x6065)
        error_rad = abs(float(self.plant.target[self.joint] - self.plant.position[self.joint]))
        enabled = self.state is State.OPERATION_ENABLED and window != 0xFFFF_FFFF
        if not enabled or error_rad * self.counts_per_rad <= window:
            self._late_us = None
        elif self._late_us is None:
            self._late_us = self._now_us
        elif self._now_us - self._late_us > self.objects.number(0x6066) * 1000:
            self.fail(_FOLLOWING)

    def _react(self) -> None:
        if self.state is not State.FAULT_REACTION:
            return
        self._reaction_us = self._reaction_us or self._now_us
        slow = abs(float(self.plant.velocity[self.joint])) < _AT_REST_RAD_S
        if slow or self._now_us - self._reaction_us > _REACTION_US:
            self.state = State.FAULT
            self._power_stage()

    def _sample(self) -> None:
        values, joint, scale = self.objects.values, self.joint, self.counts_per_rad
        enabled = 0x1000 if self.state is State.OPERATION_ENABLED else 0  # bit 12: follows the target
        values[0x6041, 0] = states.BITS[self.state] | 0x0200 | enabled | (0x10 if self.state in states.TORQUE else 0)
        values[0x6064, 0] = round(float(self.plant.position[joint]) * scale)
        values[0x606C, 0] = round(float(self.plant.velocity[joint]) * scale)
        torque = round(1e6 * float(self.plant.effort[joint]) / self.objects.number(0x6076))
        values[0x6077, 0] = max(-32768, min(32767, torque))
