"""robot.toml: what one robot has that no release knows. Ports, cameras, what to do; never part of a release.

Standard library (and tomli before Python 3.11). Errors name the file, the line and the key.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SERVICES = ("systemd", "direct")
ORDERS = ("instruction", "tasks", "instruction_file")  # one of them says what the arm shall do
RECORD_MB = 2_000
RECORD_KEEP = 5
STATE = "/var/lib/edgevla"  # of the systemd service
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # by ProtectHome and PrivateTmp
_MAX_BYTES = 64 * 1024
_MAX_TEXT = 400  # characters
_TODO = "correct robot.toml; docs/service.md shows one that is right"
_CAMERA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SOURCES = ("v4l2:", "csi:", "gst:", "file:")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ leaves 15 characters


@dataclass(frozen=True)
class CanSettings:
    """[can]: where this robot's bus differs from the arm's profile. None: as the profile says."""

    bitrate: int | None = None  # bit/s
    data_bitrate: int | None = None  # bit/s, of CAN-FD's data phase
    txqueuelen: int = 128  # frames


@dataclass(frozen=True)
class RobotConfig:
    """One robot. `port` is what `--port` of `edgevla run` takes; exactly one of the three orders is not ''."""

    service: str  # systemd | direct: a child of the installer's session, for a private prefix without systemd
    port: str
    cameras: Mapping[str, str] = field(default_factory=dict)  # name in the bundle -> source, as --camera takes it
    instruction: str = ""
    tasks: str = ""  # absolute path, as --tasks takes it
    instruction_file: str = ""  # absolute path
    calibration: str = ""  # absolute path; '': none
    record: str = ""  # absolute path of the folder that gets one folder a start; '': no flight record
    record_mb: int = RECORD_MB  # of one flight record
    record_keep: int = RECORD_KEEP  # the newest flight records that stay
    accept_no_watchdog: bool = False
    best_effort: bool = False  # only with service = "direct"
    can: CanSettings = CanSettings()

    @property
    def can_interfaces(self) -> tuple[str, ...]:
        """The network interfaces that `port` names: () for a serial port, an adapter's path or a virtual bus."""
        ports = [part.partition("=")[2] or part for part in self.port.split(",")]
        names = [port.removeprefix("socketcan:") for port in ports]
        return tuple(dict.fromkeys(name for name in names if _INTERFACE.fullmatch(name)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self) | {"cameras": dict(self.cameras)}


def load_robot_config(path: Path) -> RobotConfig:
    """The settings in that file. Raises BadInput naming file, line and key."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        what, expected = f"{path} cannot be read", "this robot's settings"
        raise BadInput(explain(what, expected, error.strerror or error, "write one, see docs/service.md")) from None
    return parse_robot_config(raw, str(path))


def parse_robot_config(raw: bytes, where: str = "robot.toml") -> RobotConfig:
    """The settings that these bytes say. Raises BadInput naming `where`, line and key."""
    if len(raw) > _MAX_BYTES:
        raise BadInput(explain(f"{where} is too large", f"{_MAX_BYTES} bytes at most", "more", _TODO))
    try:
        text = raw.decode("utf-8")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadInput(explain(f"{where} is not valid TOML", "UTF-8 text", error, _TODO)) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the error names line and column
        raise BadInput(explain(f"{where} is not valid TOML", "TOML", error, _TODO)) from None
    return _config(_Table(where, text, "", data))


class _Table:
    """One table, read key by key."""

    def __init__(self, where: str, text: str, name: str, data: Any) -> None:
        self._where, self._text, self._name = where, text, name
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        self._known: list[str] = []

    def fail(self, key: str, expected: str, got: object) -> NoReturn:
        """Raises BadInput about the key."""
        line = _line_of(self._text, self._name, key)
        at = f", line {line}" if line else ""
        shown = f"[{self._name}] {key}" if self._name else key
        raise BadInput(explain(f"{self._where}{at}: `{shown}` is wrong", expected, str(got)[:200], _TODO))

    def has(self, key: str) -> bool:
        return key in self._data

    def table(self, key: str) -> _Table:
        """The table of that name; an empty one where there is none."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            self.fail(key, "a table", repr(value))
        return _Table(self._where, self._text, key, value)

    def text(self, key: str, default: str | None, sound: Callable[[str], bool], expected: str) -> str:
        value = self._take(key, default)
        if value is None:
            self.fail(key, expected, "nothing: the key is missing")
        if value == default and not self.has(key):
            return str(value)
        printable = isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()
        if not printable or not sound(value):
            self.fail(key, expected, repr(value))
        return str(value)

    def whole(self, key: str, default: int | None, low: int, high: int) -> int | None:
        value = self._take(key, default)
        if self.has(key) and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            self.fail(key, f"a whole number {low} .. {high}", repr(value))
        return value if value is None else int(value)

    def truth(self, key: str) -> bool:
        value = self._take(key, False)
        if not isinstance(value, bool):
            self.fail(key, "true or false", repr(value))
        return value

    def names(self) -> list[str]:
        return list(self._data)

    def nothing_left(self) -> None:
        """Raises BadInput on a key that nobody asked for."""
        for key in self._data:
            if key not in self._known:
                self.fail(key, f"only known keys: {', '.join(self._known)}", "an unknown key")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._data.get(key, default)


def _config(table: _Table) -> RobotConfig:
    service = table.text("service", None, lambda value: value in SERVICES, f"one of {', '.join(SERVICES)}")
    config = RobotConfig(
        service=service,
        port=table.text("port", None, _is_port, "a port as `edgevla run --port` takes it, without blanks"),
        cameras=_cameras(table.table("cameras")),
        instruction=table.text("instruction", "", lambda value: bool(value.strip()), "one line of text"),
        tasks=_path(table, "tasks"),
        instruction_file=_path(table, "instruction_file"),
        calibration=_path(table, "calibration"),
        record=_path(table, "record"),
        record_mb=table.whole("record_mb", RECORD_MB, 1, 10_000_000) or RECORD_MB,
        record_keep=table.whole("record_keep", RECORD_KEEP, 1, 10_000) or RECORD_KEEP,
        accept_no_watchdog=table.truth("accept_no_watchdog"),
        best_effort=table.truth("best_effort"),
        can=_can(table.table("can")),
    )
    table.nothing_left()
    given = [key for key in ORDERS if getattr(config, key)]
    if len(given) != 1:
        table.fail(
            given[-1] if given else ORDERS[0], f"exactly one of {', '.join(ORDERS)}", " and ".join(given) or "none"
        )
    if service == "systemd":
        _require_reachable(table, config)
    if config.best_effort and service != "direct":
        table.fail("best_effort", 'false; true only with service = "direct"', "true: a service has real-time priority")
    if table.has("can") and not config.can_interfaces:
        table.fail("can", "no such table: `port` names no CAN interface", f"port = {config.port!r}")
    return config


def _require_reachable(table: _Table, config: RobotConfig) -> None:
    """The unit sees no home folder and no /tmp of others, and writes into its state folder only."""
    for key in ("tasks", "instruction_file", "calibration"):
        if any(PurePosixPath(getattr(config, key)).is_relative_to(hidden) for hidden in _HIDDEN):
            table.fail(
                key, f"a file outside {', '.join(_HIDDEN)}: the service does not see these", getattr(config, key)
            )
    if config.record and not PurePosixPath(config.record).is_relative_to(STATE):
        table.fail("record", f"a folder in {STATE}, where the service may write", config.record)


def _is_port(text: str) -> bool:
    return not text.startswith("-") and not any(letter.isspace() for letter in text)


def _path(table: _Table, key: str) -> str:
    return table.text(key, "", lambda value: PurePosixPath(value).is_absolute(), "an absolute path")


def _cameras(table: _Table) -> dict[str, str]:
    found = {}
    for name in table.names():
        if not _CAMERA.fullmatch(name):
            table.fail(name, "a camera's name: letters, digits, . _ -", name)
        expected = f"a source: {' '.join(_SOURCES)}, see docs/cameras.md"
        found[name] = table.text(name, None, lambda value: value.startswith(_SOURCES) and value[-1] != ":", expected)
    return found


def _can(table: _Table) -> CanSettings:
    settings = CanSettings(
        bitrate=table.whole("bitrate", None, 10_000, 1_000_000),
        data_bitrate=table.whole("data_bitrate", None, 100_000, 10_000_000),
        txqueuelen=table.whole("txqueuelen", 128, 1, 100_000) or 128,
    )
    table.nothing_left()
    return settings


def _line_of(text: str, table: str, key: str) -> int | None:
    """Number of the line that sets the key (or opens the table of that name); None where no line does."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            inside = header[1].strip("\"'")
            if not table and inside == key:
                return number
        elif inside == table and re.match(rf"""\s*(["']?){re.escape(key)}\1\s*[=.]""", line):
            return number
    return None
