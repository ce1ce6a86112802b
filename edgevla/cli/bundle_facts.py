"""What `edgevla bundle show` says of a bundle, row by row."""

from __future__ import annotations

from typing import Any

from edgevla.bundle import Bundle
from edgevla.bundle.diff import WHEELS, wheel_version
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import KnownWords
from edgevla.cli.output import megabytes
from edgevla.trust.envelope import TRUST_FILE, Release, release_id
from edgevla.trust.store import TrustStore, parse_store

_Rows = list[tuple[str, object]]


def facts_of(bundle: Bundle, store: TrustStore | None) -> _Rows:
    """Every fact but channels and files. The signature is judged where there is a store. Raises BadInput."""
    m = bundle.manifest
    return [
        ("release id", release_id(bundle.head.manifest)),
        ("signature", _signature(signature_of(bundle, store))),
        *(_release(bundle, m.release) if m.release else []),
        ("artifact", f"{m.artifact}, opset {m.opset}, IR {m.ir_version}"),
        ("made for", f"target {m.target}, arm {m.arm}"),
        ("made with", m.created_with),
        (
            "timing",
            f"T = {m.timing.period_s * 1e3:g} ms, H = {m.timing.horizon} ticks, d_max = {m.timing.d_max}",
        ),
        *((f"camera {camera.name}", _camera(camera)) for camera in m.cameras),
        ("state", ", ".join(f"{s.name} [{s.unit}]" for s in m.state)),
        ("words", _words(bundle)),
        ("teacher", f"{m.teacher.name}, {m.teacher.parameters:,} parameters"),
        ("student", f"{m.student.name}, {m.student.parameters:,} parameters"),
        (
            "graphs",
            f"{megabytes(bundle.total_bytes('model/'))}, in float {megabytes(bundle.total_bytes('float/'))}",
        ),
        ("golden vectors", len(bundle.golden)),
        ("evidence", ", ".join(bundle.evidence()) or "none"),
    ]


def signature_of(bundle: Bundle, store: TrustStore | None) -> dict[str, Any]:
    """Whether there is a signature, and whose, if somebody said which keys to believe. Raises BadInput."""
    signature = bundle.head.signature
    key = None if store is None else store.judge(bundle.head.manifest, signature)
    return {"signed": signature is not None, "key": key}


def _signature(facts: dict[str, Any]) -> str:
    if facts["key"]:
        return f"of key {facts['key']}, verified"
    return "there, not judged: pass --key or --trust" if facts["signed"] else "none: `edgevla bundle sign` writes one"


def _release(bundle: Bundle, release: Release) -> _Rows:
    names = [" ".join(wheel_version(path)) for path in release.wheels]
    gpu = ", with NVIDIA's onnxruntime-gpu" if release.needs_gpu_wheel else ""
    rows: _Rows = [
        ("release", f"counter {release.counter}, target {release.target}, {release.arch}, Python {release.python}"),
        ("wheels", f"{megabytes(bundle.total_bytes(WHEELS))}{gpu}: {', '.join(names) or 'none'}"),
    ]
    if TRUST_FILE in bundle.manifest.files:
        update = parse_store(bundle.read(TRUST_FILE), TRUST_FILE)
        revoked = f", revoked {', '.join(update.revoked)}" if update.revoked else ""
        rows.append(("trust update", f"serial {update.serial}, keys {', '.join(sorted(update.valid))}{revoked}"))
    return rows


def _camera(camera: Camera) -> str:
    size = f"{camera.width} x {camera.height}"
    if camera.fit != "exact":
        size += f", to {camera.input_width} x {camera.input_height} ({camera.fit})"
    absent = ", may be absent" if camera.when_missing == "blank" else ""
    return f"{size}, {camera.colour}, {camera.rate_hz:g} Hz{absent}"


def _words(bundle: Bundle) -> str:
    words, most = bundle.words, bundle.manifest.text.max_tokens
    if isinstance(words, KnownWords):
        return f"{len(words.tokens)} words, at most {most} an instruction"
    others = f"a tokenizer for others, up to {most} tokens" if words.tokenizer else "no others"
    return f"{len(words.known)} known instructions, {others}"
