"""Arms for the tests: a Koch-like arm with two families of servos, and a shoulder with a shadow."""

from __future__ import annotations

from math import pi

from firmware_bridge.arm import Joint

WATCHDOG_S = 0.1
OPTIONS: dict[str, float | int | str | bool] = {"current_based": "gripper"}


def joint(name, servo, model, **more):
    return Joint(name, "rad", -1.2, 1.2, servo, model, zero_rad=pi, **more)


JOINTS = (
    joint("shoulder_pan", 1, "xl430-w250"),
    joint("shoulder_lift", 2, "xl430-w250"),
    joint("elbow_flex", 3, "xl330-m288"),
    joint("wrist_flex", 4, "xl330-m288", direction=-1),
    joint("wrist_roll", 5, "xl330-m288"),
    joint("gripper", 6, "xl330-m288", max_effort=0.3),
)
ALIKE = tuple(joint(f"joint_{i}", i, "xm430-w350") for i in range(1, 7))  # one sync read serves them all
SHADOWED = (joint("shoulder", 2, "xm540-w270"), joint("wrist", 4, "xm430-w350"))
SHADOW_OPTIONS: dict[str, float | int | str | bool] = {"shadows": "3:-2", "reverse": "shoulder"}
QUESTIONS_FEED_WATCHDOG = True  # Bus Watchdog (98) counts any instruction packet: e-manual of the X series
