"""A policy bundle where a release is meant: said as that on the workstation, before its missing signature is."""

from __future__ import annotations

from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import Envelope, parse_envelope
from edgevla.trust.store import Check


def release_meant(check: Check) -> Check:
    """The same judgement; an unsigned policy bundle is told that it is no release. Raises BadInput."""

    def judge(manifest: bytes, signature: bytes | None) -> Envelope:
        if signature is None and (envelope := parse_envelope(manifest)).release is None:
            raise BadInput(not_a_release(envelope.name))
        return check(manifest, signature)

    return judge


def not_a_release(name: str, signed: bool = False) -> str:
    """The message about a policy bundle."""
    todo = "build one with `edgevla bundle build`, which signs it too: --key release.key"
    got = f"a policy alone (schema 2){'' if signed else ', not signed'}"
    return explain(f"{name} is no release", "a bundle that was built for a robot", got, todo)
