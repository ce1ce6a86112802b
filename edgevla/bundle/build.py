"""A policy bundle becomes a release for one kind of robot: profiles, wheels, units, SBOM and the provisioning script.

From the same bundle, profiles, wheels and edgevla come the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.bundle.locks import FOLDER as LOCKS
from edgevla.bundle.own_wheel import build_own_wheel
from edgevla.bundle.payload import Payload, Say, collect, groups_of
from edgevla.bundle.platforms import Platform, platform_of
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.bundle.release import add_release
from edgevla.bundle.sbom import FILE as SBOM
from edgevla.bundle.sbom import sbom_bytes
from edgevla.bundle.wheels import Wheel, read_wheel
from edgevla.bundle.writer import require_replaceable
from edgevla.check.compatible import compatibility
from edgevla.control.timing import evaluate, require
from edgevla.errors import BadInput, Usage, explain
from edgevla.install import provision
from edgevla.install.units import render
from edgevla.policy.blend import blend_ticks_of
from edgevla.trust import archive
from edgevla.trust.envelope import MAX_COUNTER, release_id
from edgevla.trust.keys import PrivateKey
from edgevla.trust.signing import sign_folder
from edgevla.trust.store import parse_store
from profiles.model import ArmProfile, Target
from profiles.toml_text import arm_toml, target_toml

WHEELS, UNITS = "runtime/wheels", "runtime/units"
PROVISION, TRUST = "runtime/provision.py", "trust/trust.json"
FOLDER_SUFFIX = ".bundle"


@dataclass(frozen=True)
class Recipe:
    """What a release is built from."""

    source: Path  # policy bundle, a folder NAME.bundle
    target: Target
    arm: ArmProfile
    counter: int  # >= 1, never below the last one that the robots had
    wheels: Path | None  # a folder with every wheel: no network; None: cache and package index
    cache: Path
    trust: Path | None = None  # a trust update that the robots take over once the release is good
    opencv: bool = True  # V4L2 cameras; those of GStreamer and CSI do without its 40 to 60 MB
    locks: Path = LOCKS


@dataclass(frozen=True)
class Built:
    """What was written."""

    path: Path
    id: str
    signed_by: str | None  # id of the key
    bytes: int  # of the folder's files, or of the archive
    bytes_unpacked: int
    wheels: tuple[Wheel, ...]
    agent_wheels: tuple[Wheel, ...]


def build(recipe: Recipe, output: Path, key: PrivateKey | None, say: Say = lambda _: None) -> Built:
    """Write the release to `output`, NAME.tar.zst or NAME.bundle, signed if there is a key.

    Raises Usage, BadInput, Refused (a claim cannot hold, a wheel is missing), DeviceFault (the index does not answer);
    then nothing at `output` has changed.
    """
    _require_output(output)
    if not 1 <= recipe.counter <= MAX_COUNTER:
        expected, todo = f"a whole number in [1, {MAX_COUNTER}]", "count releases up from 1"
        raise Usage(explain("--counter cannot be used", expected, recipe.counter, todo))
    policy = open_bundle(recipe.source)
    _require_claims(policy, recipe)
    platform = platform_of(recipe.target)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=output.absolute().parent) as folder:
        own = _own_wheel(Path(folder))
        groups = groups_of(recipe.arm.protocol, policy.words, recipe.opencv)
        gpu = recipe.target.gpu_wheel
        payload = collect(platform, groups, own, recipe.wheels, recipe.cache, gpu, say, recipe.locks)
        say(f"{len(payload.wheels)} wheels; writing the release")
        dest = output if output.suffix == FOLDER_SUFFIX else Path(folder) / f"release{FOLDER_SUFFIX}"
        files = _files(recipe, policy, platform, payload)
        release = add_release(recipe.source, dest, _table(recipe, platform, payload), files, recipe.arm.name)
        if key is not None:
            sign_folder(dest, key)
        if dest != output:
            say("packing")
            archive.pack(dest, output)
    size = release.total_bytes()
    return Built(
        path=output,
        id=release_id(release.head.manifest),
        signed_by=key.public.id if key else None,
        bytes=output.stat().st_size if output.is_file() else size,
        bytes_unpacked=size,
        wheels=payload.wheels,
        agent_wheels=payload.agent,
    )


def _require_output(output: Path) -> None:
    """Before any work is spent on it. Raises Usage, BadInput."""
    if not output.absolute().parent.is_dir():
        todo = f"`mkdir -p {output.parent}`"
        raise Usage(explain(f"{output} cannot be written", "a folder to write into", "no such folder", todo))
    if output.name.endswith(archive.SUFFIX) and output.name != archive.SUFFIX:
        if output.is_dir():
            raise Usage(explain(f"{output} is in the way", "no folder of that name", "a folder", "rename -o"))
        return
    if output.suffix != FOLDER_SUFFIX:
        expected = f"NAME{archive.SUFFIX}, or a folder NAME{FOLDER_SUFFIX}"
        raise Usage(explain("a release needs its ending", expected, output.name, "rename -o"))
    require_replaceable(output)


def _require_claims(policy: Bundle, recipe: Recipe) -> None:
    """What arithmetic alone refuses is never sent to a robot; what must be measured is measured there."""
    manifest = policy.manifest
    timing = evaluate(
        manifest.timing, recipe.target, recipe.arm, None, manifest.cameras, True, blend_ticks_of(manifest)
    )  # whether an arm without a watchdog is accepted is asked where it runs
    require([*compatibility(manifest, recipe.target, recipe.arm), *timing])


def _own_wheel(folder: Path) -> Wheel:
    name, raw = build_own_wheel()
    (folder / name).write_bytes(raw)
    return read_wheel(folder / name)


def _table(recipe: Recipe, platform: Platform, payload: Payload) -> dict[str, Any]:
    """The table `release` of the manifest."""
    return {
        "counter": recipe.counter,
        "target": recipe.target.name,
        "arch": platform.arch,
        "python": platform.python,
        "wheels": _paths(payload.wheels),
        "agent_wheels": _paths(payload.agent),
        "needs_gpu_wheel": recipe.target.gpu_wheel is not None,
    }


def _files(recipe: Recipe, policy: Bundle, platform: Platform, payload: Payload) -> Mapping[str, bytes | Path]:
    """What a release has beside the policy."""
    units = render(recipe.target, recipe.arm)
    return {
        "profiles/target.toml": target_toml(recipe.target),
        "profiles/arm.toml": arm_toml(recipe.arm),
        **{f"{WHEELS}/{wheel.file}": wheel.path for wheel in payload.wheels},
        **{f"{UNITS}/{name}": content for name, content in units.items()},
        PROVISION: Path(provision.__file__).read_bytes(),
        SBOM: sbom_bytes(
            policy.manifest.name, recipe.counter, platform, payload.wheels, payload.off_index, policy.manifest.files
        ),
        **_trust(recipe.trust),
    }


def _trust(path: Path | None) -> dict[str, bytes]:
    """A trust update, judged as the robot will. Raises BadInput."""
    if path is None:
        return {}
    raw = path.read_bytes()
    store = parse_store(raw, str(path))
    if store.serial < 2:
        todo = "`edgevla bundle trust FILE --add KEY.pub` or --revoke writes the next one"
        raise BadInput(
            explain(f"{path} is no update", "a serial above 1, that of the provisioning", store.serial, todo)
        )
    return {TRUST: store.to_bytes()}


def _paths(wheels: Sequence[Wheel]) -> list[str]:
    return [f"{WHEELS}/{wheel.file}" for wheel in wheels]
