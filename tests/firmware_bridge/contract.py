"""What every driver is held to, and the harness for it: a virtual device, the driver, a record of every byte between.

`tests/firmware_bridge/NAME/arms.py` gives JOINTS, OPTIONS, WATCHDOG_S; where needed also DATA_BAUD (CAN-FD), BAUD,
VIRTUAL_OPTIONS, ONE_DEVICE (one controller answers for all joints), QUESTIONS_FEED_WATCHDOG. The judge is a second
virtual device, in this process, with a wider range: it is fed what the host wrote, and its targets show what would have
reached the joints.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from firmware_bridge.arm import Arm, Float32, Joint, JointState, Mode, exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.errors import ArmRefused, BridgeError, JointSilent, NoAnswer
from firmware_bridge.protocols import KINDS, module
from firmware_bridge.transport.log import Log, What, read_log
from firmware_bridge.transport.recording import Recording
from firmware_bridge.transport.tap import tap
from firmware_bridge.virtual.__main__ import plant_of
from firmware_bridge.virtual.client import VirtualProcess

HERE = Path(__file__).parent
SLACK_S = 0.25  # of a busy computer, on top of every deadline
ROOM = 0.02  # of a joint's range: rounding of registers and fields, never a real excursion
_INTERFACE = os.environ.get("EDGEVLA_CAN")  # `make test-can`
_SECOND = os.environ.get("EDGEVLA_CAN_SECOND")  # a bus of its own for a second device
WIDER = 0.1  # of the range: how far the judge looks beyond each end


def installed() -> list[str]:
    """Protocols of the registry whose folder is there; those of CAN where EDGEVLA_CAN names an interface."""
    bridge = HERE.parents[1] / "firmware_bridge"
    there = [name for name in KINDS if (bridge / name).is_dir()]
    return [name for name in there if KINDS[name] == "can"] if _INTERFACE else there


class Bench:
    """One virtual device of `protocol` in a process of its own, for all cases; `fresh()` before each."""

    def __init__(self, protocol: str, folder: Path, joints: Sequence[Joint] = (), **asked: Any) -> None:
        self.protocol = protocol
        self.arms: ModuleType = importlib.import_module(f"tests.firmware_bridge.{protocol}.arms")
        self.joints: tuple[Joint, ...] = tuple(joints or self.arms.JOINTS)
        self.watchdog_s: float | None = self.arms.WATCHDOG_S
        self.one_device = bool(getattr(self.arms, "ONE_DEVICE", False))
        self.can = KINDS[protocol] == "can"
        self.baud = int(getattr(self.arms, "BAUD", 1_000_000))
        self.data_baud: int | None = getattr(self.arms, "DATA_BAUD", None)
        self._folder, self._count = folder, 0
        self._virtual_options = dict(getattr(self.arms, "VIRTUAL_OPTIONS", {}))
        if self.watchdog_s is not None:
            asked["watchdog_s"] = self.watchdog_s
        interface = _SECOND if asked.pop("second", False) else _INTERFACE
        link = interface if self.can and interface else str(folder / "port")
        self.process = VirtualProcess(
            protocol, self.joints, gravity_nm=0.0, beyond=0.1, options=self._virtual_options, link=link, **asked
        )
        self.middle = np.array([0.5 * (joint.minimum + joint.maximum) for joint in self.joints], np.float32)
        self.span = np.array([joint.maximum - joint.minimum for joint in self.joints], np.float32)

    def fresh(self) -> None:
        """Whole cable, power just switched on, no fault, every joint at the middle of its range."""
        self.do("trouble")
        if self.can:
            self.do("restart")
        self.do("power", on=False)
        self.do("power", on=True)
        for joint in range(len(self.joints)):
            self.do("free", joint=joint)
        self.place(self.middle)

    def do(self, what: str, **more: Any) -> dict[str, Any]:
        return dict(self.process.do(what, **more))

    def place(self, position: Float32) -> None:
        pairs = zip(self.joints, position.tolist(), strict=True)
        self.do("place", position_rad=[joint.to_device(value) for joint, value in pairs])

    def truth(self) -> Float32:
        """(n,) where the joints really are, channel units."""
        pairs = zip(self.joints, self.do("report")["position_rad"], strict=True)
        return np.array([joint.to_channel(value) for joint, value in pairs], np.float32)

    def torque_on(self) -> list[bool]:
        return list(self.do("report")["torque_on"])

    def driver(self) -> Session:
        """A driver over a recorded transport, not connected."""
        self._count += 1
        return Session(self, self._folder / f"{self._count}.bus")

    def close(self) -> None:
        self.process.close()


class Counted(Recording):
    """A recording that knows what it holds: to read it back takes longer than a watchdog waits."""

    writes = 0

    def write(self, data: Any) -> None:
        super().write(data)
        self.writes += 1 if isinstance(data, bytes) else len(data)


class Session:
    """A driver whose every byte is recorded."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self.bench, self.path = bench, path
        bus = BusConfig("main", bench.process.port, bench.baud, bench.joints, bench.data_baud)
        made: Any = module(bench.protocol, "driver").make(bus, bench.watchdog_s, bench.arms.OPTIONS)
        (self.line,) = tap(made, lambda inner: Counted(inner, path, KINDS[bench.protocol]))
        self.arm: Arm = made

    def log(self) -> Log:
        self.line.flush()
        return read_log(self.path)

    def written(self) -> int:
        """Records of what the host wrote so far."""
        return int(self.line.writes)

    def armed(self) -> Session:
        """Connected and armed; again where a busy computer let the watchdog win in between."""
        self.arm.connect()
        for _ in range(3):
            with contextlib.suppress(ArmRefused):
                self.arm.arm()
                break
        return self

    def cycle(self, setpoint: Float32, within_s: float = 0.3) -> JointState:
        return exchange(self.arm, setpoint, time.monotonic_ns() + int(within_s * 1e9))

    def end(self) -> None:
        self.arm.close()
        self.line.finish()
        judge(self.bench, self.log())


def judge(bench: Bench, log: Log) -> int:
    """No set-point outside its joint's range may have been written: AssertionError. How many moved a target."""
    wide = [wider(joint) for joint in bench.joints]
    options = dict(bench._virtual_options)
    if bench.protocol == "edgelink" and bench.watchdog_s is not None:
        options["watchdog_s"] = bench.watchdog_s
    mirror = module(bench.protocol, "virtual").make(wide, plant_of(wide, 0.0), options)
    mirror.plant.place([joint.to_device(float(at)) for joint, at in zip(bench.joints, bench.middle, strict=True)])
    moved = 0
    for record in log.records:
        if record.what is not What.WROTE:
            continue
        before = mirror.plant.target.copy()
        mirror.tick(record.ns // 1000)
        mirror.feed(record.unit, record.ns // 1000)
        mirror.tick(record.ns // 1000 + 1)
        moved += not np.array_equal(before, mirror.plant.target)
        for index, joint in enumerate(bench.joints):
            if mirror.plant.torque_on[index]:
                low, high = joint.device_range_rad
                room = ROOM * (high - low)
                target = float(mirror.plant.target[index])
                assert low - room <= target <= high + room, f"{joint.name}: {target} rad on the wire, not {low}..{high}"
    return moved


def wider(joint: Joint) -> Joint:
    """The same joint with WIDER of its range more at each end."""
    margin = WIDER * (joint.maximum - joint.minimum)
    return replace(joint, minimum=joint.minimum - margin, maximum=joint.maximum + margin)


def noticed(session: Session, setpoint: Float32, within_s: float) -> str:
    """What a driver says when its arm no longer follows: a fault, a mode or an error; "" when it says nothing.

    Silence is an answer only if it lasts: a CANopen node that restarted sends nothing until it is configured again.
    """
    until, states = time.monotonic() + within_s, 0
    while time.monotonic() < until:
        try:
            state = session.cycle(setpoint, 0.03)
        except BridgeError as error:
            if isinstance(error, NoAnswer | JointSilent):
                continue
            return type(error).__name__
        states += 1
        if state.faults or state.mode != Mode.ARMED:
            return f"mode {state.mode}, faults {state.faults:#x}"
    return "" if states else "silence"
