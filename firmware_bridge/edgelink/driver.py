"""The host's side of edgelink: the `Arm` interface over a transport.

Every command expires on the device's own clock (`clock`), so a frame that was stuck in a buffer is refused there.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from firmware_bridge.arm import ArmInfo, ChannelLike, Float32, JointState, LinkCounts, Mode, StopKind
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.edgelink import codec, greeting, refusals
from firmware_bridge.edgelink.clock import host_ns, narrowed_offset
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Command,
    Decoder,
    Disarm,
    Hello,
    HelloAck,
    Limits,
    Message,
    Ping,
    State,
    Stop,
    ticks_until,
)
from firmware_bridge.edgelink.greeting import ANSWER_S, Answer, Exchange
from firmware_bridge.errors import BridgeError, NoAnswer, explain
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Transport
from firmware_bridge.transport.open import open_transport

CONNECT_S = 2.0  # s, until a silent device is called silent
TRIES = 3  # of ARM, DISARM and STOP: one lost frame is not a fault
READS_PER_POLL = 4  # of up to 4 KiB: a device that babbles must not hold the servo loop
_REMEMBERED = 256  # sent messages whose time is known, for the clock (a power of two)
_FLOAT32 = np.dtype(np.float32)


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> EdgelinkArm:
    """The driver of the controller on `bus`, not yet connected. Raises BridgeError for options: it has none."""
    if options:
        todo = "remove [options] from the arm profile"
        raise BridgeError(explain("options of an edgelink arm", "none", ", ".join(options), todo))
    return EdgelinkArm(open_transport("serial", bus.port, bus.baud), bus.joints, watchdog_s)


def scan(transport: Transport, patience_s: float = ANSWER_S) -> list[Found]:
    """The controller that answers a PING on an open transport, if one does. Neither arms nor disarms it."""
    decoder, seq = Decoder(), secrets.randbits(16)
    transport.write(codec.encode(Ping(seq)))
    deadline_ns = time.monotonic_ns() + int(patience_s * 1e9)
    while transport.wait_readable(deadline_ns):
        for message in decoder.feed(transport.read()):
            if isinstance(message, State) and message.seq == seq:
                note = f"{len(message.position)} channels, {Mode(message.mode).name}, faults {message.faults:#06x}"
                return [Found(0, "edgelink controller", "edgelink/2", note)]
    return []


class EdgelinkArm:
    """One arm behind `transport`. `channels`: any objects with name, unit, minimum, maximum, in wire order.

    `expected_watchdog_s`: the profile's; connect() refuses a device built with another. For one thread.
    """

    def __init__(
        self, transport: Transport, channels: Sequence[ChannelLike], expected_watchdog_s: float | None = None
    ) -> None:
        self.transport = transport
        self._limits = Limits(channels)
        self._shape = (len(channels),)
        self._schema = codec.schema_hash(channels)
        self._expected_watchdog_s = expected_watchdog_s
        self._forget()

    def _forget(self) -> None:
        """The state of one connection. Numbers start at random: an answer from before does not fit."""
        self._decoder = Decoder(len(self._limits))
        self._seq = secrets.randbits(16)
        self._sent_at = [(-1, 0)] * _REMEMBERED  # (seq, host us)
        self._offset_us = 0
        self._greeted = False  # its schema and watchdog are judged
        self._newest: JointState | None = None  # not yet handed out
        self._newest_us: int | None = None  # device clock of the newest state taken
        self.mode = Mode.DISARMED
        self.counts = LinkCounts()
        self.last_asked = 0
        self.held: Float32 = np.zeros(len(self._limits), np.float32)

    def connect(self) -> ArmInfo:
        """See `Arm`. Up to 2 s. Raises PortError, NoAnswer, SchemaMismatch, WatchdogMismatch."""
        return self._opened(self._greet)

    def look(self) -> ArmInfo:
        """connect() to watch only: a HELLO disarms, the PINGs asked here leave the device as it is. Up to 2 s.

        `held_setpoint` is where the arm is; schema and watchdog are not told (0), so arm() wants connect() first. The
        newest state is left for poll(). Raises PortError, NoAnswer, SchemaMismatch (another number of channels).
        """
        return self._opened(self._looked)

    def _opened(self, meet: Callable[[], ArmInfo]) -> ArmInfo:
        self._forget()
        self.transport.open()
        try:
            return meet()
        except BaseException:
            self.transport.close()
            raise

    def _greet(self) -> ArmInfo:
        rtt_us, self._offset_us, ack = self._shortest(lambda seq: Hello(seq, self._schema), HelloAck, self._judge)
        self.held, self._greeted = np.array(ack.held, np.float32), True
        found = ack.schema, len(ack.held), ack.watchdog_ms
        return ArmInfo(self.transport.name, *found, self._offset_us, rtt_us, self.held)

    def _looked(self) -> ArmInfo:
        rtt_us, self._offset_us, state = self._shortest(Ping, State, self._judge_channels)
        self.held = np.array(state.position, np.float32)
        self._take(state)
        return ArmInfo(self.transport.name, 0, len(state.position), 0, self._offset_us, rtt_us, self.held)

    def _shortest(
        self, ask: Callable[[int], Message], kind: type[Answer], judge: Callable[[Answer], None]
    ) -> Exchange[Answer]:
        """Raises NoAnswer."""
        until_ns = time.monotonic_ns() + int(CONNECT_S * 1e9)
        exchanges = greeting.exchanges(self.transport, self._decoder, self._next_seq, ask, kind, until_ns)
        best = greeting.shortest(exchanges, judge)
        if best is None:
            spoiled = self._decoder.counts.spoiled
            raise refusals.nobody_there(self.transport.name, kind is HelloAck, CONNECT_S, spoiled)
        return best

    def _judge_channels(self, state: State) -> None:
        if len(state.position) != len(self._limits):
            raise refusals.other_channels(self.transport.name, len(state.position), self._limits)

    def _judge(self, ack: HelloAck) -> None:
        port = self.transport.name
        mismatch = refusals.other_device(port, ack, self._schema, self._limits)
        if mismatch is not None:
            raise mismatch
        other = refusals.other_watchdog(port, ack, self._expected_watchdog_s)
        if other is not None:
            raise other

    def arm(self) -> None:
        """See `Arm`. Up to 0.3 s; send() at once afterwards: the watchdog is running. Raises ArmRefused."""
        if not self._greeted:
            raise refusals.not_greeted(self.transport.name)
        self._confirm(Mode.ARMED)

    def disarm(self) -> None:
        """See `Arm`. Up to 0.3 s. Raises ArmRefused when the device does not confirm it."""
        self._confirm(Mode.DISARMED)

    def stop(self, kind: StopKind = StopKind.HOLD) -> bool:
        """See `Arm`. Up to 0.3 s. Whatever the kind, the device holds: edgelink knows no other stop."""
        state = self._request(Mode.STOPPED)
        return state is not None and state.mode != Mode.ARMED

    def _confirm(self, mode: Mode) -> None:
        state = self._request(mode)
        if state is None or state.mode != mode:
            raise refusals.not_confirmed(self.transport.name, mode, state)

    def _request(self, ask_for: Mode) -> JointState | None:
        """Ask for a mode, again if the answer does not come; the state that answers, or None."""
        self.mode = Mode.STOPPED  # until the device answers: no commands from here
        for _ in range(TRIES):
            answer = self._ask(ask_for)
            if answer is not None:
                self.mode = Mode(answer.mode)
                return answer
        return None

    def _ask(self, ask_for: Mode) -> JointState | None:
        deadline_ns = time.monotonic_ns() + int(ANSWER_S * 1e9)
        seq = self._next_seq()
        requests: dict[Mode, Message] = {
            Mode.ARMED: ArmRequest(seq, self._device_us(deadline_ns)),
            Mode.DISARMED: Disarm(seq),
            Mode.STOPPED: Stop(seq),
        }
        self.transport.write(codec.encode(requests[ask_for]))
        for reply in self._messages(deadline_ns):
            state = self._take(reply)
            if state is not None and state.last_seq == seq:
                return state
        return None

    def send(self, setpoint: Float32, expiry_ns: int) -> int:
        """See `Arm`. Never waits.

        Raises BadSetpoint (dtype, shape, non-finite, out of range), NotArmed, LinkCongested, PortGone.
        """
        values = self._judged(setpoint)
        if self.mode is not Mode.ARMED:
            raise refusals.not_armed(self.transport.name, self.mode)
        seq = self._next_seq()
        frame = codec.encode(Command(seq, self._device_us(expiry_ns), values), self._limits)
        now_ns = time.monotonic_ns()  # nothing may come between this look at the clock and the write
        if now_ns >= expiry_ns:
            self.counts.late += 1
            return 0
        self.transport.write(frame)
        written_ns = time.monotonic_ns()
        self.last_asked = seq
        self._sent_at[seq % _REMEMBERED] = (seq, now_ns // 1000)
        self.counts.sent += 1
        self.counts.overtaken += written_ns > expiry_ns
        return written_ns

    def request_state(self) -> None:
        """See `Arm`."""
        seq = self._next_seq()
        now_us = time.monotonic_ns() // 1000
        self.transport.write(codec.encode(Ping(seq)))
        self.last_asked = seq
        self._sent_at[seq % _REMEMBERED] = (seq, now_us)

    def poll(self) -> JointState | None:
        """See `Arm`. Raises PortGone."""
        for _ in range(READS_PER_POLL):
            data = self.transport.read()
            if not data:
                break
            for message in self._decoder.feed(data):
                self._take(message)
            if self._newest is not None and self._newest.last_seq == self.last_asked:
                break  # nothing newer was asked for: no look for it, which costs as much as a read
        newest, self._newest = self._newest, None
        return newest

    def wait_readable(self, deadline_ns: int) -> bool:
        """See `Arm`."""
        return self.transport.wait_readable(deadline_ns)

    def silence(self) -> NoAnswer:
        """See `Arm`."""
        return refusals.silent(self.transport.name)

    def close(self) -> None:
        """See `Arm`."""
        if self.mode is Mode.ARMED:
            with contextlib.suppress(BridgeError):
                self.stop()
        self.mode = Mode.DISARMED
        self.transport.close()

    def _judged(self, setpoint: Float32) -> tuple[float, ...]:
        """`setpoint` as numbers. Raises BadSetpoint."""
        if not isinstance(setpoint, np.ndarray) or setpoint.dtype != _FLOAT32 or setpoint.shape != self._shape:
            raise refusals.wrong_kind(setpoint, len(self._limits))
        values = tuple(setpoint.tolist())
        self._limits.require(values)
        return values

    def _device_us(self, at_ns: int) -> int:
        """The device's clock at a host time, rounded to the early side."""
        return (at_ns // 1000 + self._offset_us) & 0xFFFF_FFFF

    def _next_seq(self) -> int:
        self._seq = (self._seq + 1) & 0xFFFF
        return self._seq

    def _messages(self, deadline_ns: int) -> Iterator[Message]:
        """What arrives until the deadline."""
        while self.transport.wait_readable(deadline_ns):
            yield from self._decoder.feed(self.transport.read())

    def _take(self, message: Message) -> JointState | None:
        """Judge one message; keep it if it is the newest state."""
        if not isinstance(message, State):
            return None
        if len(message.position) != self._shape[0] or not all(map(math.isfinite, message.position)):
            self.counts.bad_replies += 1
            return None
        if self._newest_us is not None and ticks_until(message.device_us, self._newest_us) < 0:
            self.counts.stale_replies += 1
            return None
        return self._keep(message, time.monotonic_ns())

    def _keep(self, state: State, now_ns: int) -> JointState:
        seq, sent_us = self._sent_at[state.seq % _REMEMBERED]
        if seq == state.seq:
            self._offset_us = narrowed_offset(self._offset_us, state.device_us, sent_us, now_ns // 1000)
        self.counts.replies += 1
        if state.verdict:
            self.counts.refused += 1
            self.counts.refusals[state.verdict] = self.counts.refusals.get(state.verdict, 0) + 1
        self._newest_us = state.device_us
        self._newest = JointState(
            position=np.array(state.position, np.float32),
            velocity=None,
            faults=state.faults,
            stamp_ns=host_ns(state.device_us, self._offset_us, now_ns),
            device_us=state.device_us,
            last_seq=state.seq,
            mode=state.mode,
            verdict=state.verdict,
            rejected=state.rejected,
            effort=np.array(state.effort, np.float32),
        )
        return self._newest
