"""The release on this computer: which one is meant, whole and signed, and where its bytes can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgevla.errors import BadInput, Refused, explain
from edgevla.trust.archive import SUFFIX, read_envelope, unpack, unsigned
from edgevla.trust.envelope import MANIFEST, Envelope, Release, parse_envelope
from edgevla.trust.folder import Head, check_folder, read_head
from edgevla.trust.keys import PublicKey, load_public
from edgevla.trust.policies import not_a_release, release_meant
from edgevla.trust.store import pinned

_BUILD = "edgevla bundle build out/student.bundle --target NAME --arm ARM --counter N --key release.key"


@dataclass(frozen=True)
class LocalRelease:
    """A bundle's folder of which every hash was found right."""

    source: Path  # what was named: the archive or folder
    folder: Path
    head: Head
    envelope: Envelope
    release: Release
    key: PublicKey | None  # that signed it, where it is known here


def choose(path: Path, targets: Sequence[str]) -> Path:
    """`path` where it is an archive or a bundle; of a folder of them, the highest counter for one of `targets`.

    Raises BadInput where there is none, or two with that counter.
    """
    require_there(path)
    if path.is_file() or (path / MANIFEST).exists():
        return path
    releases = [(release, one) for one in _bundles(path) if (release := _release_of(one)) is not None]
    found = [(release.counter, one) for release, one in releases if release.target in targets]
    best = [one for counter, one in found if counter == max(found)[0]]
    if len(best) != 1:
        expected = f"one release for {' or '.join(targets)} with the highest counter"
        got = f"{len(best)}: {', '.join(one.name for one in best)}" if best else "none"
        raise BadInput(explain(f"{path}: which bundle is meant?", expected, got, f"name one, or: {_BUILD}"))
    return best[0]


def require_there(path: Path) -> None:
    """Raises BadInput; what was typed may be a command, misspelt."""
    if not path.exists():
        todo = f"{_BUILD}; commands: edgevla deploy --help"
        raise BadInput(explain(f"{path} is not there", f"NAME{SUFFIX} or NAME.bundle", "nothing", todo))


def target_of(path: Path) -> str:
    """The target that an archive or bundle was built for, '' where it cannot be read or is a folder of bundles.

    Raises BadInput for a policy bundle.
    """
    if not (path.is_file() or (path / MANIFEST).is_file()):
        return ""
    try:
        envelope = _envelope_of(path)
    except (BadInput, OSError):  # said when it is opened
        return ""
    if envelope.release is None:
        raise BadInput(not_a_release(path.name, signed=True))  # or not: nothing but its building would help
    return envelope.release.target


@contextmanager
def open_release(source: Path, key: Path | None) -> Iterator[LocalRelease]:
    """The release in `source`; an archive is unpacked into a folder that is gone afterwards.

    key: public key file; the bundle must be signed by its owner. Raises BadInput (damaged, unsigned, other key),
    also of a policy bundle that was not built for a robot.
    """
    public = load_public(key) if key else None
    check = release_meant(pinned([public]).check if public else unsigned)
    if source.is_dir():
        head = read_head(source)
        envelope = check(head.manifest, head.signature)
        check_folder(source, envelope.files)
        yield _release(source, source, head, envelope, public)
        return
    with TemporaryDirectory(prefix="edgevla-deploy-") as folder:
        dest = Path(folder, "release.bundle")
        envelope = unpack(source, dest, check)
        yield _release(source, dest, read_head(dest), envelope, public)


def require_target(local: LocalRelease, targets: Sequence[str]) -> None:
    """The release was built for the target that was named, or for a module of that family. Raises Refused."""
    if local.release.target not in targets:
        todo = f"edgevla deploy {local.source} --target {local.release.target}, or build one for {targets[0]}"
        what = f"{local.source.name} is for another target"
        raise Refused(explain(what, " or ".join(targets), local.release.target, todo))


def _release(source: Path, folder: Path, head: Head, envelope: Envelope, key: PublicKey | None) -> LocalRelease:
    if envelope.release is None:
        raise BadInput(not_a_release(source.name, head.signature is not None))
    if head.signature is None:
        todo = f"edgevla bundle sign {source} --key release.key"
        raise BadInput(explain(f"{source.name} is not signed; no robot takes it", "manifest.sig", "none", todo))
    return LocalRelease(source, folder, head, envelope, envelope.release, key)


def _bundles(folder: Path) -> list[Path]:
    return sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob("*.bundle")])


def _release_of(path: Path) -> Release | None:
    """None where it is no bundle for a robot: another one may be meant."""
    try:
        return _envelope_of(path).release
    except (BadInput, OSError):
        return None


def _envelope_of(path: Path) -> Envelope:
    return parse_envelope(read_head(path).manifest) if path.is_dir() else read_envelope(path, unsigned)
