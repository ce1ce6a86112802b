"""CiA 402 drives on one CAN bus. A cycle is RPDO1 of every joint and a SYNC; every drive acts and answers at it.

Configuration goes through the `canopen` library over the same transport (network.py), in connect(), arm() and
disarm(); the cycle is ours: one packed frame a joint. The drives' watchdog is their heartbeat consumer. The host's
heartbeat goes out with commands while armed, never with a question alone: who only asks lets the drives stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from firmware_bridge.arm import Arm, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import BusArm, Reading
from firmware_bridge.cia402 import codec, config, sentences, states
from firmware_bridge.cia402.states import State
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, BridgeError, WrongJoint, explain
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

if TYPE_CHECKING:
    from firmware_bridge.cia402.network import Drive

_ENABLE_S, _STOP_S, _STEP_S = 1.5, 0.3, 0.005
_QUIET_S = 0.025  # listening for PDOs that nobody asked for
_BEATS = 4  # heartbeats of the host per watchdog time, at least
_MASK, _ENABLED = 0x6F, 0x27  # of the statusword
_TPDO1, _TPDO2, _EMCY, _BEAT = range(4)
_Control = Callable[[int, State | None], int]  # (joint index, its state) -> controlword
_Wanted = Callable[[State | None], bool]


class Cia402Arm(BusArm[FrameTransport]):
    """See `Arm`. `options` as config.OPTIONS has them."""

    def __init__(
        self,
        transport: FrameTransport,
        joints: Sequence[Joint],
        watchdog_s: float | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> None:
        self._chosen = config.settings(options or {}, watchdog_s)
        nodes = [codec.node_id(joint.id) for joint in joints]
        self._addresses = [codec.RPDO1 + node for node in nodes]
        kinds = ((codec.TPDO1, _TPDO1), (codec.TPDO2, _TPDO2), (codec.EMCY, _EMCY), (codec.HEARTBEAT, _BEAT))
        self._heard = {base + node: (i, kind) for i, node in enumerate(nodes) for base, kind in kinds}
        self._host_beat = codec.heartbeat(self._chosen.host_node)
        self._beat_ns = int((watchdog_s or 0.0) * 1e9 / _BEATS)
        super().__init__(transport, joints, watchdog_s)

    def _forget(self) -> None:
        super()._forget()
        n = len(self.joints)
        self._drives: list[Drive] = []
        self._scales = [config.Scale(1.0, 0.0)] * n
        self._counts_per_rad = [1.0] * n
        self._emcy = [0] * n  # error code that is active
        self._lost = [0] * n  # BOOTED or LEFT_OPERATIONAL, until it is armed again
        self._words: list[int | None] = [None] * n  # newest statusword
        self._positions = [0.0] * n  # rad, of the TPDO1 that waits for its TPDO2
        self._half = [False] * n
        self._controls = [states.DISABLE_VOLTAGE] * n  # last controlword
        self._last_words: list[int | None] = [None] * n  # for error texts
        self._last: list[Frame] = []  # the last command written
        self._guarding = False  # the drives watch our heartbeat
        self._beat_at_ns = 0

    # --- identify ---------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        from firmware_bridge.cia402.network import Drive, Network, dictionary  # the extra `can`

        network, objects = Network(self.transport, self._note), dictionary(self._chosen.eds)
        rows: list[JointInfo] = []
        for joint in self.joints:
            drive = Drive(network, joint.id, joint.name, objects)
            drive.node.nmt.state = "PRE-OPERATIONAL"
            model = config.identify(drive, joint)
            scale = config.scale_of(drive, self._chosen)
            notes = config.configure(drive, joint, self._chosen, scale)
            self._drives.append(drive)
            self._scales[len(rows)] = scale
            rows.append(config.row(joint, model, drive.text(0x100A), self._chosen, notes))
        self._counts_per_rad = [scale.counts_per_rad for scale in self._scales]
        self._lost = [0] * len(self.joints)
        self._start()
        self._refuse_unasked()
        return tuple(rows)

    def _start(self) -> None:
        self.transport.write([codec.nmt(codec.START, joint.id) for joint in self.joints])

    def _refuse_unasked(self) -> None:
        """PDOs without our SYNC would pass for answers. Raises WrongJoint."""
        deadline_ns = time.monotonic_ns() + int(_QUIET_S * 1e9)
        while self.transport.wait_readable(deadline_ns) and time.monotonic_ns() < deadline_ns:
            for frame in self.transport.read():
                _, kind = self._heard.get(frame.id, (-1, -1))
                if frame.id == codec.SYNC_ID or kind in (_TPDO1, _TPDO2):
                    raise WrongJoint(
                        explain(
                            f"process data on {self.transport.name} that nobody here asked for",
                            "silence between our SYNCs",
                            codec.describe(frame),
                            "end other masters on this bus; let no drive produce SYNC (bit 30 of 1005)",
                        )
                    )
                self._note(frame)

    # --- a cycle ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """SYNC. While armed no heartbeat goes with it: only commands keep the drives from stopping."""
        beat = [self._host_beat] if self._guarding and self.mode is not Mode.ARMED and self._beat_due() else []
        self._half = [False] * len(self.joints)
        self.transport.write([*beat, codec.SYNC])

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return codec.command_frames(self._addresses, states.ENABLE, device_rad, self._counts_per_rad)

    def _write(self, frames: object) -> None:
        assert isinstance(frames, list)
        self._half = [False] * len(self.joints)
        if self._guarding and self._beat_due():
            frames.append(self._host_beat)
        frames.append(codec.SYNC)
        self._last = frames
        self.transport.write(frames)

    def _beat_due(self) -> bool:
        now_ns = time.monotonic_ns()
        if now_ns - self._beat_at_ns < self._beat_ns:
            return False
        self._beat_at_ns = now_ns
        return True

    def _readings(self) -> Iterable[Reading]:
        readings: list[Reading] = []
        for frame in self.transport.read():
            joint, kind = self._heard.get(frame.id, (-1, -1))
            if joint < 0 or frame.remote or frame.extended or frame.fd:
                self.counts.foreign += 1
            elif kind == _TPDO1 and len(frame.data) == codec.STATUS.size:
                word, position = codec.STATUS.unpack(frame.data)
                self._words[joint] = word
                self._positions[joint] = position / self._counts_per_rad[joint]
                self._half[joint] = True
                if not self._chosen.motion:
                    readings.append(self._reading(joint, math.nan, math.nan))
            elif kind == _TPDO2 and self._half[joint] and len(frame.data) == codec.MOTION.size:
                velocity, torque = codec.MOTION.unpack(frame.data)
                self._half[joint] = False
                effort = torque * 1e-3 * self._scales[joint].rated_nm
                readings.append(self._reading(joint, velocity / self._counts_per_rad[joint], effort))
            else:
                self._note(frame)
        return readings

    def _reading(self, joint: int, velocity: float, effort: float) -> Reading:
        word, code = self._words[joint] or 0, self._emcy[joint] or self._lost[joint]
        position = self._positions[joint]
        if not code and (self.mode is not Mode.ARMED or word & _MASK == _ENABLED) and word & 0x4F != 0x08:
            return Reading(joint, position, velocity, effort)
        state = states.state_of(word)
        if not code and (self.mode is Mode.ARMED or state is State.FAULT):
            code = _code_of(state)
        return Reading(joint, position, velocity, effort, math.nan, sentences.faults_of(code), code)

    def _note(self, frame: Frame) -> None:
        """EMCYs and heartbeats, whenever they come; the rest is foreign."""
        joint, kind = self._heard.get(frame.id, (-1, -1))
        found = codec.emergency(frame.data) if kind == _EMCY else None
        if found is not None:
            self._emcy[joint] = found.code
        elif kind == _BEAT and len(frame.data) == 1:
            self._nmt_state(joint, frame.data[0] & 0x7F)
        elif kind != _TPDO1 and kind != _TPDO2 and frame.id & 0x780 != codec.SDO_ANSWER:
            self.counts.foreign += 1

    def _nmt_state(self, joint: int, state: int) -> None:
        """A drive that restarted or left operational sends no process data: motion ends here, not by its state."""
        if state == codec.BOOT_UP:
            self._lost[joint] = sentences.BOOTED
        elif self.mode is Mode.ARMED and state != codec.OPERATIONAL:
            self._lost[joint] = self._lost[joint] or sentences.LEFT_OPERATIONAL
        if self._lost[joint] and self.mode is Mode.ARMED:
            self.mode = Mode.STOPPED

    # --- modes ------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """See `Arm`. A drive that restarted has lost what connect() set: it is refused."""
        self._drain()
        for joint, lost in zip(self.joints, self._lost, strict=True):
            if lost == sentences.BOOTED:
                raise self._unset(joint)
        self._start()  # a drive that lost the host may have left operational; this gives no torque
        super().arm()

    def _enable(self) -> None:
        self._verify()
        self._emcy = [0] * len(self.joints)
        self._lost = [0] * len(self.joints)
        self._last = []
        self._guarding = self.watchdog_s is not None
        self._beat_at_ns = 0

        def towards(joint: int, state: State | None) -> int:
            return states.towards_enabled(state, self._controls[joint])

        if self._steer(towards, lambda state: state is State.OPERATION_ENABLED, _ENABLE_S):
            self._emcy = [0] * len(self.joints)
            return
        reasons = "; ".join(self._why(index) for index in range(len(self.joints)))
        self._steer(lambda *_: states.DISABLE_VOLTAGE, lambda state: states.stopped(state, False), _STOP_S)
        raise ArmRefused(
            explain(
                f"drives on {self.transport.name} did not enter operation enabled",
                f"operation enabled within {_ENABLE_S:g} s",
                reasons or "no answer",
                "remove the cause (supply, enable input, brake, following error) and arm again",
            )
        )

    def _verify(self) -> None:
        """What connect() wrote is still there: mode and watchdog, read back. Raises ArmRefused, JointSilent."""
        for joint, drive in zip(self.joints, self._drives, strict=True):
            if drive.read(0x1016, 1) != self._chosen.consumer or drive.read(0x6060) != config.CSP:
                raise self._unset(joint)

    def _unset(self, joint: Joint) -> ArmRefused:
        return ArmRefused(
            explain(
                f"drive {joint.name} (node {joint.id}) has lost its settings",
                "heartbeat consumer and mode as connect() wrote them",
                sentences.sentence(sentences.BOOTED),
                "close and connect again",
            )
        )

    def _disable(self) -> bool:
        def down(joint: int, state: State | None) -> int:
            return states.SHUTDOWN if state is State.OPERATION_ENABLED else states.DISABLE_VOLTAGE

        confirmed = self._steer(down, lambda state: state in states.DOWN, _STOP_S)
        if confirmed and self._guarding:
            self._guarding = False
            try:
                for drive in self._drives:
                    config.guard(drive, self._chosen)  # watching ends, and begins again with the next heartbeat
            except BridgeError:
                return False
        return confirmed

    def _halt(self, kind: StopKind) -> bool:
        """HOLD: quick stop, which holds with torque and latches. DAMP: slows down, then brakes. FREE: no voltage."""
        hold = kind is StopKind.HOLD

        def down(joint: int, state: State | None) -> int:
            if hold and state in (State.OPERATION_ENABLED, State.QUICK_STOP):
                return states.QUICK_STOP
            if kind is StopKind.DAMP and state is State.OPERATION_ENABLED:
                return states.SWITCH_ON
            return states.DISABLE_VOLTAGE

        return self._steer(down, lambda state: states.stopped(state, hold), _STOP_S)

    def _steer(self, control: _Control, wanted: _Wanted, limit_s: float) -> bool:
        """Controlwords by each drive's newest state, a SYNC every 5 ms, until `wanted` holds at all; else False."""
        self._drain()
        self._words = [None] * len(self.joints)
        targets = self._targets()
        deadline_ns = time.monotonic_ns() + int(limit_s * 1e9)
        frames: list[Frame] = []
        while time.monotonic_ns() < deadline_ns:
            beat = [self._host_beat] if self._guarding and self._beat_due() else []
            self.transport.write([*frames, *beat, codec.SYNC])
            self._collect(min(deadline_ns, time.monotonic_ns() + int(_STEP_S * 1e9)))
            found = [None if word is None else states.state_of(word) for word in self._words]
            if all(word is not None for word in self._words) and all(wanted(state) for state in found):
                return True
            frames = []
            for joint, state in enumerate(found):
                if self._words[joint] is not None:
                    self._controls[joint] = control(joint, state)
                    frames.append(codec.command(self.joints[joint].id, self._controls[joint], targets[joint]))
            self._words = [None] * len(self.joints)
        return False

    def _collect(self, deadline_ns: int) -> None:
        """Statuswords until all are there or the deadline."""
        while None in self._words and self.transport.wait_readable(deadline_ns):
            for frame in self.transport.read():
                joint, kind = self._heard.get(frame.id, (-1, -1))
                if kind == _TPDO1 and len(frame.data) == codec.STATUS.size:
                    self._words[joint] = codec.STATUS.unpack(frame.data)[0]
                    self._last_words[joint] = self._words[joint]
                else:
                    self._note(frame)
            if time.monotonic_ns() >= deadline_ns:
                return

    def _targets(self) -> list[int]:
        """Counts of the last command, or of where the arm was found."""
        if self._last:
            return [codec.COMMAND.unpack(frame.data)[1] for frame in self._last[: len(self.joints)]]
        device_rad = [joint.to_device(value) for joint, value in zip(self.joints, self.held.tolist(), strict=True)]
        return [codec.counts(v, s) for v, s in zip(device_rad, self._counts_per_rad, strict=True)]

    def _drain(self) -> None:
        """What was queued is older than what follows; at most 20,000 frames of a babbling bus."""
        for _ in range(80):
            frames = self.transport.read()
            for frame in frames:
                self._note(frame)
            if not frames:
                return

    def _why(self, index: int) -> str:
        word, name = self._last_words[index], self.joints[index].name
        if word is None:
            return f"{name}: no answer to SYNC"
        state, code = states.state_of(word), self._emcy[index]
        return f"{name}: {state.value if state else f'statusword {word:04X}'}" + (
            f", {sentences.sentence(code)}" if code else ""
        )


def _code_of(state: State | None) -> int:
    """The driver's own code for a drive that should follow and does not."""
    if state in (State.FAULT, State.FAULT_REACTION):
        return sentences.FAULTED
    return sentences.QUICK_STOPPED if state is State.QUICK_STOP else sentences.LEFT_ENABLED


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """See `protocols`. Raises BridgeError for options that config.OPTIONS does not have."""
    return Cia402Arm(open_transport("can", bus.port, bus.baud), bus.joints, watchdog_s, options)


def scan(transport: FrameTransport, wait_s: float = 0.01) -> list[Found]:
    """Every node of 1..127 that answers an SDO read of its device type; `wait_s` per eight nodes."""
    found = []
    for first in range(1, codec.MAX_NODE + 1, 8):
        nodes = range(first, min(first + 8, codec.MAX_NODE + 1))
        kinds = _uploads(transport, nodes, (0x1000, 0), wait_s)
        parts = [_uploads(transport, kinds, (0x1018, sub), wait_s) for sub in (1, 2, 3)] if kinds else []
        for node, kind in sorted(kinds.items()):
            vendor, product, revision = (part.get(node, 0) for part in parts)
            note = "" if kind & 0xFFFF == 402 else f"device profile {kind & 0xFFFF}: not a CiA 402 drive"
            found.append(Found(node, f"{vendor:08X}:{product:08X}", f"{revision:08X}", note))
    return found


def _uploads(transport: FrameTransport, nodes: Iterable[int], place: tuple[int, int], wait_s: float) -> dict[int, int]:
    """Expedited reads of one object at several nodes; those that answered."""
    transport.write([codec.upload_request(node, *place) for node in nodes])
    answers: dict[int, int] = {}
    deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
    while transport.wait_readable(deadline_ns):
        for frame in transport.read():
            value = codec.uploaded(frame, *place)
            if value is not None:
                answers[frame.id - codec.SDO_ANSWER] = value
        if time.monotonic_ns() >= deadline_ns:
            break
    return answers
