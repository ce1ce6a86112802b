"""Sign a bundle: manifest.sig is the raw Ed25519 signature over manifest.json, which holds the hash of all the rest."""

from __future__ import annotations

from pathlib import Path

from edgevla.trust.envelope import MANIFEST_SIG, Envelope, parse_envelope
from edgevla.trust.files import write_whole
from edgevla.trust.folder import check_folder, read_head
from edgevla.trust.keys import PrivateKey


def sign(private: PrivateKey, manifest_raw: bytes) -> bytes:
    """64 bytes over the bytes of manifest.json."""
    return private.sign(manifest_raw)


def sign_folder(root: Path, private: PrivateKey) -> Envelope:
    """Write manifest.sig into a bundle's folder, in place of an older one. Raises BadInput for a damaged bundle."""
    root = root.resolve()
    head = read_head(root)
    envelope = parse_envelope(head.manifest)
    check_folder(root, envelope.files)  # nobody signs what they did not look at
    # Unfinished beside it: a file more would spoil the folder.
    write_whole(root / MANIFEST_SIG, sign(private, head.manifest), beside=root.parent)
    return envelope
