"""LeRobot's own record loop, by its own code, on an arm at `--port`: when each command had been written.

    PYTHON_OF_LEROBOT -m bench.peers.lerobot_loop --port /dev/pts/3 --fps 30 --seconds 12 --out window.npy

Runs in LeRobot's own environment (it imports neither edgevla nor export). `record_loop` with SO101Follower, LeRobot's
identity processors, a teleoperator that answers from arithmetic, no camera, no dataset, no display: what is left is the
pacing and the bus, which is the least that any user of it pays. Times: CLOCK_MONOTONIC ns after `sync_write` returned.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import json
import logging
import math
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any, ClassVar

from bench.smolvla.library import declare_torchvision_ops

SWING = 10.0  # degrees, and of the gripper's 100
PERIOD_S = 4.0  # of the swing
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


ABSENT = ("cv2", "rerun")  # that the script imports for cameras and display: none here, nothing of them is called


class _Absent(types.ModuleType):
    """In the place of a module that is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0


def without_cameras() -> None:
    """Before the first import of LeRobot's script."""
    for name in ABSENT:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = _Absent(name)


def calibration() -> dict[str, Any]:
    """The whole range of every servo, its middle in the middle."""
    from lerobot.motors import MotorCalibration

    return {name: MotorCalibration(i, 0, 0, 1000, 3000) for i, name in enumerate(JOINTS, 1)}


def teleoperator(folder: Path) -> Any:
    """A leader arm that costs nothing: a sine of the time."""
    from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

    class Sway(Teleoperator):
        config_class, name = TeleoperatorConfig, "sway"
        action_features = dict.fromkeys((f"{joint}.pos" for joint in JOINTS), float)
        feedback_features: ClassVar[dict[str, type]] = {}
        is_connected = is_calibrated = True

        def connect(self, calibrate: bool = True) -> None: ...
        def calibrate(self) -> None: ...
        def configure(self) -> None: ...
        def disconnect(self) -> None: ...
        def send_feedback(self, feedback: dict[str, Any]) -> None: ...

        def get_action(self) -> dict[str, float]:
            value = SWING * math.sin(2 * math.pi * time.perf_counter() / PERIOD_S)
            return {f"{joint}.pos": value + (50.0 if joint == "gripper" else 0.0) for joint in JOINTS}

    return Sway(TeleoperatorConfig(id="sway", calibration_dir=folder))


def record(port: str, fps: int, seconds: float, folder: Path) -> tuple[list[int], float]:
    """Times of the writes, ns, and the CPU share of this process meanwhile."""
    from lerobot.processor import make_default_processors
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
    from lerobot.scripts.lerobot_record import record_loop

    robot = SO101Follower(SO101FollowerConfig(port=port, id="bench", calibration_dir=folder))
    robot.calibration = calibration()
    robot.bus.calibration = robot.calibration
    robot.bus.connect()
    robot.bus.write_calibration(robot.calibration)
    robot.configure()
    times: list[int] = []
    plain = robot.bus.sync_write

    def stamped(*asked: Any, **named: Any) -> None:
        plain(*asked, **named)
        times.append(time.monotonic_ns())

    robot.bus.sync_write = stamped
    events = {"exit_early": False, "rerecord_episode": False, "stop_recording": False}
    cpu_s, begun_s = time.process_time(), time.monotonic()
    try:
        record_loop(
            robot, events, fps, *make_default_processors(), teleop=teleoperator(folder), control_time_s=seconds
        )  # fmt: skip
    finally:
        robot.bus.sync_write = plain
        share = (time.process_time() - cpu_s) / (time.monotonic() - begun_s)
        robot.disconnect()
    return times, share


def main() -> int:
    """The last line says the share of a core and LeRobot's version; a traceback is the reason it failed."""
    arguments = _arguments()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints
    declare_torchvision_ops()
    without_cameras()
    import lerobot
    import numpy as np

    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="edgevla-lerobot-") as folder:
        times, share = record(arguments.port, arguments.fps, arguments.seconds, Path(folder))
    np.save(arguments.out, np.array(times, np.int64))
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": "measured", "cpu_share": share, "version": lerobot.__version__}), file=answer)
        answer.flush()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.lerobot_loop")
    parser.add_argument("--port", required=True)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--out", type=Path, required=True, help="where the times go, .npy, ns")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
