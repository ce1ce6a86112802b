"""`edgevla-agent rpc`: requests on stdin, answers on stdout, in their order. See `edgevla.install.frames`.

Nothing is trusted: every request is bounded, its fields are checked before use, and what changes the disk needs the
installer's lock, which this process then keeps until its client leaves.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from edgevla.deploy.index import MAX_INDEX_BYTES, parse_index
from edgevla.errors import BadInput, EdgevlaError, Refused, Usage, explain
from edgevla.install.admission import judge, require_update
from edgevla.install.deploy_log import lines_of
from edgevla.install.durable import write_file
from edgevla.install.frames import Frame, error_of, read_frame, write_frame
from edgevla.install.job import Job, follow, start_job
from edgevla.install.layout import Layout, require_release_id
from edgevla.install.lock import InstallLock, holder_said, is_locked
from edgevla.install.releases import collect, list_releases
from edgevla.install.robot_config import parse_robot_config
from edgevla.install.select import is_whole
from edgevla.install.service import require_one_manager
from edgevla.install.settings import replace_settings, restore_settings
from edgevla.install.staging import Staging
from edgevla.install.state import read_state
from edgevla.install.survey import hello, preflight, state_said
from edgevla.install.tools import Tools, tools_of
from edgevla.install.unpack import is_installed
from edgevla.install.work import begin_work
from edgevla.trust.envelope import MAX_MANIFEST_BYTES
from edgevla.trust.keys import SIGNATURE_BYTES
from edgevla.trust.store import MAX_STORE_BYTES, parse_store

_MAX_CHUNKS_BYTES = 32 * 1024 * 1024  # in one request
_MAX_LENGTHS = 65_536
_MAX_TEXT = 256 * 1024
_MAX_LINES = 10_000
_HEAD_BYTES = MAX_MANIFEST_BYTES + SIGNATURE_BYTES
_PAYLOADS = {
    "judge": _HEAD_BYTES + MAX_STORE_BYTES,
    "offer": _HEAD_BYTES + MAX_INDEX_BYTES,
    "chunks": _MAX_CHUNKS_BYTES,
}


class Session:
    """One client. `serve` until it leaves."""

    def __init__(self, layout: Layout, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._layout, self._in, self._out = layout, stdin, stdout
        self._lock: InstallLock | None = None
        self._staging: Staging | None = None
        self._offered = b""
        self._job_began = False

    def serve(self) -> None:
        """Returns when the client has left. Raises BadInput on a stream that is not this protocol."""
        with contextlib.suppress(BrokenPipeError):
            while (frame := read_frame(self._in, _payload_limit)) is not None:
                self._answer(frame)

    def close(self) -> None:
        if self._lock is not None:
            if not self._job_began:  # it left before the release that its settings are for was tried
                with contextlib.suppress(OSError):  # the next that takes the lock does it
                    restore_settings(self._layout)
            self._lock.close()

    def _answer(self, frame: Frame) -> None:
        number = frame.header.get("id")
        try:
            answer = {"id": number, "ok": True, "result": self._do(frame, number)}
        except BrokenPipeError:
            raise
        except Exception as error:
            answer = {"id": number, "ok": False, "error": error_of(error)}
        write_frame(self._out, answer)

    def _do(self, frame: Frame, number: object) -> Mapping[str, Any]:
        fields, payload, layout = frame.header, frame.payload, self._layout
        acts: dict[str, Callable[[], Mapping[str, Any]]] = {
            "hello": lambda: {**hello(layout, self._lock is not None), "does": sorted(acts)},
            "preflight": lambda: self._preflight(fields),
            "judge": lambda: self._judge(fields, payload),
            "offer": lambda: self._offer(fields, payload),
            "chunks": lambda: {"stored": self._staged().store(payload, _lengths(fields))},
            "assemble": lambda: self._assemble(fields),
            "install": lambda: self._job("install", fields, number),
            "rollback": lambda: self._job("rollback", fields, number),
            "status": lambda: status(layout, self._lock is not None),
            "releases": lambda: {"releases": list_releases(layout)},
            "gc": lambda: self._gc(fields),
            "logs": lambda: self._logs(fields),
            "configure": lambda: self._configure(fields),
            "provision": lambda: self._provision(fields),
        }
        do = fields.get("do")
        if not isinstance(do, str) or do not in acts:
            todo = "use the edgevla that made this robot's release, or deploy a newer one"
            raise Usage(explain("the robot's agent does not know that", ", ".join(acts), repr(do)[:100], todo))
        return acts[do]()

    def _locked(self) -> None:
        """Take the lock, once; put in order what an interrupted installer left. Raises Refused, BadInput, OSError."""
        if self._lock is None:
            self._lock = begin_work(self._layout)

    def _preflight(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        target, arm, port = (_text(fields, key) for key in ("target_toml", "arm_toml", "port"))
        tools: Tools | None = tools_of(self._layout) if self._layout.robot.exists() else None
        return preflight(self._layout, target, arm, port, tools)

    def _judge(self, fields: Mapping[str, Any], payload: bytes) -> Mapping[str, Any]:
        """Whether that release would be taken, by its head and its trust update alone; changes nothing."""
        manifest, signature, update = _parts(fields, payload, "trust")
        envelope = judge(self._layout, manifest, signature or None)
        if update:
            require_update(self._layout, envelope, update)
        return {"id": envelope.id}

    def _offer(self, fields: Mapping[str, Any], payload: bytes) -> Mapping[str, Any]:
        manifest, signed, index = _parts(fields, payload, "index")
        signature = signed or None
        self._locked()  # first: trust of a good release that a power cut kept back counts
        envelope = judge(self._layout, manifest, signature)
        if self._staging is not None and payload == self._offered:  # the same again: what is still missing
            return {"id": envelope.id, "state": "missing", "missing": self._staging.missing()}
        if is_installed(self._layout, envelope.id):
            self._keep_index(envelope.id, index)
            return {"id": envelope.id, "state": "installed", "missing": []}
        self._staging = None
        staging = Staging(self._layout, envelope, index)
        staging.begin(manifest, signature)
        self._staging, self._offered = staging, payload
        return {"id": envelope.id, "state": "missing", "missing": staging.missing()}

    def _keep_index(self, release_id: str, index: bytes) -> None:
        """Of a release that came as an archive, so that the next one can take its chunks."""
        if not self._layout.chunk_index(release_id).exists():
            parse_index(index)
            write_file(self._layout.chunk_index(release_id), index)

    def _staged(self) -> Staging:
        if self._staging is None:
            raise Usage(explain("no release is on its way", "an offer before it", "none", "offer first"))
        return self._staging

    def _assemble(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        release_id = require_release_id(fields.get("release"))
        if is_whole(self._layout, release_id):
            return {"files": 0, "bytes": 0}
        staging = self._staged()
        if staging.envelope.id != release_id:
            what = "another release is on its way"
            raise BadInput(explain(what, staging.envelope.id, release_id, "offer it first"))
        try:
            size_bytes = staging.assemble()
        finally:
            self._staging = None  # the next offer looks anew
        return {"files": len(staging.envelope.files), "bytes": size_bytes}

    def _job(self, do: str, fields: Mapping[str, Any], number: object) -> Mapping[str, Any]:
        job = Job.of(do, {**fields, "id": fields.get("release")})  # `id` is the request's own number
        self._locked()
        assert self._lock is not None
        self._job_began = True
        running = start_job(self._layout, job, self._lock)
        return follow(self._layout, running, lambda line: write_frame(self._out, {"id": number, "event": line}))

    def _gc(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        keep = _whole(fields, "keep", 1, 1_000)
        self._locked()
        self._staging = None
        return {"removed": collect(self._layout, keep)}

    def _logs(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        count = _whole(fields, "lines", 1, _MAX_LINES)
        try:
            service = tools_of(self._layout).manager.logs(count)
        except EdgevlaError as error:
            service = [str(error)]
        return {"service": service, "deploy": lines_of(self._layout.log)[-count:]}

    def _configure(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        raw = _text(fields, "robot_toml").encode()
        config = parse_robot_config(raw, "robot.toml")
        self._locked()
        require_one_manager(self._layout.prefix, config)
        replace_settings(self._layout, raw)
        return {"robot": config.as_dict()}

    def _provision(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        store = parse_store(_text(fields, "trust_json").encode())
        self._locked()
        if os.path.lexists(self._layout.trust):
            todo = "a release with a trust update changes them: `edgevla bundle build --trust`"
            raise Refused(explain("this robot trusts keys already", "none yet", self._layout.trust, todo))
        write_file(self._layout.trust, store.to_bytes())
        return {"keys": {name: key.fingerprint for name, key in store.valid.items()}}


def status(layout: Layout, own_lock: bool) -> dict[str, Any]:
    """What runs, what is at work, and every line of the newest deploy. Raises BadInput."""
    locked = not own_lock and is_locked(layout)
    holder = holder_said(layout) if locked else None
    lines = lines_of(layout.log)
    try:
        active: bool | None = tools_of(layout).manager.is_active()
    except EdgevlaError:
        active = None
    return {
        **state_said(layout, read_state(layout)),
        "active": active,
        "locked": locked,
        "holder": asdict(holder) if holder else None,
        "deploy": lines,
        "outcome": lines[-1].get("outcome") if lines else None,
    }


def _parts(fields: Mapping[str, Any], payload: bytes, last: str) -> tuple[bytes, bytes, bytes]:
    """manifest.json, manifest.sig and a third part of a payload. Raises BadInput."""
    sizes = [_whole(fields, f"{name}_bytes", 0, len(payload)) for name in ("manifest", "signature", last)]
    if sum(sizes) != len(payload):
        raise BadInput(explain("the sizes are wrong", f"{len(payload)} bytes", sum(sizes), "deploy again"))
    first, second = sizes[0], sizes[0] + sizes[1]
    return payload[:first], payload[first:second], payload[second:]


def _payload_limit(header: Mapping[str, Any]) -> int:
    do = header.get("do")
    return _PAYLOADS.get(do, 0) if isinstance(do, str) else 0


def _lengths(fields: Mapping[str, Any]) -> list[int]:
    value = fields.get("lengths")
    if not isinstance(value, list) or len(value) > _MAX_LENGTHS or any(type(n) is not int or n < 1 for n in value):
        raise _wrong("lengths", f"{_MAX_LENGTHS} sizes of chunks at most", value)
    return value


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _wrong(key, f"text of {_MAX_TEXT} characters at most", value)
    return value


def _whole(fields: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = fields.get(key)
    if type(value) is not int or not low <= value <= high:
        raise _wrong(key, f"a whole number in [{low}, {high}]", value)
    return value


def _wrong(key: str, expected: str, value: object) -> BadInput:
    todo = "deploy again; both ends may be of different versions"
    return BadInput(explain(f"a request to the robot's agent: `{key}` is wrong", expected, repr(value)[:100], todo))
