"""What a child process is told at its start: one line of JSON on its standard input. Nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgevla.control.schedule import Schedule
from profiles.model import ArmProfile, CameraSpec, Cartesian, ChainJoint, Channel, Motor, StateChannel


@dataclass(frozen=True)
class ServoConfig:
    """The servo process: which arm on which port, its schedule, its shared memory (descriptor numbers)."""

    parent_pid: int
    port: str
    arm: ArmProfile
    schedule: Schedule
    period_s: float
    servo_ratio: int
    kinds: tuple[str, ...]  # per channel: absolute | delta | velocity
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    start_low: tuple[float, ...]  # of the bundle, per channel
    start_high: tuple[float, ...]
    observations: int  # T: ticks of state a request carries
    duration_ticks: int  # armed; 0: no end
    stay: bool  # a latched arm waits for an order; otherwise a latch that nobody asked for ends the process
    core: int | None
    priority: int
    best_effort: bool
    audit: str  # "": none | "memory": trace allocations | "faults": count page faults, over the armed ticks
    request_fd: int
    reply_fd: int
    order_fd: int
    kick_fd: int  # eventfd: a request was written
    rows_fd: int
    home: str = ""  # see RunOptions


@dataclass(frozen=True)
class CameraInput:
    """One camera of the policy process: its slot, and how old its frame may be."""

    name: str
    fd: int
    width: int
    height: int
    max_age_s: float
    when_missing: str  # refuse | blank


@dataclass(frozen=True)
class PolicyConfig:
    """The policy process: which engine, its shared memory, and how old its inputs may be."""

    parent_pid: int
    engine: str  # dotted name "module:function"; function(bundle, threads) -> engine
    bundle: str
    instruction: str
    threads: int
    core: int | None
    memory_mb: int
    instruction_epoch: int
    providers: tuple[str, ...]  # ONNX Runtime execution providers, in order
    period_s: float
    horizon: int
    delay: int
    blend_ticks: int | None  # b; None: the policy is given the prefix
    channels: int
    states: int
    observations: int
    cameras: tuple[CameraInput, ...]
    first_frame_s: float  # a camera silent for longer than this is a device fault
    max_state_age_s: float
    max_skew_s: float
    request_fd: int
    reply_fd: int
    words_fd: int
    kick_fd: int
    rows_fd: int
    tape_fd: int  # -1: no flight recorder
    provider_options: Mapping[str, Mapping[str, float | int | str | bool]] = field(default_factory=dict)
    spinning: bool = True  # of more than one thread
    engines: str = ""  # folder of TensorRT engines


def to_line(config: ServoConfig | PolicyConfig) -> str:
    """One line of JSON."""
    return json.dumps(asdict(config), allow_nan=True) + "\n"


def servo_config(line: str) -> ServoConfig:
    """The configuration that `to_line` wrote."""
    data: dict[str, Any] = json.loads(line)
    data["arm"] = arm_of(data["arm"])
    data["schedule"] = Schedule(**data["schedule"])
    for key in ("kinds", "scale", "offset", "start_low", "start_high"):
        data[key] = tuple(data[key])
    return ServoConfig(**data)


def policy_config(line: str) -> PolicyConfig:
    """The configuration that `to_line` wrote."""
    data: dict[str, Any] = json.loads(line)
    data["cameras"] = tuple(CameraInput(**item) for item in data["cameras"])
    data["providers"] = tuple(data["providers"])
    return PolicyConfig(**data)


def _channel(data: dict[str, Any]) -> Channel:
    motor = data["motor"]
    return Channel(**{**data, "motor": None if motor is None else Motor(**motor)})


def arm_of(data: dict[str, Any]) -> ArmProfile:
    """An arm profile from its JSON."""
    data = dict(data)
    data["channels"] = tuple(_channel(item) for item in data["channels"])
    data["buses"] = tuple(data["buses"])
    data["state"] = tuple(StateChannel(**item) for item in data["state"])
    data["cameras"] = tuple(CameraSpec(**item) for item in data["cameras"])
    for key in ("start_low", "start_high"):
        data[key] = tuple(data[key])
    data["cartesian"] = None if data["cartesian"] is None else _cartesian(data["cartesian"])
    return ArmProfile(**data)


def _cartesian(data: dict[str, Any]) -> Cartesian:
    joints = tuple(ChainJoint(**{key: _tuple(value) for key, value in item.items()}) for item in data["joints"])
    return Cartesian(**{**{key: _tuple(value) for key, value in data.items()}, "joints": joints})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
