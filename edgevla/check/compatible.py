"""Do bundle, target and arm speak of the same thing? Pure; each answer is a proved claim.

A claim's `left` is the number of differences, and it is kept when that is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgevla.bundle.manifest import Camera, Manifest
from edgevla.control.timing import Claim
from profiles import ArmProfile, Target

_ARTIFACTS_OF = {
    "cpu": ("cpu-dynamic-s8", "cpu-static-qdq", "cpu-nbits8", "cpu-nbits4", "fp16", "fp32"),
    "trt": ("trt-qdq",),
}  # target's artifact -> the bundle's


def compatibility(manifest: Manifest, target: Target, arm: ArmProfile) -> list[Claim]:
    """Artifact, action channels, limits, state, camera size, start range: one claim each."""
    return [
        _artifact(manifest, target),
        _same("action channels", [f"{c.name} [{c.unit}]" for c in manifest.channels], _units(arm.channels)),
        _limits(manifest, arm),
        _same("state", [f"{s.name} [{s.unit}]" for s in manifest.state], _units(arm.state)),
        *(_camera(camera, arm) for camera in manifest.cameras),
        _start(manifest, arm),
    ]


def _units(items: Sequence[object]) -> list[str]:
    return [f"{getattr(item, 'name', '')} [{getattr(item, 'unit', '')}]" for item in items]


def _claim(name: str, text: str, differences: int) -> Claim:
    return Claim(name, "proved", text, differences, 0, "differences", 0, None, differences == 0)


def _artifact(manifest: Manifest, target: Target) -> Claim:
    wanted = _ARTIFACTS_OF[target.artifact]
    text = f"artifact {manifest.artifact} runs on target {target.name} ({target.artifact})"
    return _claim("artifact", text, int(manifest.artifact not in wanted))


def _same(name: str, bundle: list[str], arm: list[str]) -> Claim:
    if bundle == arm:
        return _claim(name, f"bundle = arm: {', '.join(arm)}", 0)
    differences = sum(a != b for a, b in zip(bundle, arm, strict=False)) + abs(len(bundle) - len(arm))
    return _claim(name, f"bundle = arm: {', '.join(bundle)} = {', '.join(arm)}", differences)


def _limits(manifest: Manifest, arm: ArmProfile) -> Claim:
    by_name = {channel.name: channel for channel in arm.channels}
    outside = [
        f"{c.name} [{c.minimum:g}, {c.maximum:g}] not in [{a.minimum:g}, {a.maximum:g}]"
        for c in manifest.channels
        if (a := by_name.get(c.name)) and not a.minimum <= c.minimum < c.maximum <= a.maximum
    ]
    return _claim("limits", "; ".join(outside) or "the bundle's range is inside the arm's", len(outside))


def _camera(camera: Camera, arm: ArmProfile) -> Claim:
    wanted = (camera.width, camera.height)
    sizes = [(spec.width, spec.height) for spec in arm.cameras if spec.name == camera.name]
    shown = " x ".join(map(str, sizes[0])) if sizes else "no such camera"
    text = f"camera {camera.name}: bundle = arm: {wanted[0]} x {wanted[1]} = {shown}"
    return _claim("camera size", text, int(sizes != [wanted] and (bool(sizes) or camera.when_missing == "refuse")))


def _start(manifest: Manifest, arm: ArmProfile) -> Claim:
    rows = zip(manifest.channels, manifest.start_low, manifest.start_high, arm.start_low, arm.start_high)  # noqa: B905
    apart = [
        f"{c.name}: bundle [{low:g}, {high:g}], arm [{arm_low:g}, {arm_high:g}]"
        for c, low, high, arm_low, arm_high in rows
        if max(low, arm_low) > min(high, arm_high)
    ]
    return _claim("start range", "; ".join(apart) or "bundle and arm have start positions in common", len(apart))
