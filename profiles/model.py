"""Values of a profile. Every quantity carries its unit in its name; the loader has checked each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ARTIFACTS = ("cpu", "trt")
MINIMUM = ("l4t", "glibc", "kernel", "python")  # what a least version may be said of
PROTOCOLS = ("edgelink", "feetech", "dynamixel", "damiao", "odrive", "cia402", "moteus")
ON_EXPIRY = ("hold", "brake", "free")
TORQUE_POLICIES = ("hold", "ramp", "off")
JOINT_KINDS = ("revolute", "prismatic")

# Largest velocity, acceleration and jerk of a channel, per second of its unit: beyond them is no arm but a slip of the
# pen. rad: 100 rad/s are 955 rpm behind the gear, some 20 times the fastest joints of industrial arms. m: a linear
# motor's axis makes 10 m/s. Any other unit, "1" of a gripper above all: its whole stroke within a millisecond.
FASTEST = {"rad": (100.0, 1e4, 1e6), "m": (10.0, 1e4, 1e6)}
FASTEST_OTHER = (1e3, 1e6, 1e9)


@dataclass(frozen=True)
class PowerMode:
    """One mode of a Jetson's nvpmodel. None: no cap, or no public figure to rest on."""

    name: str  # as /etc/nvpmodel.conf has it: '15W', 'MAXN'; its number differs from module to module
    id: int | None = None  # of `nvpmodel -m`; None: another one with Super mode than without
    watts: float | None = None
    cores: int | None = None  # that stay online: 0 to cores - 1
    cpu_mhz: float | None = None  # the highest clock that it allows
    gpu_mhz: float | None = None


@dataclass(frozen=True)
class GpuWheel:
    """A wheel that is on no package index: somebody fetches it and puts it where `bundle build` looks."""

    file: str  # glob of its name: 'onnxruntime_gpu-*-cp310-cp310-linux_aarch64.whl'
    replaces: str  # distribution that it takes the place of: 'onnxruntime'
    folder: str  # where to put it: relative to the working folder of `bundle build`, or absolute
    source: str  # where it comes from, for people


@dataclass(frozen=True)
class Target:
    """One computer in one power mode: what it may promise, and which cores it gives to whom."""

    name: str
    description: str
    arch: str
    providers: tuple[str, ...]  # ONNX Runtime execution providers, in order
    artifact: str  # 'cpu' (dynamic int8) or 'trt' (static int8)
    latency_budget_s: float  # L: declared bound from observation sampled to chunk visible to the servo
    replan_ticks: int  # r
    survive_misses: int  # m: consecutive lost inferences to survive
    servo_ratio: int  # n: servo period = control period / n
    servo_core: int | None  # None: not pinned
    policy_core: int | None
    servo_priority: int  # SCHED_FIFO, 1..99
    policy_threads: int
    memory_mb: int  # the policy process may take
    hang_s: float  # past this the policy process is killed and restarted
    measured: bool  # False: latency_budget_s is declared, not yet measured on this device
    python: str = ""  # of the robot's system, '3.10'; '': not said, and no release can be built for it
    provider_options: Mapping[str, Mapping[str, float | int | str | bool]] = field(default_factory=dict)
    policy_spinning: bool = True  # more than one policy thread: waiting ones spin, which is faster and takes the core
    disk_mb: int = 1_000  # free space that a release with its engines and a flight record need
    power_mode: str = ""  # in which L is meant: the name of one of `power_modes`; '': not said
    power_modes: tuple[PowerMode, ...] = ()  # that the module has
    clocks_locked: bool = False  # L is meant with clocks locked to the ceiling of the mode (`jetson_clocks`)
    minimum: Mapping[str, str] = field(default_factory=dict)  # least versions, keys of MINIMUM
    gpu_wheel: GpuWheel | None = None  # None: every wheel is on the package index
    modules: tuple[str, ...] = ()  # not empty: a family, which `resolve_module` narrows to one of these targets
    compatible: tuple[str, ...] = ()  # of the device tree, any of which tells this module: 'nvidia,p3767-0005'
    board_model: str = ""  # part of the device tree's model, 'Orin NX': tells the module where `compatible` does not,
    ram_mb: int | None = None  # together with the memory built into it

    @property
    def family(self) -> bool:
        """Whether this stands for several modules, and the one found on the robot is meant."""
        return bool(self.modules)


@dataclass(frozen=True)
class Motor:
    """The actuator behind a channel; meaning and signs as in `firmware_bridge.arm.Joint`."""

    id: int
    model: str
    bus: str = "main"
    direction: int = 1
    zero_rad: float = 0.0
    ratio: float = 1.0
    kp: float | None = None
    kd: float | None = None
    torque_ff: float = 0.0
    reply_id: int | None = None


@dataclass(frozen=True)
class Channel:
    """One number of the set-point that goes to the arm. Rates are per second of `unit`."""

    name: str
    unit: str
    minimum: float
    maximum: float
    max_velocity: float
    max_acceleration: float
    max_jerk: float
    stop_deceleration: float  # of the stop ladder, <= max_acceleration
    max_effort: float | None = None  # N m or N, as the arm measures it; None: not watched
    max_following_error: float | None = None  # |set-point - measured|, in `unit`; None: not watched
    effort_s: float = 0.0  # one of the two exceeded for longer than this is a protective stop
    motor: Motor | None = None  # None: the device behind the protocol knows its own actuators (edgelink)


@dataclass(frozen=True)
class StateChannel:
    """One number the arm reports back."""

    name: str
    unit: str


@dataclass(frozen=True)
class CameraSpec:
    """One camera and the age at which its frame is too old to act on."""

    name: str
    width: int
    height: int
    rate_hz: float
    max_age_s: float


@dataclass(frozen=True)
class ChainJoint:
    """One joint of a chain, as in a URDF: origin seen from the joint before, then motion about or along `axis`."""

    channel: str
    kind: str  # 'revolute' (channel in rad) or 'prismatic' (channel in m)
    xyz: tuple[float, float, float]  # m
    rpy: tuple[float, float, float]  # rad, about the fixed axes x, y, z in this order
    axis: tuple[float, float, float]


@dataclass(frozen=True)
class Cartesian:
    """Limits of the tool centre point: three channels that are x, y, z, or a chain of joints from the base."""

    max_speed: float  # m/s, norm
    minimum: tuple[float, float, float]  # m, workspace box in the base's frame
    maximum: tuple[float, float, float]
    channels: tuple[str, ...]  # names of x, y, z; empty for a chain
    joints: tuple[ChainJoint, ...]  # base first; empty for x, y, z
    tip_xyz: tuple[float, float, float]  # m, tool centre point seen from the last joint


@dataclass(frozen=True)
class ArmProfile:
    """One arm: its protocol, its limits, and what it does when commands cease."""

    name: str
    description: str
    protocol: str
    baud: int
    channels: tuple[Channel, ...]
    state: tuple[StateChannel, ...]
    cameras: tuple[CameraSpec, ...]
    watchdog_s: float | None  # in the actuator; None: the arm has none, to be accepted explicitly
    hold_s: float  # a chunk that arrives within this resumes a hold, later it latches
    torque_s: float  # held this long after the latch, then the torque policy
    torque_policy: str
    on_expiry: str  # what the device does when a command expires: 'hold', 'brake', 'free'
    falls_on_loss: bool  # the arm falls when torque goes
    command_ttl_s: float  # expiry of each command, counted from its deadline
    max_state_age_s: float
    max_skew_s: float  # between the frames and the state of one observation
    return_delay_s: float  # device-side delay before its reply
    start_low: tuple[float, ...]  # per channel: arming is refused outside
    start_high: tuple[float, ...]
    cartesian: Cartesian | None = None
    buses: tuple[str, ...] = ("main",)
    data_baud: int | None = None  # of CAN-FD's data phase
    usb_turnaround_s: float = 0.0  # of the adapter: from its last byte in to the first byte the host can read
    options: Mapping[str, float | int | str | bool] = field(default_factory=dict)  # the protocol's own
