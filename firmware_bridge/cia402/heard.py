"""What the drives of a bus have said: frames in, readings out. No time, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence

from firmware_bridge.arm import Joint, LinkCounts
from firmware_bridge.bus_arm import Reading, reading_of
from firmware_bridge.cia402 import codec, sentences, states
from firmware_bridge.cia402.config import Scale
from firmware_bridge.cia402.states import State
from firmware_bridge.transport.base import Frame

_MASK, _ENABLED = 0x6F, 0x27  # of the statusword
_TPDO1, _TPDO2, _EMCY, _BEAT = range(4)
_KINDS = ((codec.TPDO1, _TPDO1), (codec.TPDO2, _TPDO2), (codec.EMCY, _EMCY), (codec.HEARTBEAT, _BEAT))
_NOBODY = (-1, -1)


class Heard:
    """Of every joint, by its index. `motion`: TPDO2 belongs to an answer. `counts.foreign`: frames of nobody here."""

    def __init__(self, joints: Sequence[Joint], motion: bool, counts: LinkCounts) -> None:
        self._joints, self._motion, self._counts = joints, motion, counts
        self._from = {base + joint.id: (i, kind) for i, joint in enumerate(joints) for base, kind in _KINDS}
        n = len(joints)
        self.scaled([Scale(1.0, 0.0)] * n)
        self.words: list[int | None] = [None] * n  # newest statusword
        self._last_words: list[int | None] = [None] * n  # for error texts
        self._half: list[tuple[int, float] | None] = [None] * n  # statusword, rad: a TPDO1 that waits for its TPDO2
        self.forgive()

    def scaled(self, scales: Sequence[Scale]) -> None:
        """How each drive counts."""
        self._scales = tuple(scales)
        status = {codec.TPDO1 + joint.id: (i, scales[i].counts_per_rad) for i, joint in enumerate(self._joints)}
        self._whole = {} if self._motion else status  # CAN ids of frames that are a whole answer

    def forgive(self) -> None:
        """Faults so far are past."""
        self.emcy = [0] * len(self._joints)  # error code that is active
        self.lost = [0] * len(self._joints)  # BOOTED or LEFT_OPERATIONAL
        self.any_lost = False

    def asked(self) -> None:
        """A SYNC goes out: halves of earlier answers are of no use."""
        if self._motion:
            self._half = [None] * len(self._joints)

    def readings(self, frames: Sequence[Frame], armed: bool) -> list[Reading]:
        """The answers in `frames`. `armed`: a drive that is not in operation enabled has a fault."""
        found: list[Reading] = []
        whole, emcy, lost, unpack, size = self._whole, self.emcy, self.lost, codec.STATUS.unpack, codec.STATUS.size
        for frame in frames:
            can_id, data, extended, fd, _, remote = frame
            known = whole.get(can_id)
            if known is None or len(data) != size or extended or fd or remote:
                self._part(frame, found, armed)
                continue
            joint, counts_per_rad = known
            word, counts = unpack(data)
            self.words[joint] = word
            position = counts / counts_per_rad
            if word & _MASK == _ENABLED and not emcy[joint] and not lost[joint]:
                found.append(reading_of((joint, position, math.nan, math.nan, math.nan, 0, 0)))
            else:
                found.append(self._judged(joint, word, position, math.nan, math.nan, armed))
        return found

    def note(self, frame: Frame, armed: bool = False) -> None:
        """EMCYs and heartbeats, whenever they come; the rest is foreign."""
        joint, kind = self._of(frame)
        found = codec.emergency(frame.data) if kind == _EMCY else None
        if found is not None:
            self.emcy[joint] = found.code
        elif kind == _BEAT and len(frame.data) == 1:
            self._nmt_state(joint, frame.data[0] & 0x7F, armed)
        elif kind != _TPDO1 and kind != _TPDO2 and frame.id & 0x780 != codec.SDO_ANSWER:
            self._counts.foreign += 1

    def is_process_data(self, frame: Frame) -> bool:
        """TPDOs of our drives, and the SYNC that makes drives send them."""
        return frame.id == codec.SYNC_ID or self._of(frame)[1] in (_TPDO1, _TPDO2)

    def note_word(self, frame: Frame) -> None:
        """A statusword into `words`, or `note`."""
        joint, kind = self._of(frame)
        if kind == _TPDO1 and len(frame.data) == codec.STATUS.size:
            self.words[joint] = self._last_words[joint] = codec.STATUS.unpack(frame.data)[0]
        else:
            self.note(frame)

    def forget_words(self) -> None:
        """What was said is older than the question that follows."""
        self.words = [None] * len(self._joints)

    def why(self, joint: int) -> str:
        """What a drive said last, in words."""
        word, name = self._last_words[joint], self._joints[joint].name
        if word is None:
            return f"{name}: no answer to SYNC"
        state, code = states.state_of(word), self.emcy[joint]
        said = state.value if state else f"statusword {word:04X}"
        return f"{name}: {said}" + (f", {sentences.sentence(code)}" if code else "")

    def _of(self, frame: Frame) -> tuple[int, int]:
        """(joint, kind), or _NOBODY."""
        if frame.extended or frame.fd or frame.remote:
            return _NOBODY
        return self._from.get(frame.id, _NOBODY)

    def _part(self, frame: Frame, found: list[Reading], armed: bool) -> None:
        """A frame that is no whole answer: a half of one, or none."""
        joint, kind = self._of(frame)
        half = self._half[joint] if joint >= 0 else None
        if joint < 0:
            self._counts.foreign += 1
        elif kind == _TPDO1 and self._motion and len(frame.data) == codec.STATUS.size:
            word, counts = codec.STATUS.unpack(frame.data)
            self.words[joint] = word
            self._half[joint] = word, counts / self._scales[joint].counts_per_rad
        elif kind == _TPDO2 and half is not None and len(frame.data) == codec.MOTION.size:
            velocity, torque = codec.MOTION.unpack(frame.data)
            self._half[joint] = None
            scale = self._scales[joint]
            effort = torque * 1e-3 * scale.rated_nm
            found.append(self._judged(joint, *half, velocity / scale.counts_per_rad, effort, armed))
        else:
            self.note(frame, armed)

    def _judged(self, joint: int, word: int, position: float, velocity: float, effort: float, armed: bool) -> Reading:
        code = self.emcy[joint] or self.lost[joint]
        state = states.state_of(word)
        if not code and (state is State.FAULT or (armed and state is not State.OPERATION_ENABLED)):
            code = _code_of(state)
        faults = sentences.faults_of(code) if code else 0
        return Reading(joint, position, velocity, effort, math.nan, faults, code)

    def _nmt_state(self, joint: int, state: int, armed: bool) -> None:
        """A drive that restarted or left operational sends no process data: motion ends here, not by its state."""
        if state == codec.BOOT_UP:
            self.lost[joint] = sentences.BOOTED
        elif armed and state != codec.OPERATIONAL:
            self.lost[joint] = self.lost[joint] or sentences.LEFT_OPERATIONAL
        self.any_lost = self.any_lost or bool(self.lost[joint])


def _code_of(state: State | None) -> int:
    """The driver's own code for a drive that should follow and does not."""
    if state in (State.FAULT, State.FAULT_REACTION):
        return sentences.FAULTED
    return sentences.QUICK_STOPPED if state is State.QUICK_STOP else sentences.LEFT_ENABLED
