"""From verified files in staging to a release folder: it appears whole, by one rename, after everything is synced."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, Refused, explain
from edgevla.install.admission import judge, require_space, require_update
from edgevla.install.durable import discard_folder, move_folder, sync_disk, write_file
from edgevla.install.layout import Layout, linked_id
from edgevla.install.select import is_whole
from edgevla.install.staging import discard_staged
from edgevla.install.venv import bytes_needed, check_venv, make_venv, this_interpreter
from edgevla.trust.envelope import TRUST_FILE, Envelope, parse_envelope
from edgevla.trust.folder import check_folder, read_file, read_head


def bundle_of(layout: Layout, release_id: str) -> Path:
    """The bundle of an unpacked release, else the one in staging. Raises BadInput when there is neither."""
    unpacked, staged = layout.release(release_id) / "bundle", layout.staged(release_id) / "release" / "bundle"
    for folder in (unpacked, staged):
        if folder.is_dir():
            return folder
    todo = "deploy again: the files come first"
    raise BadInput(explain(f"release {release_id} is not here", "its files, complete", "nothing in staging", todo))


def verify_bundle(layout: Layout, release_id: str) -> Envelope:
    """Signature, trust, machine, counter, every file of it, and its trust update. Raises BadInput, Refused."""
    folder = bundle_of(layout, release_id)
    head = read_head(folder)
    envelope = judge(layout, head.manifest, head.signature)
    if envelope.id != release_id:
        raise BadInput(explain(f"{folder} holds another release", release_id, envelope.id, "deploy again"))
    check_folder(folder, envelope.files)
    if TRUST_FILE in envelope.files:
        require_update(layout, envelope, read_file(folder, TRUST_FILE, envelope.files[TRUST_FILE]))
    return envelope


def check_release(layout: Layout, release_id: str) -> None:
    """Every file of an installed release is as it was unpacked. No trust is asked. Raises BadInput naming the first
    that is not."""
    release = layout.release(release_id)
    if not is_whole(layout, release_id):
        todo = "deploy it again"
        raise BadInput(explain(f"release {release_id} is not whole", "bundle and venv", "not both", todo))
    envelope = parse_envelope(read_head(release / "bundle").manifest)
    check_folder(release / "bundle", envelope.files)
    check_venv(release / "venv", wheels_of(release / "bundle", envelope), this_interpreter())


def is_installed(layout: Layout, release_id: str) -> bool:
    """Unpacked here, and undamaged. A damaged one is removed, to come again; it was good, so its counter stays allowed.

    Raises Refused (it runs), OSError.
    """
    if not layout.release(release_id).is_dir():
        return False
    try:
        check_release(layout, release_id)
    except BadInput as error:
        if linked_id(layout.current) == release_id:
            todo = "roll back, then deploy it again"
            raise Refused(explain("the release that runs is damaged", "what was installed", error, todo)) from error
        discard_folder(layout.release(release_id), layout.waste)
        return False
    return True


def wheels_of(bundle: Path, envelope: Envelope) -> list[Path]:
    """In the order in which they are installed."""
    return [bundle / path for path in envelope.release.wheels] if envelope.release else []


def unpack_release(layout: Layout, envelope: Envelope) -> dict[str, Any]:
    """Make releases/ID from staging; one that is there is checked. Returns figures. Raises BadInput, OSError."""
    release = layout.release(envelope.id)
    if release.is_dir():
        check_release(layout, envelope.id)
        return {"already_there": True}
    staged, python = layout.staged(envelope.id) / "release", this_interpreter()
    wheels = wheels_of(staged / "bundle", envelope)
    discard_folder(staged / "venv", layout.waste)
    require_space(layout.staging, *bytes_needed(wheels, python))
    try:
        files = make_venv(staged / "venv", wheels, python, release / "venv")
    except (OSError, BadInput):
        shutil.rmtree(staged / "venv", ignore_errors=True)  # the bundle stays: the next try begins here
        raise
    sync_disk(layout.staging)
    _keep_index(layout, envelope.id)
    move_folder(staged, release)
    discard_staged(layout, envelope.id)
    return {"wheels": len(wheels), "files": files}


def _keep_index(layout: Layout, release_id: str) -> None:
    """So that the next release can take its chunks from this one."""
    index = layout.staged(release_id) / "index.json"
    if index.is_file():
        write_file(layout.chunk_index(release_id), index.read_bytes())
