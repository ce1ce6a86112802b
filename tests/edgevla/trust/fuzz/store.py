"""trust.json and PEM files from anybody: a store that keeps its rules, or one BadInput."""

from __future__ import annotations

import sys

from tests.edgevla.trust.fuzz._instrumented import instrumented

with instrumented(__name__ == "__main__"):
    from edgevla.errors import BadInput
    from edgevla.trust.keys import parse_public
    from edgevla.trust.store import TrustStore, parse_store

from tests.edgevla.trust.releases import STORE, key_of

BOTH = TrustStore(2, {key.id: key for key in (key_of(1).public, key_of(2).public)}, (key_of(1).public.id,))


def seeds() -> list[bytes]:
    return [STORE.to_bytes(), BOTH.to_bytes(), key_of(1).public.pem.encode()]


def check(data: bytes) -> None:
    """What must hold for any bytes."""
    try:
        key = parse_public(data, "fuzzed")
    except BadInput:
        pass
    else:
        if parse_public(key.pem, "again") != key or len(key.raw) != 32:
            raise RuntimeError("a key that does not read back")
    try:
        store = parse_store(data, "fuzzed")
    except BadInput:
        return
    if parse_store(store.to_bytes()) != store:
        raise RuntimeError("a store that does not read back")
    if not store.valid or set(store.valid) & set(store.revoked):
        raise RuntimeError("a store that breaks its own rules")
    try:
        after = BOTH.updated(store)
    except BadInput:
        return
    if after != BOTH and (after.serial <= BOTH.serial or not set(BOTH.revoked) <= set(after.revoked)):
        raise RuntimeError("an update that should have been refused")


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
