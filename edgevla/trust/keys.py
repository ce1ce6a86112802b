"""Ed25519 keys as files: private in PKCS8 PEM, public in SPKI PEM, both as stock openssl reads and writes them.

Fingerprint: `openssl pkey -pubin -in release.pub -outform DER | sha256sum`; a key's id is its first 16 digits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgevla.errors import BadInput, explain

ID_DIGITS = 16
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 16 * 1024  # of a key file

_DER_HEAD = bytes.fromhex("302a300506032b6570032100")  # SPKI of Ed25519 (RFC 8410, section 4); 32 bytes follow
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END PUBLIC KEY-----\s*")
_KEYGEN = "make one: `edgevla bundle keygen release.key`"


@dataclass(frozen=True)
class PublicKey:
    """32 bytes that signatures are checked with."""

    raw: bytes

    @property
    def der(self) -> bytes:
        """SubjectPublicKeyInfo, 44 bytes."""
        return _DER_HEAD + self.raw

    @property
    def fingerprint(self) -> str:
        """sha256 of the DER form: what two people compare by eye."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def id(self) -> str:
        return self.fingerprint[:ID_DIGITS]

    @property
    def pem(self) -> str:
        """SPKI PEM, byte for byte as openssl writes it."""
        text = base64.b64encode(self.der).decode("ascii")
        return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this key's owner signed exactly those bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """What signs. Never printed; the key itself stays inside `cryptography`."""

    _key: Any
    public: PublicKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.id})"

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        signature: bytes = self._key.sign(message)
        return signature


def parse_public(raw: bytes | str, where: str) -> PublicKey:
    """Text of a public PEM file -> key. Raises BadInput naming `where`."""
    try:
        text = raw if isinstance(raw, str) else raw.decode("ascii")
        found = _PEM.fullmatch(text) if len(text) <= MAX_KEY_BYTES else None
        der = base64.b64decode("".join(found[1].split()), validate=True) if found else b""
    except (UnicodeDecodeError, binascii.Error):
        der = b""
    if len(der) != len(_DER_HEAD) + 32 or not der.startswith(_DER_HEAD):
        got = "a private key" if "PRIVATE KEY" in str(raw) else "something else"
        _refuse(where, "an Ed25519 public key in PEM (BEGIN PUBLIC KEY)", got, _KEYGEN)
    return PublicKey(der[len(_DER_HEAD) :])


def load_public(path: Path) -> PublicKey:
    """The public key in that file. Raises BadInput, OSError."""
    with path.open("rb") as file:
        return parse_public(file.read(MAX_KEY_BYTES + 1), str(path))


def generate(private_path: Path, public_path: Path, passphrase: bytes | None = None) -> PublicKey:
    """Make a key pair: `private_path` with mode 0600, `public_path` beside it.

    Raises BadInput where one of the two files is already there, and then nothing was written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for path in (private_path, public_path):
        if os.path.lexists(path):
            todo = "choose another name; a key is never overwritten"
            _refuse(str(path), "no file yet", "a file of that name", todo, "is in the way")
    key = Ed25519PrivateKey.generate()
    lock = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)
    public = PublicKey(key.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw))
    _create(private_path, pem, 0o600)
    try:
        _create(public_path, public.pem.encode("ascii"), 0o644)
    except BaseException:  # a private key whose public half is lost is of no use
        private_path.unlink()
        raise
    return public


def load_private(path: Path, ask: Callable[[], bytes] | None = None) -> PrivateKey:
    """The private key in that file; `ask` gives the passphrase and is called only where there is one.

    Raises BadInput: readable by others, no Ed25519 key, a wrong passphrase. Raises OSError.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        raw = file.read(MAX_KEY_BYTES + 1)
    if b"PRIVATE KEY" not in raw and b"PUBLIC KEY" in raw:  # first: nobody shall hide it from others
        todo = "pass its private half, NAME.key, which keygen wrote beside it"
        _refuse(str(path), "an Ed25519 private key in PKCS8 PEM (BEGIN PRIVATE KEY)", "a public key", todo)
    if mode & 0o077:
        _refuse(str(path), "a private key that its owner alone reads, mode 600", f"mode {mode:o}", f"chmod 600 {path}")
    locked = b"BEGIN ENCRYPTED PRIVATE KEY" in raw
    if not locked and b"BEGIN PRIVATE KEY" not in raw:
        expected = "an Ed25519 private key in PKCS8 PEM (BEGIN PRIVATE KEY)"
        _refuse(str(path), expected, "something else", _KEYGEN)
    if locked and ask is None:
        _refuse(str(path), "a private key, or its passphrase", "an encrypted one without", "give its passphrase")
    try:
        key = form.load_pem_private_key(raw, ask() if locked and ask else None)
    except (ValueError, TypeError) as error:
        got = "one that it does not open" if locked else f"a damaged file ({type(error).__name__})"
        _refuse(str(path), "the passphrase of this key" if locked else "a private key", got, "try again")
    if not isinstance(key, Ed25519PrivateKey):
        _refuse(str(path), "an Ed25519 key", f"another kind ({type(key).__name__.lstrip('_')})", _KEYGEN)
    raw_public = key.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    return PrivateKey(key, PublicKey(raw_public))


def _create(path: Path, content: bytes, mode: int) -> None:
    """A new file, on the disk when this returns, or none."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask leaves out
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _refuse(where: str, expected: str, got: object, todo: str, what: str = "cannot be used") -> NoReturn:
    raise BadInput(explain(f"{where} {what}", expected, got, todo))
