"""The host's side of edgelink: the `Arm` interface over a transport.

Every command expires on the device's own clock, so a frame that was stuck in a buffer is refused there. The
host knows that clock from the HELLO with the shortest round trip; each later reply narrows the estimate (a
device stamps a reply after the request left and before the reply came) and so follows the crystals' drift.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from firmware_bridge.arm import ArmInfo, ChannelLike, Float32, JointState, LinkCounts, Mode, StopKind
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.edgelink import codec
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
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    BridgeError,
    NoAnswer,
    NotArmed,
    SchemaMismatch,
    WatchdogMismatch,
    explain,
)
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Transport
from firmware_bridge.transport.open import open_transport

HELLOS = 8  # round trips from which the shortest gives the clock offset
CONNECT_S = 2.0  # s, until a silent device is called silent
ANSWER_S = 0.1  # s, one request's patience: a virtual arm may be drawing a frame
TRIES = 3  # of ARM, DISARM and STOP: one lost frame is not a fault
READS_PER_POLL = 4  # of up to 4 KiB: a device that babbles must not hold the servo loop
_REMEMBERED = 256  # sent messages whose time is known, for the clock (a power of two)
_U32 = 0xFFFF_FFFF


def clock_offset(device_us: int, sent_us: int, received_us: int) -> int:
    """Device clock minus host clock, modulo 2**32, if the device stamped half-way between the two."""
    return (device_us - (sent_us + received_us) // 2) & _U32


def narrowed_offset(offset_us: int, device_us: int, sent_us: int, received_us: int) -> int:
    """`offset_us` moved as little as causality asks for.

    The device stamped its reply no sooner than the request left, no later than the reply was read.
    """
    on_host_us = (device_us - offset_us) & _U32
    too_early_us = ticks_until(sent_us & _U32, on_host_us)
    too_late_us = ticks_until(on_host_us, received_us & _U32)
    if too_early_us > 0:
        return (offset_us - too_early_us) & _U32
    if too_late_us > 0:
        return (offset_us + too_late_us) & _U32
    return offset_us


def host_ns(device_us: int, offset_us: int, now_ns: int) -> int:
    """The host time nearest to `now_ns`, and not after it, at which the device's clock showed `device_us`."""
    age_us = ticks_until((now_ns // 1000 + offset_us) & _U32, device_us)
    return now_ns - max(0, age_us) * 1000


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
        self._low = np.array(self._limits.low, np.float32)
        self._high = np.array(self._limits.high, np.float32)
        self._schema = codec.schema_hash(channels)
        self._expected_watchdog_s = expected_watchdog_s
        self._forget()

    def _forget(self) -> None:
        """The state of one connection. Numbers start at random: an answer from before does not fit."""
        self._decoder = Decoder()
        self._seq = secrets.randbits(16)
        self._sent_at = [(-1, 0)] * _REMEMBERED  # (seq, host us)
        self._offset_us = 0
        self._newest: JointState | None = None  # not yet handed out
        self._newest_us: int | None = None  # device clock of the newest state taken
        self.mode = Mode.DISARMED
        self.counts = LinkCounts()
        self.last_asked = 0
        self.held: Float32 = np.zeros(len(self._limits), np.float32)

    # --- connect --------------------------------------------------------------------------------------------

    def connect(self) -> ArmInfo:
        """See `Arm`. Up to 2 s. Raises PortError, NoAnswer, SchemaMismatch, WatchdogMismatch."""
        self._forget()
        self.transport.open()
        try:
            return self._greet()
        except BaseException:
            self.transport.close()
            raise

    def _greet(self) -> ArmInfo:
        until_ns = time.monotonic_ns() + int(CONNECT_S * 1e9)
        best: tuple[int, int, HelloAck] | None = None
        hellos = 0
        while hellos < HELLOS and time.monotonic_ns() < until_ns:
            exchange = self._hello()
            if exchange is None:
                continue
            hellos += 1
            self._judge(exchange[2])
            if best is None or exchange[0] < best[0]:
                best = exchange
        if best is None:
            raise self._silent()
        rtt_us, self._offset_us, ack = best
        self.held = np.array(ack.held, np.float32)
        name, channels = self.transport.name, len(ack.held)
        return ArmInfo(name, ack.schema, channels, ack.watchdog_ms, self._offset_us, rtt_us, self.held)

    def _hello(self) -> tuple[int, int, HelloAck] | None:
        """(round trip us, clock offset us, answer) of one HELLO, or None when no answer came."""
        seq = self._next_seq()
        sent_us = time.monotonic_ns() // 1000
        self.transport.write(codec.encode(Hello(seq, self._schema)))
        for message in self._messages(time.monotonic_ns() + int(ANSWER_S * 1e9)):
            if isinstance(message, HelloAck) and message.seq == seq:
                received_us = time.monotonic_ns() // 1000
                return received_us - sent_us, clock_offset(message.device_us, sent_us, received_us), message
        return None

    def _judge(self, ack: HelloAck) -> None:
        name = self.transport.name
        if ack.schema != self._schema or len(ack.held) != len(self._limits):
            raise SchemaMismatch(
                explain(
                    f"{name}: firmware schema {ack.schema:#010x}, host schema {self._schema:#010x}: reflash",
                    f"schema {self._schema:#010x} with channels {', '.join(self._limits.names)}",
                    f"schema {ack.schema:#010x} with {len(ack.held)} channels",
                    "flash the firmware of this release, or choose the arm profile it was built for",
                )
            )
        expected_s = self._expected_watchdog_s
        if expected_s is not None and ack.watchdog_ms != round(expected_s * 1e3):
            raise WatchdogMismatch(
                explain(
                    f"the watchdog of the device on {name} is not that of the arm profile",
                    f"{expected_s * 1e3:.0f} ms",
                    f"{ack.watchdog_ms} ms",
                    "flash the firmware of this release, or correct watchdog_s in the arm profile",
                )
            )

    def _silent(self) -> NoAnswer:
        spoiled = self._decoder.counts.spoiled
        got = f"{spoiled} spoiled frames" if spoiled else "silence"
        return NoAnswer(
            explain(
                f"no edgelink device answers on {self.transport.name}",
                f"a HELLO_ACK within {CONNECT_S:.0f} s",
                got,
                "check the arm's power, the baud rate of its profile, and that TX and RX are not swapped",
            )
        )

    # --- modes ----------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """See `Arm`. Up to 0.3 s; send() at once afterwards: the watchdog is running. Raises ArmRefused."""
        state = self._request(Mode.ARMED)
        if state is None or state.mode != Mode.ARMED:
            raise ArmRefused(
                explain(
                    f"the arm on {self.transport.name} did not arm",
                    "mode ARMED",
                    "no answer" if state is None else self._in_words(state),
                    "connect again; if it stays so, read the arm's fault bits and power-cycle it",
                )
            )

    def disarm(self) -> None:
        """See `Arm`. Up to 0.3 s. Raises ArmRefused when the device does not confirm it."""
        state = self._request(Mode.DISARMED)
        if state is None or state.mode != Mode.DISARMED:
            raise ArmRefused(
                explain(
                    f"the arm on {self.transport.name} did not confirm that it is disarmed",
                    "mode DISARMED",
                    "no answer" if state is None else self._in_words(state),
                    "use the emergency stop; its watchdog holds it within the profile's watchdog_s",
                )
            )

    def stop(self, kind: StopKind = StopKind.HOLD) -> bool:
        """See `Arm`. Up to 0.3 s. Whatever the kind, the device holds: edgelink knows no other stop."""
        state = self._request(Mode.STOPPED)
        return state is not None and state.mode != Mode.ARMED

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

    @staticmethod
    def _in_words(state: JointState) -> str:
        sentence = codec.SENTENCES.get(state.verdict, "not known to this release")
        return f"mode {state.mode}, faults {state.faults:#06x}, verdict {state.verdict}: {sentence}"

    # --- the servo loop's path ------------------------------------------------------------------------------

    def send(self, setpoint: Float32, expiry_ns: int) -> int:
        """See `Arm`. Never waits.

        Raises BadSetpoint (dtype, shape, non-finite, out of range), NotArmed, LinkCongested, PortGone.
        """
        self._refuse_bad(setpoint)
        if self.mode is not Mode.ARMED:
            raise NotArmed(
                explain(
                    f"set-point for an arm on {self.transport.name} that is not armed",
                    "mode ARMED",
                    f"mode {self.mode.name}",
                    "call arm() first; a stop is cleared only by arming explicitly",
                )
            )
        seq = self._next_seq()
        frame = codec.encode(Command(seq, self._device_us(expiry_ns), tuple(setpoint.tolist())), self._limits)
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
        newest, self._newest = self._newest, None
        return newest

    def wait_readable(self, deadline_ns: int) -> bool:
        """See `Arm`."""
        return self.transport.wait_readable(deadline_ns)

    def silence(self) -> NoAnswer:
        """See `Arm`."""
        todo = "check the arm's power and its cable; the device's watchdog holds it"
        return NoAnswer(explain(f"no state from {self.transport.name}", "an answer to each command", "silence", todo))

    def close(self) -> None:
        """See `Arm`."""
        if self.mode is Mode.ARMED:
            with contextlib.suppress(BridgeError):
                self.stop()
        self.mode = Mode.DISARMED
        self.transport.close()

    # --- inside ---------------------------------------------------------------------------------------------

    def _refuse_bad(self, setpoint: Float32) -> None:
        expected = (len(self._limits),)
        if not isinstance(setpoint, np.ndarray) or setpoint.dtype != np.float32 or setpoint.shape != expected:
            got = getattr(setpoint, "dtype", type(setpoint).__name__), getattr(setpoint, "shape", "")
            raise BadSetpoint(
                explain(
                    "set-point of a wrong kind",
                    f"float32 {expected}",
                    f"{got[0]} {got[1]}",
                    "pass one float32 per channel of the arm profile",
                )
            )
        if not bool(((setpoint >= self._low) & (setpoint <= self._high)).all()):  # NaN fails both
            self._limits.require(setpoint.tolist())

    def _device_us(self, at_ns: int) -> int:
        """The device's clock at a host time, rounded to the early side."""
        return (at_ns // 1000 + self._offset_us) & _U32

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
        if len(message.position) != len(self._limits) or not np.isfinite(message.position).all():
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
