"""The installer without a workstation: a signed archive or folder, verified with the pinned key before anything in it
is used."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from edgevla.install.admission import bytes_to_come, judge, require_space
from edgevla.install.durable import discard_folder, make_folders, move_folder, sync_disk
from edgevla.install.job import Job, follow, start_job
from edgevla.install.layout import Layout
from edgevla.install.lock import InstallLock
from edgevla.install.staging import write_head
from edgevla.install.unpack import is_installed
from edgevla.trust.envelope import MANIFEST, Envelope
from edgevla.trust.folder import check_folder, read_head

_INCOMING = ".incoming"


def install_archive(
    layout: Layout,
    source: Path,
    options: Mapping[str, Any],
    lock: InstallLock,
    say: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Install NAME.tar.zst or a folder; returns the outcome. Raises BadInput, Refused, OSError."""
    incoming = layout.staging / _INCOMING
    discard_folder(incoming, layout.waste)
    try:
        envelope = _taken_in(layout, source, incoming)
    except BaseException:
        discard_folder(incoming, layout.waste)
        raise
    if is_installed(layout, envelope.id):
        discard_folder(incoming, layout.waste)
    else:
        staged = layout.staged(envelope.id)
        discard_folder(staged, layout.waste)
        make_folders(staged / "release")
        sync_disk(layout.staging)
        move_folder(incoming, staged / "release" / "bundle")
    return done_apart(layout, Job.of("install", {"id": envelope.id, "options": options}), lock, say)


def done_apart(layout: Layout, job: Job, lock: InstallLock, say: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Run a job in a process of its own and say its steps; returns the outcome. Raises DeviceFault, OSError."""
    return follow(layout, start_job(layout, job, lock), say)


def print_event(line: Mapping[str, Any]) -> None:
    """One step, for a person."""
    if not line.get("done"):
        failed = "failed: " if line.get("failed") else ""
        print(f"{line['step']:2}/{line['of']} {line['name']}: {failed}{line['text']}", file=sys.stderr, flush=True)


def _taken_in(layout: Layout, source: Path, dest: Path) -> Envelope:
    """The bundle's files in `dest`, verified. Raises BadInput, Refused, OSError."""

    def check(manifest: bytes, signature: bytes | None) -> Envelope:
        envelope = judge(layout, manifest, signature)
        require_space(layout.staging, bytes_to_come(envelope), len(envelope.files))
        return envelope

    if source.is_dir():
        return _copied(source, dest, check)
    if not source.is_file():
        todo = "check the path"
        raise BadInput(explain(f"{source} is not there", "NAME.tar.zst, or a folder NAME.bundle", "nothing", todo))
    from edgevla.trust.archive import unpack  # zstandard, which nothing else needs

    return unpack(source, dest, check)


def _copied(source: Path, dest: Path, check: Callable[[bytes, bytes | None], Envelope]) -> Envelope:
    """From a folder: copied first, then verified where nobody else writes."""
    root = source / f"{source.name}.bundle" if not (source / MANIFEST).exists() else source
    head = read_head(root)
    envelope = check(head.manifest, head.signature)
    check_folder(root, envelope.files)  # bounded, plain files only: before a byte of them is copied
    write_head(dest, head.manifest, head.signature)
    for name in sorted(envelope.files):
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, dest / name, follow_symlinks=False)
    check_folder(dest, envelope.files)
    return envelope
