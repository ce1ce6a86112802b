"""What each child process of a run is told at its start. Pure: plan, options and descriptors in, configuration out."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgevla.control.config import CameraInput, PolicyConfig, ServoConfig
from edgevla.control.guardian import GuardianConfig, to_line
from edgevla.control.memory import Memory
from edgevla.control.options import RunOptions
from edgevla.control.plan import PlannedCamera, RunPlan
from edgevla.policy.engines import engines_of
from edgevla.sensors.process import CameraConfig
from edgevla.telemetry.host import describe_host

START_S = 120.0  # s: a simulator and a model may take long to load on a busy machine
_CAMERA_S = 10.0  # s: a real camera delivers soon


def servo_config(plan: RunPlan, options: RunOptions, memory: Memory, port: str) -> ServoConfig:
    """The servo process; its descriptors are those that `servo_fds` lists."""
    return ServoConfig(
        parent_pid=os.getpid(),
        port=port,
        arm=plan.arm,
        schedule=plan.schedule,
        period_s=plan.period_s,
        servo_ratio=plan.target.servo_ratio,
        kinds=plan.kinds,
        scale=plan.scale,
        offset=plan.offset,
        start_low=plan.start_low,
        start_high=plan.start_high,
        observations=plan.observations,
        duration_ticks=round(options.duration_s / plan.period_s) if options.duration_s else 0,
        stay=options.stay,
        core=plan.target.servo_core,
        priority=plan.target.servo_priority,
        best_effort=options.best_effort,
        audit=options.audit,
        request_fd=memory.requests.fd,
        reply_fd=memory.replies.fd,
        order_fd=memory.orders.fd,
        kick_fd=memory.kick_fd,
        rows_fd=memory.ticks.fd,
        home=options.home,
    )


def servo_fds(config: ServoConfig) -> list[int]:
    return [config.request_fd, config.reply_fd, config.order_fd, config.kick_fd, config.rows_fd]


def guardian_line(plan: RunPlan, memory: Memory, port: str, servo_pid: int) -> tuple[str, list[int]]:
    """Configuration of the guardian of an arm without a watchdog, one line of JSON, and its descriptors."""
    step_s = plan.period_s / plan.target.servo_ratio
    config = GuardianConfig(servo_pid, port, plan.arm, step_s, plan.target.servo_priority, memory.ticks.fd)
    return to_line(config), [memory.ticks.fd]


def policy_config(plan: RunPlan, options: RunOptions, memory: Memory, words: str, epoch: int) -> PolicyConfig:
    """The policy process, which begins with the instruction `words` of `epoch`."""
    target = plan.target
    return PolicyConfig(
        parent_pid=os.getpid(),
        engine=plan.engine,
        bundle=plan.bundle,
        instruction=words,
        instruction_epoch=epoch,
        threads=target.policy_threads,
        providers=target.providers,
        provider_options=target.provider_options,
        spinning=target.policy_spinning,
        engines=str(engines_of(Path(plan.bundle))),
        core=target.policy_core,
        memory_mb=target.memory_mb,
        period_s=plan.period_s,
        horizon=plan.schedule.horizon,
        delay=plan.schedule.delay,
        blend_ticks=plan.blend_ticks,
        channels=len(plan.arm.channels),
        states=len(plan.arm.state),
        observations=plan.observations,
        cameras=tuple(_input(camera, memory) for camera in plan.cameras),
        first_frame_s=START_S if options.sim is not None else _CAMERA_S,
        max_state_age_s=plan.arm.max_state_age_s,
        max_skew_s=plan.arm.max_skew_s,
        request_fd=memory.requests.fd,
        reply_fd=memory.replies.fd,
        words_fd=memory.words.fd,
        kick_fd=memory.kick_fd,
        rows_fd=memory.inferences.fd,
        tape_fd=memory.tape.fd if memory.tape else -1,
    )


def _input(camera: PlannedCamera, memory: Memory) -> CameraInput:
    fd = memory.cameras[camera.name].fd
    return CameraInput(camera.name, fd, camera.width, camera.height, camera.max_age_s, camera.when_missing)


def policy_fds(config: PolicyConfig) -> list[int]:
    fds = [config.request_fd, config.reply_fd, config.words_fd, config.kick_fd, config.rows_fd]
    return [*fds, *(camera.fd for camera in config.cameras), *([config.tape_fd] if config.tape_fd >= 0 else [])]


def camera_line(plan: RunPlan, memory: Memory, name: str, source: str) -> str:
    """Configuration of the process of one real camera, one line of JSON."""
    camera = next(camera for camera in plan.cameras if camera.name == name)
    return CameraConfig(
        parent_pid=os.getpid(),
        name=name,
        source=source,
        width=camera.width,
        height=camera.height,
        rate_hz=camera.rate_hz,
        stall_s=camera.max_age_s,
        slot_fd=memory.cameras[name].fd,
        rows_fd=memory.captures[name].fd,
    ).to_line()


def recorder_line(
    plan: RunPlan, options: RunOptions, memory: Memory, connected: dict[str, Any]
) -> tuple[str, list[int]]:
    """Configuration of the flight recorder, one line of JSON, and its descriptors."""
    if options.record is None or memory.tape is None:
        raise ValueError("this run keeps no flight record")
    fds = [memory.ticks.fd, memory.inferences.fd, memory.tape.fd]
    told = {
        "parent_pid": os.getpid(),
        "path": str(options.record / "flight.mcap"),
        **dict(zip(("ticks_fd", "inferences_fd", "tape_fd"), fds, strict=True)),
        "channels": len(plan.arm.channels),
        "states": len(plan.arm.state),
        "limit_mb": options.record_mb,
        "meta": record_meta(plan, options, connected),
    }
    return json.dumps(told) + "\n", fds


def record_meta(plan: RunPlan, options: RunOptions, connected: dict[str, Any]) -> dict[str, Any]:
    """Everything that a replay needs to know, as JSON; no path of this machine."""
    return {
        "policy": plan.policy,
        "bundle_sha256": plan.bundle_sha256,
        "instruction": options.instruction,
        "schedule": asdict(plan.schedule),
        "period_s": plan.period_s,
        "servo_ratio": plan.target.servo_ratio,
        "observations": plan.observations,
        "blend_ticks": plan.blend_ticks,
        "kinds": plan.kinds,
        "scale": plan.scale,
        "offset": plan.offset,
        "cameras": [asdict(camera) for camera in plan.cameras],
        "arm": asdict(plan.arm),
        "target": asdict(plan.target),
        "sim": options.sim,
        "seed": options.seed,
        "held": connected.get("held", []),
        "granted": connected.get("granted", {}),
        "host": describe_host(),
    }


def arm_arguments(plan: RunPlan, options: RunOptions, memory: Memory) -> tuple[list[str], list[int]]:
    """Arguments and descriptors of the virtual arm, which also draws the frames of the first camera."""
    arguments = ["--sim", str(options.sim), "--plant", options.plant, "--seed", str(options.seed)]
    arguments += ["--period-s", repr(plan.period_s), *(["--half-way"] if options.half_way else [])]
    drawn = [name for name in memory.cameras if name not in options.cameras and name not in options.camera_fds]
    fds = [memory.cameras[name].fd for name in drawn[:1]]
    arguments += [f"--camera={name}" for name in drawn[:1]]
    return [*arguments, *(f"--camera-fd={fd}" for fd in fds)], fds
