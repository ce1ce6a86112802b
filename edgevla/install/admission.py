"""Whether a release may be installed here at all: signed by a pinned key, for this machine, not older than allowed.

Judged from manifest.json and manifest.sig alone, before another byte of the bundle is taken. No clock.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import BadInput, Refused, explain
from edgevla.install.layout import Layout
from edgevla.install.state import State, read_state
from edgevla.install.venv import this_interpreter
from edgevla.trust.envelope import TRUST_FILE, Envelope, Release
from edgevla.trust.store import MAX_STORE_BYTES, TrustStore, parse_store

SPARE_BYTES = 8 * 1024 * 1024  # that stay free, whatever is installed
_UNPACKED_PER_WHEEL_BYTE = 5  # numpy and ONNX Runtime unpack to 4 times their wheels, compiled Python included


@dataclass(frozen=True)
class Machine:
    """What a release must be made for."""

    arch: str  # as `uname -m` says it
    python: str  # "3.10"


def this_machine() -> Machine:
    return Machine(platform.machine(), this_interpreter().short)


def load_trust(layout: Layout) -> TrustStore:
    """The pinned keys. Raises BadInput: nothing is pinned yet, or trust.json cannot be read."""
    try:
        with layout.trust.open("rb") as file:
            raw = file.read(MAX_STORE_BYTES + 1)
    except FileNotFoundError:
        todo = "provision this robot first, see docs/deploy.md"
        raise BadInput(explain("this robot trusts no key yet", str(layout.trust), "no such file", todo)) from None
    except OSError as error:
        todo = "use the installer's user, or correct the permissions"
        raise BadInput(explain(f"{layout.trust} cannot be read", "the pinned keys", error.strerror, todo)) from error
    try:
        return parse_store(raw, str(layout.trust))
    except BadInput as error:
        todo = "put the trust.json that your releases brought there; or remove it and provision this robot again"
        got, what = str(error).splitlines()[0], f"{layout.trust} is damaged: no release can be judged"
        raise BadInput(explain(what, "the keys that this robot trusts", got, todo)) from error


def judge(layout: Layout, manifest: bytes, signature: bytes | None) -> Envelope:
    """The envelope of a release that may be installed here. Raises BadInput (trust, form), Refused (machine, age)."""
    envelope = load_trust(layout).check(manifest, signature)
    admit(envelope, read_state(layout), this_machine())
    return envelope


def require_update(layout: Layout, envelope: Envelope, update: bytes) -> None:
    """The trust update of a release can be taken over here once it is good. Raises BadInput, where it never could.

    One that was good here comes again with an update that is older by now: it stays without effect.
    """
    entry = envelope.files.get(TRUST_FILE)
    if entry is None or entry.sha256 != hashlib.sha256(update).hexdigest():
        got, todo = f"another {TRUST_FILE} than it lists", "get the bundle again from where it was made"
        raise BadInput(explain(f"{envelope.name}: the bundle is damaged or altered", "its own files", got, todo))
    if envelope.id not in read_state(layout).good:
        load_trust(layout).updated(parse_store(update, TRUST_FILE))


def admit(envelope: Envelope, state: State, machine: Machine) -> Release:
    """Pure: machine and age of a release whose signature was judged. Raises BadInput, Refused."""
    release = envelope.release
    if release is None:
        todo = "make one with `edgevla bundle build`"
        raise BadInput(explain(f"{envelope.name} is no release", "a bundle built for a robot", "a policy alone", todo))
    made_for = Machine(release.arch, release.python)
    if made_for != machine:
        what, todo = f"{envelope.name} was built for another machine", "build it with --target of this robot"
        expected, got = (f"{m.arch} with Python {m.python}" for m in (machine, made_for))
        raise Refused(explain(what, expected, got, todo))
    _require_counter(envelope, release.counter, state)
    return release


def _require_counter(envelope: Envelope, counter: int, state: State) -> None:
    """A release that was good here may come again; a new one needs a counter that was never good here."""
    if envelope.id in state.good or counter > state.counter_floor:
        return
    older = counter < state.counter_floor
    what = (
        f"{envelope.name} is {'older than' if older else 'another release with the counter of'} one that was good here"
    )
    todo = "build it with a higher --counter; or `edgevla deploy rollback` to a release that is installed"
    raise Refused(explain(what, f"a release counter above {state.counter_floor}", counter, todo))


def bytes_to_come(envelope: Envelope) -> int:
    """Upper estimate of the disk that staging and release take, before the wheels can be looked into."""
    wheels = envelope.release.wheels if envelope.release else ()
    return envelope.total_bytes + _UNPACKED_PER_WHEEL_BYTE * sum(envelope.files[path].bytes for path in wheels)


def require_space(folder: Path, needed_bytes: int, files: int = 0) -> None:
    """Raises BadInput when the disk of `folder` has no room for that many bytes and files more."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    todo = "free space on the robot: `edgevla deploy gc --keep 1`"
    if free < needed_bytes + SPARE_BYTES:
        expected = f"{_megabytes(needed_bytes + SPARE_BYTES)} free at {folder}"
        raise BadInput(explain("the robot's disk has not enough room", expected, _megabytes(free), todo))
    if disk.f_files and disk.f_favail < files:
        expected = f"{files} free inodes at {folder}"
        raise BadInput(explain("the robot's disk has no room for that many files", expected, disk.f_favail, todo))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
