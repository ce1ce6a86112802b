"""Do bundle, target and arm speak of the same thing? Pure; each answer is a proved claim.

A claim's `left` is the number of differences, and it is kept when that is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from edgevla.bundle.manifest import Camera, Manifest
from edgevla.control.timing import FIT, Claim
from profiles import ArmProfile, Target

_ARTIFACTS_OF = {
    "cpu": ("cpu-dynamic-s8", "cpu-static-qdq", "cpu-nbits8", "cpu-nbits4", "fp16", "fp32"),
    "trt": ("trt-qdq",),
}  # target's artifact -> the bundle's


_FEW = 3  # differences that are named


def compatibility(manifest: Manifest, target: Target, arm: ArmProfile) -> list[Claim]:
    """Artifact, action channels, limits, state, camera size, start range: one claim each."""
    other = _other_arm(manifest, arm)
    camera_todo = other if manifest.arm != arm.name else ""
    return [
        _artifact(manifest, target),
        _same("action channels", [f"{c.name} [{c.unit}]" for c in manifest.channels], _units(arm.channels), other),
        _limits(manifest, arm),
        _same("state", [f"{s.name} [{s.unit}]" for s in manifest.state], _units(arm.state), other),
        *(_camera(camera, arm, camera_todo) for camera in manifest.cameras),
        _start(manifest, arm),
    ]


def _other_arm(manifest: Manifest, arm: ArmProfile) -> str:
    """What to do with a bundle that was made for other channels than this arm's."""
    if manifest.arm == arm.name:
        return f"take a bundle made for {arm.name} as its profile is now, or the profile that this one was made for"
    return f"take a bundle made for {arm.name}, or --arm {manifest.arm}, which this one was made for"


def _units(items: Sequence[object]) -> list[str]:
    return [f"{getattr(item, 'name', '')} [{getattr(item, 'unit', '')}]" for item in items]


def _claim(name: str, text: str, differences: int, todo: str) -> Claim:
    return Claim(name, "proved", text, differences, 0, FIT, 0, None, differences == 0, todo if differences else "")


def _few(items: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return "; ".join(items[:_FEW]) + (f"; and {len(items) - _FEW} more" if len(items) > _FEW else "")


def _artifact(manifest: Manifest, target: Target) -> Claim:
    wanted = _ARTIFACTS_OF[target.artifact]
    text = f"artifact {manifest.artifact} runs on target {target.name} ({target.artifact})"
    todo = f"take another --target, or a bundle with one of: {', '.join(wanted)}"
    return _claim("artifact", text, int(manifest.artifact not in wanted), todo)


def _same(name: str, bundle: list[str], arm: list[str], todo: str) -> Claim:
    if bundle == arm:
        return _claim(name, f"bundle = arm: {', '.join(arm)}", 0, "")
    pairs = [pair for pair in zip_longest(bundle, arm, fillvalue="none") if pair[0] != pair[1]]
    apart = _few([f"{mine} is {theirs}" for mine, theirs in pairs])
    return _claim(name, f"bundle and arm: {len(bundle)} and {len(arm)} {name}: {apart}", len(pairs), todo)


def _limits(manifest: Manifest, arm: ArmProfile) -> Claim:
    if not _comparable(manifest, arm):
        return _uncompared("limits")
    outside = [
        f"{c.name} [{c.minimum:g}, {c.maximum:g}] not in [{a.minimum:g}, {a.maximum:g}]"
        for c, a in zip(manifest.channels, arm.channels, strict=True)
        if not a.minimum <= c.minimum < c.maximum <= a.maximum
    ]
    todo = "export the policy for these ranges, or correct those of the arm's profile or its calibration"
    return _claim("limits", _few(outside) or "the bundle's range is inside the arm's", len(outside), todo)


def _camera(camera: Camera, arm: ArmProfile, other_arm: str) -> Claim:
    wanted = (camera.width, camera.height)
    sizes = [(spec.width, spec.height) for spec in arm.cameras if spec.name == camera.name]
    shown = " x ".join(map(str, sizes[0])) if sizes else "no such camera"
    text = f"camera {camera.name}: bundle = arm: {wanted[0]} x {wanted[1]} = {shown}"
    differs = int(sizes != [wanted] and (bool(sizes) or camera.when_missing == "refuse"))
    todo = "correct [[cameras]] of the arm's profile, or take a bundle trained with its cameras"
    return _claim("camera size", text, differs, other_arm or todo)


def _start(manifest: Manifest, arm: ArmProfile) -> Claim:
    if not _comparable(manifest, arm):
        return _uncompared("start range")
    rows = zip(manifest.channels, manifest.start_low, manifest.start_high, arm.start_low, arm.start_high, strict=True)
    apart = [
        f"{c.name}: bundle [{low:g}, {high:g}], arm [{arm_low:g}, {arm_high:g}]"
        for c, low, high, arm_low, arm_high in rows
        if max(low, arm_low) > min(high, arm_high)
    ]
    todo = "correct start_low and start_high of the arm's profile, or those of the export"
    return _claim("start range", _few(apart) or "bundle and arm have start positions in common", len(apart), todo)


def _comparable(manifest: Manifest, arm: ArmProfile) -> bool:
    return [(c.name, c.unit) for c in manifest.channels] == [(c.name, c.unit) for c in arm.channels]


def _uncompared(name: str) -> Claim:
    return Claim(name, "proved", "not compared: the channels are others", 0, 0, FIT, 0, None, None)
