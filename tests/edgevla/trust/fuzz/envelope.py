"""manifest.json from anybody: an envelope whose every value is safe to use, or one BadInput."""

from __future__ import annotations

import os
import sys

from tests.edgevla.trust.fuzz._instrumented import instrumented

with instrumented(__name__ == "__main__"):
    from edgevla.errors import BadInput
    from edgevla.trust.envelope import parse_envelope

from tests.edgevla.trust.releases import manifest_of, raw_of

MAX_BYTES = 16 * 1024**3


def seeds() -> list[bytes]:
    policy = {key: value for key, value in manifest_of().items() if key != "release"}
    return [raw_of(manifest_of()), raw_of({**policy, "schema": "edgevla.bundle/2"})]


def check(data: bytes) -> None:
    """What must hold for any bytes."""
    try:
        found = parse_envelope(data)
    except BadInput as error:
        if str(error).count("expected:") != 1:
            raise RuntimeError("a refusal that is not one clear message") from error
        return
    for path in found.files:
        if os.path.normpath(path) != path or path.startswith(("/", "..")) or not path.isascii() or "\\" in path:
            raise RuntimeError(f"an unsafe path: {path!r}")
    if not 0 <= found.total_bytes <= MAX_BYTES or len(found.files) > 4096 or "/" in found.name:
        raise RuntimeError("a bound was passed")
    if (found.release is None) != (found.schema == 2):
        raise RuntimeError("a release without its schema")
    if found.release and not set(found.release.agent_wheels) <= set(found.release.wheels) <= set(found.files):
        raise RuntimeError("a wheel that is not listed")
    if found.release and not 1 <= found.release.counter < 2**53:
        raise RuntimeError("a counter out of bounds")


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
