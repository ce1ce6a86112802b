"""Changes of the disk that are there whole after a power cut, or not at all. Standard library only.

Order everywhere: write beside, fsync the file, rename, fsync the folder. A folder appears by one rename after
everything in it was synced, and vanishes by one rename before anything in it is deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from pathlib import Path

BESIDE = ".new"  # ending of what is written beside its place; a leftover of a power cut, never read


def fsync_folder(folder: Path) -> None:
    """Names in that folder are on the disk when this returns. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_disk(folder: Path) -> None:
    """All that was written to the file system of `folder` is on the disk: syncfs(2), one call for thousands of files.

    Raises OSError, also for an earlier write that failed on its way to the disk.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Like mkdir -p, each new name synced. Raises OSError."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def open_lock(path: Path) -> int:
    """A descriptor of that lock file, which its owner alone may open: whoever can open it can hold it for ever.

    One that was made by hand with another mode is corrected. Raises OSError.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with contextlib.suppress(PermissionError):  # another's file that we may use: its owner's to correct
        os.fchmod(handle, 0o600)
    return handle


def write_file(path: Path, raw: bytes, mode: int = 0o644) -> None:
    """Replace `path` by a file of these bytes. Raises OSError, and then the old one stands."""
    beside = path.with_name(f".{path.name}{BESIDE}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    fsync_folder(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Let the symbolic link say `target`. At no moment is it missing. Raises OSError."""
    beside = link.with_name(f".{link.name}{BESIDE}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    fsync_folder(link.parent)  # a link cannot be synced itself: its name and text are on the disk before it counts
    beside.rename(link)
    fsync_folder(link.parent)


def remove_name(path: Path) -> None:
    """Remove a file or a link; nothing there is fine. Raises OSError."""
    if os.path.lexists(path):
        path.unlink(missing_ok=True)
        fsync_folder(path.parent)


def move_folder(source: Path, dest: Path) -> None:
    """Rename a folder whose content is synced already. Raises OSError; a `dest` with something in it is refused."""
    source.rename(dest)
    fsync_folder(dest.parent)
    if source.parent != dest.parent:
        fsync_folder(source.parent)


def discard_folder(folder: Path, waste: Path) -> None:
    """Remove a folder with everything in it: by one rename into `waste`, then piece by piece. Nothing there is fine.

    What a power cut leaves in `waste` is removed by `empty_waste`.
    """
    if not os.path.lexists(folder):
        return
    make_folders(waste)
    gone = waste / f"{folder.name}.{secrets.token_hex(4)}"
    move_folder(folder, gone)
    _delete(gone)


def empty_waste(waste: Path) -> None:
    """Delete what `discard_folder` had not finished."""
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(waste.iterdir()):
            _delete(entry)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
