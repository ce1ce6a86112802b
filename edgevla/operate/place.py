"""Where the socket of a run is, and who owns it: a folder of this user, a lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from edgevla.errors import BadInput, Refused, Usage, explain

DEFAULT_NAME = "run"
_SYSTEM_FOLDER = Path("/run/edgevla")
_MAX_PATH = 107  # bytes: sun_path of unix(7)
_BACKLOG = 8


def folders(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Where sockets may be, the first is where a new one goes: the service's, the user's, the system's."""
    known = os.environ if environment is None else environment
    found = []
    if service := known.get("RUNTIME_DIRECTORY", "").split(":")[0]:  # set by systemd
        found.append(Path(service))
    if user := known.get("XDG_RUNTIME_DIR"):
        found.append(Path(user) / "edgevla")
    return [*found, *([] if _SYSTEM_FOLDER in found else [_SYSTEM_FOLDER])]


def socket_path(name: str = DEFAULT_NAME, explicit: Path | None = None) -> Path:
    """Where a new run of that name listens. Raises Usage on a name that is no file name, or a path too long."""
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name[0] in ".-":
        raise Usage(
            explain("the name of the run is no name", "letters, digits, - _ .", repr(name), "pass another --name")
        )
    path = explicit if explicit is not None else folders()[0] / f"{name}.sock"
    if len(os.fsencode(path)) > _MAX_PATH:
        raise Usage(
            explain("the path of the socket is too long", f"{_MAX_PATH} bytes", path, "pass a shorter --socket")
        )
    return path


def living(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Sockets where somebody listens, by name; of one name the first folder counts."""
    found: dict[str, Path] = {}
    for folder in reversed(folders(environment)):
        with contextlib.suppress(OSError):
            found |= {path.stem: path for path in folder.glob("*.sock") if _listens(path)}
    return [found[name] for name in sorted(found)]


def barred(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Folders of sockets that this user may not look into."""
    return [folder for folder in folders(environment) if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except (BlockingIOError, PermissionError):  # many are waiting; another user's: there is somebody
            return True
        except OSError:
            return False
    return True


class OwnedSocket:
    """A listening socket of mode 0600 whose name no living process shares.

    Beside it lies `PATH.lock`, locked while this process lives: so a socket without a locked file is that of a
    dead run and is replaced. Raises Refused when a living run has the name, BadInput when it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = -1
        self._bound = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            if path.parent in folders():
                _private(path.parent)
            self._lock = self._take_lock()
            self._bind()
        except OSError as error:
            self.close()
            raise BadInput(
                explain(
                    f"no socket at {path}",
                    "a folder of your own to put it in",
                    error.strerror or error,
                    "set XDG_RUNTIME_DIR, or pass --socket PATH",
                )
            ) from None
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> int:
        while True:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise Refused(
                    explain(
                        f"another run listens at {self.path}",
                        "one run of that name",
                        "it is alive",
                        "stop it, or pass another --name",
                    )
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(self._lock_path)):
                    return fd
            os.close(fd)  # its holder removed it while it ended: this lock protects nothing

    def _bind(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise FileExistsError(0, "something that is no socket is in the way")
            self.path.unlink()
        before = os.umask(0o177)
        try:
            self.socket.bind(str(self.path))
        finally:
            os.umask(before)
        self._bound = True
        self.socket.listen(_BACKLOG)

    def close(self) -> None:
        """The socket and its lock removed, if they are this process's; a second call does nothing."""
        self.socket.close()
        if self._lock >= 0:
            for path in ([self.path] if self._bound else []) + [self._lock_path]:
                with contextlib.suppress(OSError):
                    path.unlink()
            os.close(self._lock)
            self._lock = -1


def _private(folder: Path) -> None:
    """The folder with mode 0700, made where it is missing. Raises BadInput when it is another user's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise BadInput(
            explain(
                f"{folder} is not a folder of this user",
                f"owner {os.geteuid()}",
                f"owner {found.st_uid}",
                "pass --socket PATH in a folder of your own",
            )
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
