"""CiA 402 drives on one CAN bus. A cycle is RPDO1 of every joint and a SYNC; every drive acts and answers at it.

Configuration goes through the `canopen` library over the same transport (network.py), in connect(), arm() and
disarm(); the cycle is ours: one packed frame a joint. The drives' watchdog is their heartbeat consumer. The host's
heartbeat goes out with commands while armed, never with a question alone: who only asks lets the drives stop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from firmware_bridge.arm import Arm, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import BusArm, Reading
from firmware_bridge.cia402 import codec, config, sentences, states
from firmware_bridge.cia402.heard import Heard
from firmware_bridge.cia402.scan import scan
from firmware_bridge.cia402.states import State
from firmware_bridge.cia402.steering import Control, HostBeat, Steering, Wanted
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, BridgeError, WrongJoint, explain
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

if TYPE_CHECKING:
    from firmware_bridge.cia402.network import Drive

__all__ = ["Cia402Arm", "make", "scan"]
_ENABLE_S, _STOP_S = 1.5, 0.3
_QUIET_S = 0.025  # listening for PDOs that nobody asked for


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
        self._nodes = [codec.node_id(joint.id) for joint in joints]
        self._addresses = [codec.RPDO1 + node for node in self._nodes]
        super().__init__(transport, joints, watchdog_s)

    def _forget(self) -> None:
        super()._forget()
        self._heard = Heard(self.joints, self._chosen.motion, self.counts)
        self._beat = HostBeat(self._chosen.host_node, self.watchdog_s)
        self._steering = Steering(self.transport, self._nodes, self._heard, self._beat)
        self._drives: list[Drive] = []
        self._counts_per_rad = [1.0] * len(self.joints)
        self._last: list[Frame] = []  # the last command written

    # --- identify ---------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        from firmware_bridge.cia402.network import Drive, Network, dictionary  # the extra `can`

        network, objects = Network(self.transport, self._heard.note), dictionary(self._chosen.eds)
        rows: list[JointInfo] = []
        scales: list[config.Scale] = []
        for joint in self.joints:
            drive = Drive(network, joint.id, joint.name, objects)
            drive.node.nmt.state = "PRE-OPERATIONAL"
            model = config.identify(drive, joint)
            scales.append(config.scale_of(drive, self._chosen))
            notes = config.configure(drive, joint, self._chosen, scales[-1])
            self._drives.append(drive)
            rows.append(config.row(joint, model, drive.text(0x100A), self._chosen, notes))
        self._counts_per_rad = [scale.counts_per_rad for scale in scales]
        self._heard.scaled(scales)
        self._heard.lost = [0] * len(self.joints)
        self._start()
        self._refuse_unasked()
        return tuple(rows)

    def _start(self) -> None:
        self.transport.write([codec.nmt(codec.START, node) for node in self._nodes])

    def _refuse_unasked(self) -> None:
        """PDOs without our SYNC would pass for answers. Raises WrongJoint."""
        deadline_ns = time.monotonic_ns() + int(_QUIET_S * 1e9)
        while self.transport.wait_readable(deadline_ns) and time.monotonic_ns() < deadline_ns:
            for frame in self.transport.read():
                if self._heard.is_process_data(frame):
                    raise WrongJoint(
                        explain(
                            f"process data on {self.transport.name} that nobody here asked for",
                            "silence between our SYNCs",
                            codec.describe(frame),
                            "end other masters on this bus; let no drive produce SYNC (bit 30 of 1005)",
                        )
                    )
                self._heard.note(frame)

    # --- a cycle ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """SYNC. While armed no heartbeat goes with it: only commands keep the drives from stopping."""
        beat = [] if self.mode is Mode.ARMED else self._beat.due()
        self._heard.asked()
        self.transport.write([*beat, codec.SYNC])

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return codec.command_frames(self._addresses, states.ENABLE, device_rad, self._counts_per_rad)

    def _write(self, frames: object) -> None:
        assert isinstance(frames, list)
        self._heard.asked()
        frames += self._beat.due()
        frames.append(codec.SYNC)
        self._last = frames
        self.transport.write(frames)

    def _readings(self) -> Iterable[Reading]:
        armed = self.mode is Mode.ARMED
        readings = self._heard.readings(self.transport.read(), armed)
        if armed and self._heard.any_lost:
            self.mode = Mode.STOPPED
        return readings

    # --- modes ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """See `BusArm`. A drive that restarted has lost what connect() set: it is refused."""
        self._steering.drain()
        for joint, lost in zip(self.joints, self._heard.lost, strict=True):
            if lost == sentences.BOOTED:
                raise self._unset(joint)
        self._start()  # a drive that lost the host may have left operational; this gives no torque
        super().judge()

    def _enable(self) -> None:
        self._verify()
        self._heard.forgive()
        self._last = []
        self._beat.start(self.watchdog_s is not None)
        if self._steer(states.towards_enabled, lambda state: state is State.OPERATION_ENABLED, _ENABLE_S):
            self._heard.emcy = [0] * len(self.joints)
            return
        reasons = "; ".join(self._heard.why(index) for index in range(len(self.joints)))
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
        def down(state: State | None, _: int) -> int:
            return states.SHUTDOWN if state is State.OPERATION_ENABLED else states.DISABLE_VOLTAGE

        confirmed = self._steer(down, lambda state: state in states.DOWN, _STOP_S)
        if confirmed and self._beat.on:
            self._beat.start(False)
            try:
                for drive in self._drives:
                    config.guard(drive, self._chosen)  # watching ends, and begins again with the next heartbeat
            except BridgeError:
                return False
        return confirmed

    def _look(self) -> list[bool | None]:
        """PDOs are as connecting maps them: the statusword itself is asked for, over SDO."""
        from firmware_bridge.cia402.network import Drive, Network, dictionary  # the extra `can`

        network, objects = Network(self.transport, self._heard.note), dictionary(self._chosen.eds)
        words = [Drive(network, joint.id, joint.name, objects).read(0x6041) for joint in self.joints]
        return [states.state_of(word) in states.TORQUE for word in words]

    def torque_on(self) -> list[bool | None]:
        """The statusword of each TPDO."""
        return [None if word is None else states.state_of(word) in states.TORQUE for word in self._heard.words]

    def _halt(self, kind: StopKind) -> bool:
        """HOLD: quick stop, which holds with torque and latches. DAMP: slows down, then brakes. FREE: no voltage."""
        hold = kind is StopKind.HOLD

        def down(state: State | None, _: int) -> int:
            if hold and state in (State.OPERATION_ENABLED, State.QUICK_STOP):
                return states.QUICK_STOP
            if kind is StopKind.DAMP and state is State.OPERATION_ENABLED:
                return states.SWITCH_ON
            return states.DISABLE_VOLTAGE

        return self._steer(down, lambda state: states.stopped(state, hold), _STOP_S)

    def _steer(self, control: Control, wanted: Wanted, limit_s: float) -> bool:
        return self._steering.run(control, wanted, self._targets(), limit_s)

    def _targets(self) -> list[int]:
        """Counts of the last command, or of where the arm was found."""
        if self._last:
            return [codec.COMMAND.unpack(frame.data)[1] for frame in self._last[: len(self.joints)]]
        device_rad = [joint.to_device(value) for joint, value in zip(self.joints, self.held.tolist(), strict=True)]
        return [codec.counts(v, s) for v, s in zip(device_rad, self._counts_per_rad, strict=True)]


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """See `protocols`. Raises BridgeError for options that config.OPTIONS does not have."""
    return Cia402Arm(open_transport("can", bus.port, bus.baud), bus.joints, watchdog_s, options)
