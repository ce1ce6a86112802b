"""Which keys a robot trusts: pinned at provisioning, rotated and revoked by updates with a rising serial.

A value and its JSON form; the file is the installer's. No clock: what is older is told by numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import MANIFEST, MANIFEST_SIG, Envelope, parse_envelope
from edgevla.trust.keys import ID_DIGITS, SIGNATURE_BYTES, PublicKey, parse_public
from edgevla.trust.strict_json import parse_json
from edgevla.trust.words import shown

SCHEMA = "edgevla.trust/1"
MAX_STORE_BYTES = 256 * 1024
MAX_KEYS = 64
MAX_REVOKED = 1024
MAX_SERIAL = 2**53 - 1

Check = Callable[[bytes, "bytes | None"], Envelope]  # bytes of manifest.json and manifest.sig -> envelope, or BadInput

_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_AGAIN = "get the file again from where it was made"
_SIGN = "sign it where it was made: `edgevla bundle sign`"


@dataclass(frozen=True)
class TrustStore:
    """The pinned keys. A revoked key that is still known by its bytes is named when something is signed by it."""

    serial: int
    keys: Mapping[str, PublicKey]  # by id
    revoked: tuple[str, ...]  # ids, sorted

    @property
    def valid(self) -> dict[str, PublicKey]:
        """The keys whose signatures count."""
        return {name: key for name, key in self.keys.items() if name not in self.revoked}

    def judge(self, manifest_raw: bytes, signature: bytes | None) -> str:
        """The id of the pinned key that signed exactly those bytes.

        Raises BadInput: unsigned, signed by a revoked key, or by none of the pinned keys over these bytes.
        """
        fitting = len(signature or b"") == SIGNATURE_BYTES
        for name, key in self.valid.items():
            if signature is not None and fitting and key.verifies(manifest_raw, signature):
                return name
        raise BadInput(self._why_not(manifest_raw, signature))

    def _why_not(self, manifest_raw: bytes, signature: bytes | None) -> str:
        expected = f"a signature of a pinned key ({', '.join(sorted(self.valid))})"
        if signature is None:
            return explain("the bundle is not signed", expected, f"no {MANIFEST_SIG}", _SIGN)
        got = f"another key's, or {MANIFEST} was altered after it was signed"
        if len(signature) != SIGNATURE_BYTES:
            got = f"{len(signature)} bytes in {MANIFEST_SIG} instead of {SIGNATURE_BYTES}"
        else:
            for name in self.revoked:
                if name in self.keys and self.keys[name].verifies(manifest_raw, signature):
                    return explain("the bundle is signed by a revoked key", expected, f"{name}, revoked", _SIGN)
        todo = "do not install it; get it again from who made it, and compare the key's fingerprint"
        return explain("the bundle's signature is wrong", expected, got, todo)

    def check(self, manifest_raw: bytes, signature: bytes | None) -> Envelope:
        """The envelope of a manifest that is signed by a pinned key; nothing of it is read before. Raises BadInput."""
        self.judge(manifest_raw, signature)
        return parse_envelope(manifest_raw)

    def updated(self, update: TrustStore) -> TrustStore:
        """This store after `update`, which came in a release that this store judged.

        The same update again changes nothing. Keys that the update leaves out are trusted no longer; revoked keys stay
        revoked, and known, so that they can be named. Raises BadInput: a serial not above this one's, no key left, a
        revoked key taken back.
        """
        todo = "make it again from the store in use: `edgevla bundle trust`"
        kept = {name: key for name, key in self.keys.items() if name in update.revoked}
        after = _sound(TrustStore(update.serial, {**kept, **update.keys}, update.revoked), "trust update")
        if after == self:
            return self
        if update.serial <= self.serial:
            _refuse("the trust update is older", f"a serial above {self.serial}", update.serial, todo)
        if back := sorted(set(self.revoked) - set(update.revoked)):
            expected = f"revoked still: {', '.join(self.revoked)}"
            _refuse("the trust update takes back a revocation", expected, f"without {back[0]}", todo)
        return after

    def changed(self, add: Iterable[PublicKey], revoke: Iterable[str]) -> TrustStore:
        """The next version, to be sent as an update. Raises BadInput: no key left, an unknown or a revoked one."""
        add, revoke = list(add), list(revoke)
        if back := [key.id for key in add if key.id in {*self.revoked, *revoke}]:
            todo = "make another one: `edgevla bundle keygen next.key`"
            _refuse(f"key {back[0]} is revoked", "a key that never was", "a revoked one", todo)
        if unknown := [name for name in revoke if name not in self.keys]:
            _refuse(
                f"no key {unknown[0]!r} to revoke", f"one of {', '.join(sorted(self.keys))}", unknown[0], "check its id"
            )
        keys = {**self.keys, **{key.id: key for key in add}}
        return self.updated(TrustStore(self.serial + 1, keys, tuple(sorted({*self.revoked, *revoke}))))

    def to_bytes(self) -> bytes:
        """Content of trust.json; the same store gives the same bytes."""
        keys = {name: key.pem for name, key in sorted(self.keys.items())}
        value = {"schema": SCHEMA, "serial": self.serial, "keys": keys, "revoked": sorted(self.revoked)}
        return (json.dumps(value, indent=1) + "\n").encode("ascii")


def pinned(keys: Iterable[PublicKey]) -> TrustStore:
    """The first store of a robot: serial 1, those keys, none revoked. Raises BadInput without a key."""
    return _sound(TrustStore(1, {key.id: key for key in keys}, ()), "trust store")


def parse_store(raw: bytes, where: str = "trust.json") -> TrustStore:
    """Bytes of trust.json -> TrustStore. Raises BadInput naming `where` and what is wrong."""
    if len(raw) > MAX_STORE_BYTES:
        _refuse(f"{where} is wrong", f"{MAX_STORE_BYTES} bytes at most", "more", _AGAIN)
    data = parse_json(raw, where, _AGAIN)
    schema = data.get("schema") if type(data) is dict else None
    if schema != SCHEMA:
        todo = "update edgevla on this machine, if the file is of a newer one; else get it again"
        _refuse(f"{where}: `schema` is wrong", SCHEMA, repr(schema)[:100], todo)
    if set(data) != {"schema", "serial", "keys", "revoked"}:
        _refuse(f"{where} is wrong", "schema, serial, keys, revoked", shown(", ".join(sorted(data))), _AGAIN)
    store = TrustStore(_serial(data["serial"], where), _keys(data["keys"], where), _revoked(data["revoked"], where))
    return _sound(store, where)


def _sound(store: TrustStore, where: str) -> TrustStore:
    if not store.valid:
        _refuse(f"{where}: no key is left", "one key at least that is not revoked", "none", "add the next key first")
    if len(store.keys) > MAX_KEYS:
        _refuse(f"{where}: `keys` is wrong", f"{MAX_KEYS} keys at most", len(store.keys), "leave out old ones")
    return store


def _serial(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SERIAL:
        _refuse(f"{where}: `serial` is wrong", f"a whole number in [1, {MAX_SERIAL}]", repr(value)[:100], _AGAIN)
    return value


def _keys(value: Any, where: str) -> dict[str, PublicKey]:
    if type(value) is not dict or not 0 < len(value) <= MAX_KEYS:
        _refuse(f"{where}: `keys` is wrong", f"a table of 1 to {MAX_KEYS} keys by id", repr(value)[:100], _AGAIN)
    keys = {}
    for name, pem in value.items():
        if type(pem) is not str:
            _refuse(f"{where}: `keys`: {name[:40]!r} is wrong", "a public key in PEM", repr(pem)[:100], _AGAIN)
        keys[name] = parse_public(pem, f"{where}: `keys`: {name[:40]!r}")
        if keys[name].id != name:
            _refuse(f"{where}: `keys` is wrong", f"{keys[name].id}, the id of that key", repr(name)[:60], _AGAIN)
    return keys


def _revoked(value: Any, where: str) -> tuple[str, ...]:
    sound = type(value) is list and len(value) <= MAX_REVOKED
    if not sound or not all(type(name) is str and _ID.fullmatch(name) for name in value):
        expected = f"a list of {MAX_REVOKED} key ids at most"
        _refuse(f"{where}: `revoked` is wrong", expected, repr(value)[:100], _AGAIN)
    if len(set(value)) != len(value):
        _refuse(f"{where}: `revoked` is wrong", "each id once", "one twice", _AGAIN)
    return tuple(sorted(value))


def _refuse(what: str, expected: object, got: object, todo: str) -> NoReturn:
    raise BadInput(explain(what, expected, got, todo))
