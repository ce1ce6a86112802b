"""The one way to begin a change: alone, on folders that are there, with what a power cut left put in order."""

from __future__ import annotations

from edgevla.install.after import catch_up
from edgevla.install.durable import make_folders
from edgevla.install.layout import Layout
from edgevla.install.lock import InstallLock, this_holder
from edgevla.install.select import recover


def begin_work(layout: Layout) -> InstallLock:
    """The installer's lock. Raises Refused (another is at work), BadInput (a damaged state.json), OSError."""
    lock = InstallLock.take(layout, this_holder())
    try:
        for folder in layout.folders():
            make_folders(folder)
        recover(layout)
        catch_up(layout)
    except BaseException:
        lock.close()
        raise
    return lock
