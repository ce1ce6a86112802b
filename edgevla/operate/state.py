"""What a person sees of a run at one moment, as a value: `collect` makes it, view and plain show it. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgevla.control.ladder import Phase
from edgevla.control.limiter import Limited
from edgevla.control.plan import RunPlan
from edgevla.operate.tally import Tally
from firmware_bridge.arm import Mode


@dataclass(frozen=True)
class Joint:
    """One channel: its limits, and which entry of the state measures it (None: none does)."""

    name: str
    unit: str
    minimum: float
    maximum: float
    state: int | None


@dataclass(frozen=True)
class Setup:
    """What does not change while a run lasts."""

    policy: str
    arm: str
    joints: tuple[Joint, ...]
    servo_period_s: float
    release_s: float  # d T
    horizon: int
    delay: int
    not_granted: tuple[str, ...] = ()  # of real time; not empty: best effort


@dataclass(frozen=True)
class Camera:
    """One camera: `stamp_ns` of its newest frame (None: none yet) and the age that is too old."""

    name: str
    stamp_ns: int | None
    max_age_s: float
    may_be_absent: bool = False  # the policy was trained without it too


@dataclass(frozen=True)
class Facts:
    """What the supervisor knows beside the rows."""

    now_ns: int  # CLOCK_MONOTONIC
    instruction: str
    cameras: tuple[Camera, ...] = ()
    restarts: int = 0  # of the policy process
    recorder: str = "off"  # off | recording | failed: why
    stolen_s: float = 0.0  # by the host since the run began
    temperatures: tuple[tuple[str, float], ...] = ()  # name, degrees Celsius
    note: str = ""  # the newest message
    torque_found: tuple[bool | None, ...] = ()  # at connect, by joint; () where a controller reports its mode


@dataclass(frozen=True)
class JointView:
    name: str
    unit: str
    minimum: float
    maximum: float
    setpoint: float
    measured: float | None


@dataclass(frozen=True)
class CameraView:
    name: str
    age_s: float | None
    max_age_s: float
    may_be_absent: bool = False

    @property
    def stale(self) -> bool:
        return self.age_s is None or self.age_s > self.max_age_s


@dataclass(frozen=True)
class ViewState:
    """One moment of a run. `phase` None: the servo has not made a step yet."""

    policy: str
    arm: str
    phase: Phase | None
    stopping: bool
    instruction: str
    rate_hz: float
    declared_rate_hz: float
    tally: Tally
    release_ms: float  # d T
    horizon: int
    remaining_ticks: int | None  # of the chunk in force after this tick; None: there is none
    limits_hit: tuple[str, ...]  # by the newest command
    joints: tuple[JointView, ...]
    state_age_s: float | None
    device_faults: int
    cameras: tuple[CameraView, ...]
    temperatures: tuple[tuple[str, float], ...]
    restarts: int
    recorder: str
    stolen_s: float
    not_granted: tuple[str, ...]
    note: str
    torque: str = "unknown"  # off | on | unknown


def setup_of(plan: RunPlan, not_granted: tuple[str, ...] = ()) -> Setup:
    """The unchanging part, from the plan and the read-back of real time."""
    arm, schedule = plan.arm, plan.schedule
    names = [state.name for state in arm.state]
    return Setup(
        policy=plan.policy,
        arm=arm.name,
        joints=tuple(
            Joint(channel.name, channel.unit, channel.minimum, channel.maximum, measured_by(channel.name, names))
            for channel in arm.channels
        ),
        servo_period_s=plan.period_s / plan.target.servo_ratio,
        release_s=schedule.delay * plan.period_s,
        horizon=schedule.horizon,
        delay=schedule.delay,
        not_granted=not_granted,
    )


def measured_by(channel: str, states: list[str]) -> int | None:
    """Index of the state of the same name, or the only one that ends with it (`x` and `hand_x`)."""
    if channel in states:
        return states.index(channel)
    ends = [index for index, name in enumerate(states) if name.endswith(f"_{channel}")]
    return ends[0] if len(ends) == 1 else None


def collect(setup: Setup, tally: Tally, facts: Facts) -> ViewState:
    """The moment that the newest row and the facts describe."""
    row = tally.newest
    return ViewState(
        policy=setup.policy,
        arm=setup.arm,
        phase=None if row is None else Phase(int(row["phase"])),
        stopping=tally.stopping,
        instruction=facts.instruction,
        rate_hz=tally.rate_hz,
        declared_rate_hz=1.0 / setup.servo_period_s,
        tally=tally,
        release_ms=setup.release_s * 1e3,
        horizon=setup.horizon,
        remaining_ticks=None if row is None else _remaining(row, setup.horizon),
        limits_hit=() if row is None else _names(int(row["limited"])),
        joints=() if row is None else tuple(_joint(joint, i, row) for i, joint in enumerate(setup.joints)),
        state_age_s=_age_s(None if row is None else int(row["state_stamp_ns"]) or None, facts.now_ns),
        device_faults=0 if row is None else int(row["device_faults"]),
        cameras=tuple(_camera(camera, facts.now_ns) for camera in facts.cameras),
        temperatures=facts.temperatures,
        restarts=facts.restarts,
        recorder=facts.recorder,
        stolen_s=facts.stolen_s,
        not_granted=setup.not_granted,
        note=facts.note,
        torque=_torque(row, facts.torque_found),
    )


def _torque(row: Any, found: tuple[bool | None, ...]) -> str:
    """As the arm reported it: at connect while nobody has armed it, by its mode since."""
    if row is None or not int(row["state_stamp_ns"]):
        return "unknown"
    if Phase(int(row["phase"])) is not Phase.DISARMED or not found:
        return "off" if int(row["device_mode"]) == Mode.DISARMED else "on"
    return "on" if any(found) else "unknown" if None in found else "off"


def as_dict(state: ViewState) -> dict[str, Any]:
    """JSON of a moment: finite numbers or null, the newest row left out (its content is in the other keys)."""
    tally = asdict(state.tally) | {"newest": None}
    data = asdict(state) | {"tally": {key: tally[key] for key in tally if key not in ("newest", "pending")}}
    data["phase"] = None if state.phase is None else state.phase.name.lower()
    plain: dict[str, Any] = _plain(data)
    return plain


def _remaining(row: Any, horizon: int) -> int | None:
    chunk = int(row["chunk"])
    return None if chunk < 0 else max(0, chunk + horizon - 1 - int(row["tick"]))


def _names(limited: int) -> tuple[str, ...]:
    return tuple(str(flag.name).lower() for flag in Limited if flag and flag & limited)


def _joint(joint: Joint, index: int, row: Any) -> JointView:
    measured = None if joint.state is None else float(row["state"][joint.state])
    return JointView(joint.name, joint.unit, joint.minimum, joint.maximum, float(row["setpoint"][index]), measured)


def _camera(camera: Camera, now_ns: int) -> CameraView:
    return CameraView(camera.name, _age_s(camera.stamp_ns, now_ns), camera.max_age_s, camera.may_be_absent)


def _age_s(stamp_ns: int | None, now_ns: int) -> float | None:
    return None if stamp_ns is None else max(0, now_ns - stamp_ns) / 1e9


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
