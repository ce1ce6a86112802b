"""One virtual CiA 402 drive: NMT, PDOs, heartbeat consumer, state machine, fault reaction. Its joint is one of a plant.

Simplified against a real one: ramps are instantaneous, so transitions take one tick; modes other than cyclic
synchronous position are refused; PDOs are sent at SYNC only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware_bridge.cia402 import codec, states
from firmware_bridge.cia402.objects import Place
from firmware_bridge.cia402.server import Abort, ObjectServer
from firmware_bridge.cia402.setup import CSP, Pdo, setup_of
from firmware_bridge.cia402.states import State
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.plant import JointPlant

_HEARTBEAT_LOST, _FOLLOWING, _SHORT_PDO, _PARAMETER = 0x8130, 0x8611, 0x8210, 0x6320
_REACTION_US = 100_000
_AT_REST_RAD_S = 0.05
_CONTROLWORD, _STATUSWORD, _MODE, _MODE_SHOWN = (0x6040, 0), (0x6041, 0), (0x6060, 0), (0x6061, 0)
_POSITION, _VELOCITY, _TORQUE, _TARGET = (0x6064, 0), (0x606C, 0), (0x6077, 0), (0x607A, 0)
_STATUSWORDS = {  # 0x0200: remote; bit 12: follows the target; bit 4: voltage on the power stage
    state: bits
    | 0x0200
    | (0x1000 if state is State.OPERATION_ENABLED else 0)
    | (0x0010 if state in states.TORQUE else 0)
    for state, bits in states.BITS.items()
}


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
        return self._setup.counts_per_rad

    def start(self) -> None:
        """Power-on or NMT reset: values of the flash, boot-up message, pre-operational."""
        self.objects.reset()
        self._configure()
        self.nmt = codec.PRE_OPERATIONAL_STATE
        self.state = State.SWITCH_ON_DISABLED
        self.error = 0  # EMCY code that is active
        self._last_word = 0
        self._pending: dict[int, tuple[Pdo, bytes]] = {}  # by RPDO number, until the SYNC
        self._heard_us: int | None = None  # host's heartbeat
        self._beat_us = 0
        self._reaction_us: int | None = None
        self._late_us: int | None = None  # since when the following error is too large
        self._frames = [Frame(codec.HEARTBEAT + self.node, b"\x00")]
        self._sample()
        self._power_stage()

    def feed(self, frame: Frame, now_us: int) -> list[Frame]:
        """One frame of the bus; those of other ids than `ids` it does not hear."""
        if self.nmt == codec.OPERATIONAL and frame.id in self._cyclic:
            self._process_data(frame)
            return self._out()
        if frame.id == codec.NMT:
            if len(frame.data) == 2 and frame.data[1] in (0, self.node):
                self._nmt(frame.data[0])
        elif frame.id == codec.SDO_REQUEST + self.node:
            if self.nmt != codec.STOPPED_STATE:
                self._sdo(frame.data)
        elif frame.id == self._setup.host_id:
            self._heard_us = now_us
        return self._out()

    def tick(self, now_us: int) -> list[Frame]:
        """Heartbeats, both ways, and the fault reaction."""
        self._now_us, setup = now_us, self._setup
        if setup.beat_us and now_us - self._beat_us >= setup.beat_us:
            self._beat_us = now_us
            self._frames.append(codec.heartbeat(self.node, self.nmt))
        if setup.host_us and self._heard_us is not None and now_us - self._heard_us > setup.host_us:
            self._heard_us = None
            self._host_lost()
        self._watch_following()
        if self.state is State.FAULT_REACTION:
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
        frames = self._frames
        if frames:
            self._frames = []
        return frames

    def _configure(self) -> None:
        """After a change of the objects that Setup is made of."""
        self._setup = setup_of(self.objects)
        own = {codec.NMT, codec.SDO_REQUEST + self.node, self._setup.host_id}
        self._cyclic = frozenset({self._setup.sync_id, *self._setup.rpdos} - own)
        self.ids = self._cyclic | own  # of frames that concern it

    def _sdo(self, data: bytes) -> None:
        self._sample()
        answer = self.objects.answer(data)
        if answer is not None:
            self._frames.append(Frame(codec.SDO_ANSWER + self.node, answer))
        self._configure()

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
        if frame.id == self._setup.sync_id:
            self._at_sync()
            return
        for pdo in self._setup.rpdos[frame.id]:
            if len(frame.data) < pdo.form.size:
                self.counts.dropped += 1
                self._frames.append(Frame(codec.EMCY + self.node, struct.pack("<HB5x", _SHORT_PDO, 0x11)))
            elif pdo.at_sync:
                self._pending[pdo.number] = pdo, frame.data
            else:
                self._take(pdo, frame.data)

    def _at_sync(self) -> None:
        for number in sorted(self._pending):
            self._take(*self._pending.pop(number))
        self._sample()
        values = self.objects.values
        for pdo in self._setup.tpdos:
            self._frames.append(Frame(pdo.can_id, pdo.form.pack(*[values[place] for place in pdo.places])))

    def _take(self, pdo: Pdo, data: bytes) -> None:
        values = self.objects.values
        for place, value in zip(pdo.places, pdo.form.unpack_from(data), strict=True):
            if place != _TARGET:
                try:
                    self._written(place, value)
                except Abort:  # a PDO has no answer: what was refused keeps its value
                    self.counts.dropped += 1
                    self._frames.append(Frame(codec.EMCY + self.node, struct.pack("<HB5x", _PARAMETER, 0x01)))
                    continue
            values[place] = value
        self.counts.commands += 1
        if not pdo.cyclic:
            self._configure()
        self._follow()

    def _written(self, place: Place, value: int) -> None:
        if place == _MODE and value not in (0, CSP):
            raise Abort(0x0609_0030)
        if place == _CONTROLWORD:
            self._control(value)
        elif place == (0x1016, 1):
            self._heard_us = None  # monitoring begins with the next heartbeat
        elif place == _MODE:
            self.objects.values[_MODE_SHOWN] = value

    def _control(self, word: int) -> None:
        if word == self._last_word and word & 0x8F == 0x0F and self.state is State.OPERATION_ENABLED:
            return  # cycle after cycle
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
        setup = self._setup
        if self.state is not State.OPERATION_ENABLED or not setup.follows:
            return
        target = self.objects.number(0x607A)
        if not setup.low <= target <= setup.high:
            target = min(max(target, setup.low), setup.high)
            self.counts.limited += 1
        self.plant.target[self.joint] = target / setup.counts_per_rad

    def _watch_following(self) -> None:
        setup, late = self._setup, False
        if setup.window is not None and self.state is State.OPERATION_ENABLED:
            error_rad = abs(self.plant.target.item(self.joint) - self.plant.position.item(self.joint))
            late = error_rad * setup.counts_per_rad > setup.window
        if not late:
            self._late_us = None
        elif self._late_us is None:
            self._late_us = self._now_us
        elif self._now_us - self._late_us > setup.window_us:
            self.fail(_FOLLOWING)

    def _react(self) -> None:
        self._reaction_us = self._reaction_us or self._now_us
        slow = abs(self.plant.velocity.item(self.joint)) < _AT_REST_RAD_S
        if slow or self._now_us - self._reaction_us > _REACTION_US:
            self.state = State.FAULT
            self._power_stage()

    def _sample(self) -> None:
        values, plant, scale = self.objects.values, self.plant, self._setup.counts_per_rad
        values[_STATUSWORD] = _STATUSWORDS[self.state]
        values[_POSITION] = round(plant.position.item(self.joint) * scale)
        values[_VELOCITY] = round(plant.velocity.item(self.joint) * scale)
        torque = round(1e6 * plant.effort.item(self.joint) / self._setup.rated)
        values[_TORQUE] = max(-32768, min(32767, torque))
