"""What `edgevla arm calibrate` does with a person at the arm: steps, Enter, and the old calibration when it ends early.

Signals wait while servos are written and while the file is: they are heard only where a person is.
"""

from __future__ import annotations

import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from edgevla.cli.output import require_writable, stdout
from edgevla.control.arm_calibration import (
    ELSEWHERE,
    ZERO_POSE,
    Ranges,
    Servos,
    calibration_of,
    doubts,
    fitting,
    full_turn_of,
    storable,
)
from edgevla.errors import Refused, Usage, explain
from firmware_bridge.calibration import MotorCalibration, read_calibration, write_calibration
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import module
from firmware_bridge.transport.serial import SerialTransport
from profiles import ArmProfile
from profiles.bridge import arm_config, joints_of
from profiles.calibrated import scale_of

Tell = Callable[[str], None]
_LIVE_S = 0.1
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def servos_calibrated(
    profile: ArmProfile, port: str, path: Path, full_turn: Sequence[str], source: Path | None, tell: Tell, table: bool
) -> dict[str, MotorCalibration]:
    """Servos on one serial line: measured with a person, or taken from `source`; saved in them and in `path`.

    Raises Usage, Refused, BridgeError; whatever ends it, the servos then have their former calibration, or the error
    says which have not.
    """
    transport = SerialTransport(port, profile.baud)
    joints = joints_of(profile, profile.buses[0])
    servos: Servos = module(profile.protocol, "calibrate").make(transport, joints, profile.options)
    turning = full_turn_of(profile.name, servos.joints, full_turn)
    given = None if source is None else _given(profile, servos, source)
    transport.open()
    try:
        with _deaf():
            before, begun = servos.read(), False
            try:
                ask(f"Hold the {profile.name}: its torque goes off now, it sinks. Enter", tell)
                begun = True
                servos.begin()
                found = _measured(profile, servos, turning, tell, table) if given is None else given
                servos.save(found)
                write_calibration(path, found)
            except BaseException as ended:
                if begun:
                    _put_back(servos, before, ended, tell)
                else:
                    tell("calibration ended before its first step: the servos and their torque are as they were")
                raise
            for note in servos.notes(found):
                tell(note)
        return found
    finally:
        transport.close()


def zero_set(profile: ArmProfile, ports: Mapping[str, str], tell: Tell) -> dict[str, float]:
    """Damiao: a person puts the arm into its zero pose, the motors keep it. Where they stood by the former zero, rad.

    Raises Usage, BridgeError. Until the last Enter no zero is changed; a signal behind it waits until all are set.
    """
    calibrate = module(profile.protocol, "calibrate")
    arms = [calibrate.make(bus) for bus in arm_config(profile, ports).buses]
    pose = ZERO_POSE.get(profile.name, "where its profile has 0 at every joint")
    with ExitStack() as stack, _deaf():
        for arm in arms:
            arm.connect()
            stack.callback(arm.close)
        motors, torque = sum(len(arm.joints) for arm in arms), "torque is as it was"
        try:
            ask(f"Hold the {profile.name}: its torque goes off now, it falls. Enter", tell)
            torque = "torque is off where it was switched off"
            for arm in arms:
                arm.disarm()
            torque = "torque is off"
            asked = f"Let it be {pose}, and still. Enter makes this the zero of {motors} motors; none keeps its former"
            ask(asked, tell)
        except BaseException:
            tell(f"calibration ended early: no zero was changed, {torque}")
            raise
        found: dict[str, float] = calibrate.zero_all(arms)
        return found


def refuse_elsewhere(profile: ArmProfile) -> None:
    """Raises Usage for an arm whose zero is set by its maker's tool."""
    if todo := ELSEWHERE.get(profile.protocol):
        what = f"{profile.name} is not calibrated from here"
        raise Usage(explain(what, "an arm of feetech, dynamixel or damiao", profile.protocol, todo))


def may_write(path: Path, replace: bool, tell: Tell) -> None:
    """Asked before anything is changed in the servos. Raises Usage when the answer is not yes."""
    require_writable(path)
    if replace or not path.exists():
        return
    tell(f"{path} exists. Replace it when done? yes/no")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Usage(explain(f"{path} exists", "yes, or another file", "no", "pass -o FILE, or --replace"))


def ask(text: str, tell: Tell) -> None:
    """Wait for Enter. Raises Usage when nobody is there to press it."""
    tell(text)
    with _hearing():
        line = sys.stdin.readline()
    if not line:
        todo = "run it in a terminal, with the arm in reach"
        raise Usage(explain("calibration needs a person", "Enter after each step", "end of input", todo))


# --- steps --------------------------------------------------------------------------------------------------------


def _measured(
    profile: ArmProfile, servos: Servos, full_turn: Sequence[str], tell: Tell, table: bool
) -> dict[str, MotorCalibration]:
    ask("Move every joint to the middle of its travel, then Enter", tell)
    offsets = servos.take_middle()
    but = f" but {', '.join(full_turn)}" if full_turn else ""
    tell(f"Move every joint{but} to both ends of its travel, then Enter")
    turn_of = module(profile.protocol, "calibrate").full_turn
    turns = {joint.name: turn_of(joint) for joint in servos.joints}
    ranges = _ranges(Ranges(turns), servos, full_turn, table)
    found = calibration_of(servos.joints, offsets, ranges, full_turn, servos.drive_modes)
    _require_meant(doubts(servos.joints, found, turns, full_turn, scale_of(profile).counts_per_rad), tell)
    return found


def _require_meant(doubtful: Sequence[str], tell: Tell) -> None:
    """Raises Refused unless a person says yes to ranges that look wrong. Nothing is saved before."""
    if not doubtful:
        return
    for sentence in doubtful:
        tell(sentence)
    tell("Ranges that short are seldom those of the whole arm. Save them nevertheless? yes/no")
    if not _yes():
        todo = "calibrate again: begin in the middle, move every joint to both of its ends"
        raise Refused(explain("the calibration was not saved", "yes", "no", todo))


def _yes() -> bool:
    with _hearing():
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _given(profile: ArmProfile, servos: Servos, source: Path) -> dict[str, MotorCalibration]:
    """The calibration in `source`, judged to its last number. Raises BadCalibration, BadInput, Refused."""
    found = read_calibration(source)
    fitting(servos.joints, found, str(source))
    calibrate = module(profile.protocol, "calibrate")
    storable(servos.joints, found, calibrate.full_turn, calibrate.offset_limits, str(source))
    return found


def _ranges(ranges: Ranges, servos: Servos, full_turn: Sequence[str], table: bool) -> Ranges:
    """Ranges seen until Enter; a table follows the joints meanwhile."""
    shown: AbstractContextManager[Live | None] = nullcontext()
    if table:
        shown = Live(console=stdout(), auto_refresh=False, transient=True)
    with shown as live:
        while True:
            ranges = ranges.seen(servos.positions())
            if live is not None:
                live.update(_table(ranges, full_turn), refresh=True)
            with _hearing():
                pressed = select.select([sys.stdin], [], [], _LIVE_S)[0]
            if pressed:
                sys.stdin.readline()
                return ranges


def _table(ranges: Ranges, full_turn: Sequence[str]) -> Table:
    table = Table("joint", "min", "now", "max", "")
    for name, (low, now, high) in ranges.found.items():
        table.add_row(name, str(low), str(now), str(high), "not measured: goes round" if name in full_turn else "")
    return table


# --- when it ends early -------------------------------------------------------------------------------------------


def _put_back(servos: Servos, before: Any, ended: BaseException, tell: Tell) -> None:
    """The former calibration into the servos. Raises Refused that says which servos do not have it."""
    try:
        servos.put_back(before)
    except BridgeError as error:
        raise Refused(f"calibration ended early: {_first_line(ended)}\n{error}") from ended
    tell("calibration ended early: the servos have the one of before; torque is off where it was switched off")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or "stopped by a signal"


class _Ears:
    """Whether a signal ends what is done now, or waits. A mask would not do: another thread would take the signal."""

    def __init__(self) -> None:
        self.hearing, self.pending = False, False

    def signal(self, *_: object) -> None:
        if not self.hearing:
            self.pending = True
            return
        self.hearing = False  # a second one does not end the putting back
        raise KeyboardInterrupt

    def listen(self) -> None:
        self.hearing = True
        if self.pending:
            self.hearing = self.pending = False
            raise KeyboardInterrupt


_EARS = _Ears()


@contextmanager
def _deaf() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP wait; where `_hearing` lets them in, each is a KeyboardInterrupt.

    One that comes when everything is saved ends nothing: the command says what it did, and ends.
    """
    _EARS.hearing = _EARS.pending = False
    before = {which: signal.signal(which, _EARS.signal) for which in _STOPS}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def _hearing() -> Iterator[None]:
    try:
        _EARS.listen()
        yield
    finally:
        _EARS.hearing = False
