"""The wheels a robot gets: every one locked, judged for its Python, architecture and C library, and none missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevla.bundle.download import download
from edgevla.bundle.locks import AGENT_ROOTS, NOT_NEEDED, Pin, load_lock
from edgevla.bundle.locks import FOLDER as LOCKS
from edgevla.bundle.parts import KnownTokens, KnownWords
from edgevla.bundle.platforms import Platform
from edgevla.bundle.wheels import Wheel, best_of, closure, read_wheel, require_runs, sha256_of
from edgevla.errors import BadInput, Refused, explain
from firmware_bridge.protocols import KINDS
from profiles.model import GpuWheel

Say = Callable[[str], None]


@dataclass(frozen=True)
class Payload:
    """Wheels in install order, and those of them that the installer itself needs."""

    wheels: tuple[Wheel, ...]
    agent: tuple[Wheel, ...]
    off_index: frozenset[str] = frozenset()  # names of those that are on no package index


def groups_of(protocol: str, words: KnownWords | KnownTokens, opencv: bool) -> tuple[str, ...]:
    """Groups of the lock beside 'base' that this arm and policy use."""
    tokens = isinstance(words, KnownTokens) and words.tokenizer is not None
    wanted = {"can": KINDS[protocol] == "can", "camera": opencv, "tokenizer": tokens}
    return tuple(group for group, use in wanted.items() if use)


def collect(
    platform: Platform,
    groups: Iterable[str],
    own: Wheel,
    folder: Path | None,
    cache: Path,
    gpu: GpuWheel | None = None,
    say: Say = lambda _: None,
    locks: Path = LOCKS,
) -> Payload:
    """The payload for `platform`: our own wheel last, every other from `folder`, or from `cache` and the index.

    Raises Refused for a wheel that `folder` lacks or that a person has to put there, BadInput for an altered one,
    DeviceFault where the index does not answer.
    """
    pins = load_lock(platform.cp, groups, locks)
    vendor = [] if gpu is None else [find_gpu_wheel(gpu, platform)]
    if gpu is not None:
        pins.pop(gpu.replaces, None)
    found = _from_folder(pins, platform, folder) if folder else _from_cache(pins, platform, cache, say)
    others = sorted([*found, *vendor], key=lambda wheel: wheel.name)
    require_closed([*others, own], platform, gpu)
    return Payload((*others, own), agent_wheels([*others, own], platform), frozenset(wheel.name for wheel in vendor))


def find_gpu_wheel(gpu: GpuWheel, platform: Platform) -> Wheel:
    """The wheel that is on no index, from where its profile says. Raises Refused with that sentence."""
    found = sorted(Path(gpu.folder).glob(gpu.file))
    if len(found) != 1:
        got = ", ".join(path.name for path in found) or "none"
        todo = f"get it from {gpu.source} and put it into {gpu.folder}; the CPU wheel is not taken in its place"
        raise Refused(
            explain(f"this target runs {gpu.replaces} of its maker", f"one {gpu.folder}/{gpu.file}", got, todo)
        )
    wheel = read_wheel(found[0])
    require_runs(wheel, platform, vendor=True)
    return wheel


def require_closed(wheels: Iterable[Wheel], platform: Platform, gpu: GpuWheel | None = None) -> None:
    """Raises BadInput unless each wheel finds all that it asks for among them; a robot cannot fetch the rest."""
    requires = {wheel.name: wheel.requires for wheel in wheels}
    if gpu is not None:
        requires.setdefault(gpu.replaces, ())  # the maker's wheel brings it under another name
    _, missing = closure(requires, requires, platform, NOT_NEEDED)
    if missing:
        got = ", ".join(f"{name} (for {asker})" for name, asker in sorted(missing.items()))
        todo = "write the locks again with scripts/lock_robot.py"
        raise BadInput(explain("wheels are missing from the payload", "all that its wheels ask for", got, todo))


def agent_wheels(wheels: Iterable[Wheel], platform: Platform) -> tuple[Wheel, ...]:
    """What the installer needs of them, in the same order: edgevla itself, and signatures and archives."""
    listed = list(wheels)
    requires = {wheel.name: wheel.requires for wheel in listed}
    names, _ = closure([root for root in AGENT_ROOTS if root in requires], requires, platform, NOT_NEEDED)
    return tuple(wheel for wheel in listed if wheel.name in names or wheel.name == "edgevla")


def _from_folder(pins: Mapping[str, Pin], platform: Platform, folder: Path) -> list[Wheel]:
    """Everything from one folder, without a network."""
    if not folder.is_dir():
        raise Refused(explain(f"--wheels {folder}", "a folder with wheels", "no such folder", "check the path"))
    found, missing = _look(pins, platform, folder)
    if missing:
        names = ", ".join(f"{pin.name}-{pin.version}" for pin in missing)
        todo = "call once without --wheels where there is a network, and copy the cache folder from there"
        where = f"for Python {platform.python} on {platform.arch}"
        raise Refused(
            explain(f"{folder} lacks wheels {where}", f"all {len(pins)} of the lock", f"none of {names}", todo)
        )
    return found


def _from_cache(pins: Mapping[str, Pin], platform: Platform, cache: Path, say: Say) -> list[Wheel]:
    """What the cache has; the rest is fetched into it."""
    found, missing = _look(pins, platform, cache, strict=False)
    if missing:
        say(f"fetching {len(missing)} of {len(pins)} wheels for Python {platform.python} on {platform.arch}")
        download(missing, platform, cache)
        found, missing = _look(pins, platform, cache)
    if missing:
        got = ", ".join(f"{pin.name}-{pin.version}" for pin in missing)
        raise BadInput(explain("pip fetched other wheels than asked for", "those of the lock", got, f"empty {cache}"))
    return found


def _look(
    pins: Mapping[str, Pin], platform: Platform, folder: Path, strict: bool = True
) -> tuple[list[Wheel], list[Pin]]:
    """(the wheel of each pin that is in `folder` and is what the lock says, pins without one).

    strict: a wheel of the right name with another hash is refused; else it counts as missing.
    """
    by_name = _by_name(pins.values(), folder)
    found, missing = [], []
    for name, pin in pins.items():
        paths = by_name.get((name, pin.version), [])
        right = [path for path in paths if sha256_of(path) in pin.hashes]
        wheel = best_of([read_wheel(path) for path in right], platform)
        if wheel is not None:
            require_runs(wheel, platform)
            found.append(wheel)
            continue
        if strict:
            _judge_others([read_wheel(path) for path in paths if path not in right], platform)
        missing.append(pin)
    return found, missing


def _by_name(pins: Iterable[Pin], folder: Path) -> dict[tuple[str, str], list[Path]]:
    """(name, version) -> files that claim to be it. Only the names are read: a cache may be large."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    wanted = {(pin.name, pin.version) for pin in pins}
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        if (name, str(version)) in wanted and path.is_file():
            found.setdefault((name, str(version)), []).append(path)
    return found


def _judge_others(wheels: Iterable[Wheel], platform: Platform) -> None:
    """A wheel with another hash: for another computer it is only of no use, for this one it is not the locked one."""
    for wheel in wheels:
        if wheel.tags & platform.ranks.keys():
            todo = "remove it, and fetch the wheel again"
            raise BadInput(
                explain(f"{wheel.path} is not the wheel of the lock", "a sha256 of the lock", wheel.sha256, todo)
            )
