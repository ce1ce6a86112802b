"""The installer's own files on the robot: its unpacked wheels, its launcher, and the first trusted key.

Used by `runtime/provision.py` from inside the wheel, and where a release brings a newer installer. Standard library.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import json
import os
import py_compile
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edgevla.errors import Refused, explain
from edgevla.install.durable import fsync_folder, make_folders, open_lock, replace_link, sync_disk, write_file
from edgevla.install.layout import Layout
from edgevla.install.wheel import Wheel

_SITE = PurePosixPath("site")  # where a wheel's modules would lie in an environment; here they lie at the top
_LAUNCHER = """#!/bin/sh
# Written by edgevla. Isolated, and with the installer that agent/current names when it starts.
self=$(readlink -f "$0") || exit 70
prefix=$(cd "${{self%/*}}/.." && pwd -P) || exit 70
agent=$(readlink -f "$prefix/agent/current") || exit 70
exec {python} -I -B -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = "edgevla-agent"
from edgevla.install.agent import main
sys.exit(main())' "$agent" --prefix "$prefix" "$@"
"""


def provision(prefix: Path, release_id: str, wheels: Sequence[Path], key_id: str, key_pem: str) -> None:
    """Installer, launcher and trust below `prefix`; trust.json comes last, without it a robot is not provisioned.

    Nothing is changed where that key is pinned already. Raises Refused: other keys are pinned, an installer is at
    work. Raises BadInput for a wheel that cannot be unpacked, OSError; then what was made is removed again.
    """
    layout = Layout(prefix.absolute())
    with _undone_on_error(layout, release_id):
        for folder in (layout.agents, layout.launcher.parent, layout.trust.parent):
            make_folders(folder)
        with _locked(layout.lock):
            if _provisioned(layout, key_id):
                print(f"{prefix} is provisioned already, with this key; nothing was changed")
                return
            place_agent(layout, release_id, wheels)
            write_file(layout.launcher, launcher(), 0o755)
            replace_link(layout.agent, release_id)
            write_file(layout.trust, first_trust(key_id, key_pem))
    print(f"{prefix} is provisioned: it trusts {key_id} and has the installer of {release_id}")


def place_agent(layout: Layout, release_id: str, wheels: Sequence[Path]) -> Path:
    """agent/ID with the wheels unpacked and compiled, by one rename; one that is there already stays.

    Raises BadInput, OSError.
    """
    dest = layout.agents / release_id
    beside = layout.agents / f".{release_id}.new"
    shutil.rmtree(beside, ignore_errors=True)  # of a power cut
    if dest.is_dir():
        return dest
    beside.mkdir()
    try:
        for wheel in wheels:
            unpack_wheel(wheel, beside)
        _compile(beside, dest)
        sync_disk(beside)
        beside.rename(dest)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    fsync_folder(layout.agents)
    return dest


def unpack_wheel(path: Path, dest: Path) -> None:
    """The modules of a wheel, each as its RECORD says; scripts, headers and data are left out.

    Raises BadInput, OSError.
    """
    with Wheel(path, _SITE) as wheel:
        for file in wheel.files:
            if file.dest.is_relative_to(_SITE):
                place = dest / file.dest.relative_to(_SITE)
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as new:
                    new.write(wheel.read(file))
                place.chmod(0o755 if file.executable else 0o644)


def _compile(folder: Path, final: Path) -> None:
    """Once and here: the installer runs with -B, so that nothing half-written is ever imported."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    prefix, sys.pycache_prefix = sys.pycache_prefix, None
    try:
        compileall.compile_dir(
            str(folder), maxlevels=64, quiet=2, stripdir=str(folder), prependdir=str(final), invalidation_mode=mode
        )
    finally:
        sys.pycache_prefix = prefix


def launcher() -> bytes:
    """bin/edgevla-agent: on the Python that runs this, whatever `agent/current` names later."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return _LAUNCHER.format(python=shlex.quote(python)).encode()


def first_trust(key_id: str, key_pem: str) -> bytes:
    """trust.json with one key, as `edgevla.trust.store` writes it; that module needs no robot to be provisioned yet."""
    value = {"schema": "edgevla.trust/1", "serial": 1, "keys": {key_id: key_pem}, "revoked": []}
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def _provisioned(layout: Layout, key_id: str) -> bool:
    """Whether nothing is left to do. Raises Refused where other keys are pinned."""
    if not layout.trust.exists():
        return False
    try:
        store = json.loads(layout.trust.read_bytes())
        known = key_id in store["keys"] and key_id not in store["revoked"]
    except (ValueError, KeyError, TypeError):
        raise Refused(explain(f"{layout.trust} is damaged", "a trust store", "something else", "remove it")) from None
    if not known:
        todo = "a robot gets another key by a release with a trust update: `edgevla bundle build --trust`"
        got = f"others: {', '.join(store['keys'])}"
        raise Refused(explain(f"{layout.prefix} is provisioned with other keys", key_id, got, todo))
    return (layout.agent / "edgevla").is_dir() and layout.launcher.is_file()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The installer's own lock. Raises Refused while another holds it."""
    handle = open_lock(path)
    with os.fdopen(handle, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            got, todo = "another installer at work", "try again when it has ended"
            raise Refused(explain(f"{path.parent} is in use", "one installer at a time", got, todo)) from None
        yield


@contextlib.contextmanager
def _undone_on_error(layout: Layout, release_id: str) -> Iterator[None]:
    """What the block has made anew is removed again when it fails, the newest first."""
    agent = layout.agents / release_id
    files = (layout.lock, layout.launcher, layout.agent, layout.trust)
    folders = (
        *reversed(layout.prefix.parents),
        layout.prefix,
        layout.agents,
        agent,
        layout.launcher.parent,
        layout.trust.parent,
    )
    new_files = [path for path in files if not os.path.lexists(path)]
    new_folders = [path for path in folders if not path.exists()]
    try:
        yield
    except BaseException:
        for path in reversed(new_files):
            path.unlink(missing_ok=True)
        if agent in new_folders:
            shutil.rmtree(agent, ignore_errors=True)
        for path in reversed(new_folders):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
