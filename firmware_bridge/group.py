"""One arm over several buses: all are commanded and asked within one cycle, and what stops one stops all.

A cycle judges and encodes every part before the first byte of any, writes all, then collects the answers of all.
Its state is made of one whole cycle of each bus; it is as old as the oldest part. A fault, an error of a transport, a
part that is not armed, or SILENT_CYCLES cycles in a row without a whole answer of one bus stop every part, holding:
stopping needs up to 0.3 s where a bus has died, once.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NoReturn, TypeVar

import numpy as np

from firmware_bridge.arm import Arm, ArmInfo, Fault, Float32, JointInfo, JointState, LinkCounts, Mode, StopKind
from firmware_bridge.arming import brought_back, judged, torque_left
from firmware_bridge.bus_arm import BusArm
from firmware_bridge.config import ArmConfig
from firmware_bridge.errors import BadSetpoint, BridgeError, NotArmed, OutsideRange, explain

SILENT_CYCLES = 5  # in a row: one lost frame is no fault, a cable that is off is one
_SLICE_NS = 200_000  # of waiting, where a transport has no descriptor to select on
_T = TypeVar("_T")


class ArmGroup:
    """`parts`, one per bus, named `buses`; `channels[i]`: which channels of the arm the joints of part i are."""

    def __init__(self, buses: Sequence[str], parts: Sequence[BusArm[Any]], channels: Sequence[Sequence[int]]) -> None:
        self.buses, self.parts = tuple(buses), tuple(parts)
        self._channels = [np.array(index, np.intp) for index in channels]
        self._n = sum(len(index) for index in channels)
        if sorted(int(at) for index in channels for at in index) != list(range(self._n)):
            raise BridgeError(
                explain(
                    "channels of an arm over several buses", f"0..{self._n - 1}, each once", channels, "see `buses`"
                )
            )
        self._forget()

    @classmethod
    def of(cls, config: ArmConfig, arms: Sequence[Arm]) -> ArmGroup:
        """`arms`, one per bus of `config`. Raises BridgeError for drivers that know one line only."""
        parts = [arm for arm in arms if isinstance(arm, BusArm)]
        if len(parts) != len(arms):
            expected, got = "one bus", f"{len(arms)}: {', '.join(bus.name for bus in config.buses)}"
            raise BridgeError(explain(f"an arm of protocol {config.protocol}", expected, got, "correct `buses`"))
        channels, at = [], 0
        for bus in config.buses:
            channels.append(bus.channels or tuple(range(at, at + len(bus.joints))))
            at += len(bus.joints)
        return cls([bus.name for bus in config.buses], parts, channels)

    def _forget(self) -> None:
        self.last_asked = 0
        self.held: Float32 = np.zeros(self._n, np.float32)
        self._asked = [-1] * len(self.parts)  # each part's own number of this cycle; -1: not asked
        self._states: list[JointState | None] = [None] * len(self.parts)
        self._missed = [0] * len(self.parts)
        self._open = False  # a cycle waits for answers
        self._armed = False  # since arm(), until the first stop
        self._poll: select.poll | None = None

    # --- Arm: modes -------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """ARMED when every part is; STOPPED when one is, or some are armed and some not."""
        modes = {part.mode for part in self.parts}
        return modes.pop() if len(modes) == 1 else Mode.STOPPED

    @property
    def counts(self) -> LinkCounts:
        """Of all parts together, since connect()."""
        total = LinkCounts()
        for counts in (part.counts for part in self.parts):
            for number in fields(LinkCounts):
                if number.name != "refusals":
                    setattr(total, number.name, getattr(total, number.name) + getattr(counts, number.name))
            for verdict, times in counts.refusals.items():
                total.refusals[verdict] = total.refusals.get(verdict, 0) + times
        return total

    def connect(self) -> ArmInfo:
        """See `Arm`. All buses at once; when one fails, all are closed again."""
        self._forget()
        infos, errors = self._all(lambda part: part.connect())
        if errors:
            self.close()
            raise self._named(errors)
        self._poll = self._poller()
        joints: list[JointInfo | None] = [None] * self._n
        for info, index in zip(infos, self._channels, strict=True):
            self.held[index] = info.held_setpoint
            for at, joint in zip(index.tolist(), info.joints, strict=True):
                joints[at] = joint
        port = ",".join(f"{bus}={info.port}" for bus, info in zip(self.buses, infos, strict=True))
        watchdog_ms, rtt_us = min(info.watchdog_ms for info in infos), max(info.rtt_us for info in infos)
        rows = tuple(joint for joint in joints if joint is not None)
        return ArmInfo(port, 0, self._n, watchdog_ms, 0, rtt_us, self.held, rows)

    def arm(self) -> None:
        """See `Arm`. All parts or none: all are judged before one is enabled; a refusal leaves no torque behind."""
        self._missed = [0] * len(self.parts)
        before, errors = self._all(judged)
        if errors:
            raise self._named(errors, "no bus was armed")
        self._armed = True
        _, errors = self._all(lambda part: part.arm())
        if errors:
            self._armed = False
            had = dict(zip(self.parts, before, strict=True))
            left, _ = self._all(lambda part: brought_back(part, had[part]))
            raise self._named(errors, torque_left([name for part in left for name in part]))
        for part, index in zip(self.parts, self._channels, strict=True):
            self.held[index] = part.held

    def disarm(self) -> None:
        """See `Arm`. Every part is asked, whatever another one answers."""
        self._armed = False
        _, errors = self._all(lambda part: part.disarm())
        if errors:
            raise self._named(errors)

    def stop(self, kind: StopKind = StopKind.HOLD) -> bool:
        """See `Arm`. True when every joint on every bus confirmed; a bus that died counts as one that did not."""
        self._armed = False
        confirmed, errors = self._all(lambda part: part.stop(kind))
        return not errors and all(confirmed)

    def close(self) -> None:
        """See `Arm`."""
        self._all(lambda part: part.close())

    # --- Arm: the servo loop's path ---------------------------------------------------------------------------

    def send(self, setpoint: Float32, expiry_ns: int) -> int:
        """See `Arm`. 0 also when the deadline passed between two buses: the ones left keep what they had."""
        if not isinstance(setpoint, np.ndarray) or setpoint.dtype != np.float32 or setpoint.shape != (self._n,):
            got = f"{getattr(setpoint, 'dtype', type(setpoint).__name__)} {getattr(setpoint, 'shape', '')}"
            todo = "pass one float32 per channel of the arm profile"
            raise BadSetpoint(explain("set-point of a wrong kind", f"float32 {(self._n,)}", got, todo))
        frames = [self._encoded(i, setpoint) for i in range(len(self.parts))]
        self._next_cycle()
        written_ns = 0
        for i, part in enumerate(self.parts):
            written_ns = self._of(i, partial(part.write, frames[i], expiry_ns))
            if not written_ns:
                break
            self._asked_now(i)
        return written_ns

    def request_state(self) -> None:
        """See `Arm`."""
        self._next_cycle()
        for i, part in enumerate(self.parts):
            self._of(i, part.request_state)
            self._asked_now(i)

    def poll(self) -> JointState | None:
        """See `Arm`. A state as soon as every part has one of this cycle; a fault in it stops every part."""
        fresh = False
        for i, part in enumerate(self.parts):
            state = self._of(i, part.poll)
            if state is not None and self._asked[i] >= 0:
                self._states[i], fresh = state, True
        states = [state for state in self._states if state is not None]
        if not fresh or len(states) < len(self.parts):
            return None
        if any(state.faults for state in states):
            self._stop_armed()  # not before the last part has answered: its answers would be taken for the stop's
        return self._merged(states)

    def wait_readable(self, deadline_ns: int) -> bool:
        """See `Arm`."""
        if self._poll is not None:
            return bool(self._poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6))
        while True:
            for i, part in enumerate(self.parts):
                until_ns = min(deadline_ns, time.monotonic_ns() + _SLICE_NS)
                if self._of(i, partial(part.wait_readable, until_ns)):
                    return True
            if time.monotonic_ns() >= deadline_ns:
                return False

    def silence(self) -> BridgeError:
        """See `Arm`. Of the buses that did not answer wholly."""
        answered = [None if state is None else state.last_seq for state in self._states]
        silent = [i for i, seq in enumerate(answered) if seq != self._asked[i]] or list(range(len(self.parts)))
        return self._named([(i, self.parts[i].silence()) for i in silent])

    def in_order(self, said: Sequence[Sequence[_T]]) -> tuple[_T, ...]:
        """What each part says of its joints, in the arm's channel order."""
        pairs = [pair for row, index in zip(said, self._channels, strict=True) for pair in zip(index, row, strict=True)]
        return tuple(value for _, value in sorted(pairs, key=lambda pair: int(pair[0])))

    # --- inside -----------------------------------------------------------------------------------------------

    def _encoded(self, i: int, setpoint: Float32) -> object:
        try:
            return self.parts[i].encode(setpoint[self._channels[i]])
        except NotArmed as error:
            self._fail(i, error)
        except BridgeError as error:
            raise self._named([(i, error)]) from error

    def _next_cycle(self) -> None:
        """Raises the silence of a part that has been silent for too long."""
        if self._open:
            for i, state in enumerate(self._states):
                self._missed[i] = self._missed[i] + 1 if state is None and self._asked[i] >= 0 else 0
        else:
            self._missed = [0] * len(self.parts)
        for i, missed in enumerate(self._missed):
            if missed >= SILENT_CYCLES:
                self._fail(i, self.parts[i].silence())
        self._states = [None] * len(self.parts)
        self._asked = [-1] * len(self.parts)
        self._open = False

    def _asked_now(self, i: int) -> None:
        if not self._open:
            self._open = True
            self.last_asked += 1
        self._asked[i] = self.parts[i].last_asked

    def _of(self, i: int, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except BridgeError as error:
            self._fail(i, error)

    def _fail(self, i: int, error: BridgeError) -> NoReturn:
        self._stop_armed()
        raise self._named([(i, error)]) from error

    def _stop_armed(self) -> None:
        """Hold, wherever torque may be on; once, and no part takes commands after this."""
        if self._armed:
            self._armed = False
            self._all(lambda part: part.mode is Mode.DISARMED or part.stop(StopKind.HOLD))

    def _all(self, call: Callable[[BusArm[Any]], _T]) -> tuple[list[_T], list[tuple[int, BridgeError]]]:
        """`call` of every part side by side: (results in order, [(part, error)]). Never raises BridgeError."""
        results: dict[int, _T] = {}
        errors: list[tuple[int, BridgeError]] = []

        def run(i: int) -> None:
            try:
                results[i] = call(self.parts[i])
            except BridgeError as error:
                errors.append((i, error))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(1, len(self.parts))]
        for thread in threads:
            thread.start()
        run(0)
        for thread in threads:
            thread.join()
        return [results[i] for i in sorted(results)], sorted(errors, key=lambda pair: pair[0])

    def _named(self, errors: Sequence[tuple[int, BridgeError]], *more: str) -> BridgeError:
        """One error, of the kind of the first, that names each bus."""
        text = "\n".join(f"bus {self.buses[i]}: {error}" for i, error in errors)
        if any(isinstance(error, OutsideRange) for _, error in errors):
            text += f"; or swap the ports of {' and '.join(self.buses)}, if each cable is on the other's"
        return type(errors[0][1])("\n".join([text, *more]))

    def _poller(self) -> select.poll | None:
        """None when a transport has no descriptor."""
        poller = select.poll()
        for part in self.parts:
            fd: int = part.transport.fileno()
            if fd < 0:
                return None
            poller.register(fd, select.POLLIN)
        return poller

    def _merged(self, states: Sequence[JointState]) -> JointState:
        oldest = min(states, key=lambda state: state.stamp_ns)
        behind = max(asked - state.last_seq for asked, state in zip(self._asked, states, strict=True))
        faults = 0
        for state in states:
            faults |= state.faults
        codes = [0] * self._n
        for state, index in zip(states, self._channels, strict=True):
            for at, code in zip(index.tolist(), state.joint_faults, strict=False):
                codes[at] = code
        return replace(
            oldest,
            position=self._spread([state.position for state in states]),
            velocity=self._spread([state.velocity for state in states]),
            effort=self._spread([state.effort for state in states]),
            temperature=self._spread([state.temperature for state in states]),
            faults=Fault(faults),
            last_seq=self.last_asked - behind,  # answers of the cycle before, read when this one began
            mode=self.mode,
            rejected=sum(state.rejected for state in states),
            joint_faults=tuple(codes),
        )

    def _spread(self, rows: Sequence[Float32 | None]) -> Float32:
        out = np.full(self._n, np.nan, np.float32)
        for row, index in zip(rows, self._channels, strict=True):
            if row is not None:
                out[index] = row
        return out
