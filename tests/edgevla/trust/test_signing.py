"""A signed folder: verified by stock openssl, and any altered byte of any file is refused by name."""

import os
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.trust.archive import pack
from edgevla.trust.envelope import MANIFEST, MANIFEST_SIG, MANIFEST_SUM, parse_envelope, sum_line
from edgevla.trust.folder import BLOCK, check_file, check_folder, read_file, read_head
from edgevla.trust.signing import sign, sign_folder
from tests.edgevla.trust.releases import FILES, KEY, STORE, key_of, listing, write_release
from tests.edgevla.trust.stock import needs_openssl, openssl

NAMES = [MANIFEST, MANIFEST_SUM, MANIFEST_SIG, *(name for name, raw in FILES.items() if raw)]


def judged(root: Path) -> str:
    """What an installer does: signature first, then every file. The id of the release."""
    head = read_head(root)
    envelope = STORE.check(head.manifest, head.signature)
    check_folder(root, envelope.files)
    return envelope.id


def verified_by_openssl(root: Path, public: Path, expect: int = 0) -> bytes:
    """The line of docs/bundle.md."""
    line = ["-verify", "-pubin", "-inkey", public, "-rawin", "-in", root / MANIFEST, "-sigfile", root / MANIFEST_SIG]
    return openssl("pkeyutl", *line, expect=expect)


def test_a_signed_release_is_judged_by_its_key(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle", key=None)
    envelope = sign_folder(root, KEY)
    assert judged(root) == envelope.id
    assert len((root / MANIFEST_SIG).read_bytes()) == 64
    assert listing(tmp_path) == sorted(listing(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]  # nothing unfinished beside it


def test_the_same_bytes_have_the_same_signature(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    assert sign(KEY, (root / MANIFEST).read_bytes()) == (root / MANIFEST_SIG).read_bytes()


def test_another_key_takes_the_place_of_the_first(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle", key=key_of(2))
    with pytest.raises(BadInput, match="signature is wrong"):
        judged(root)
    sign_folder(root, KEY)
    judged(root)


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_byte_is_refused_wherever_it_is(tmp_path: Path, name: str) -> None:
    root = write_release(tmp_path / "a.bundle")
    raw = (root / name).read_bytes()
    for place in {0, 1, len(raw) // 3, len(raw) // 2, len(raw) - 2, len(raw) - 1}:
        for bit in (0x01, 0x80):
            altered = bytearray(raw)
            altered[place] ^= bit
            (root / name).write_bytes(altered)
            with pytest.raises(BadInput) as caught:
                judged(root)
            said = {MANIFEST_SUM: MANIFEST, MANIFEST_SIG: "signature"}.get(name, name)
            assert said in str(caught.value), (name, place)
    (root / name).write_bytes(raw)
    judged(root)


def test_a_manifest_altered_with_its_checksum_is_what_the_signature_is_for(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    raw = (root / MANIFEST).read_bytes()
    for place in range(0, len(raw), 7):
        altered = raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]
        (root / MANIFEST).write_bytes(altered)
        (root / MANIFEST_SUM).write_bytes(sum_line(altered))
        with pytest.raises(BadInput, match="signature is wrong"):
            judged(root)


@pytest.mark.parametrize("size", [0, 63, 65, 4096])
def test_a_signature_of_another_size_is_refused_by_name(tmp_path: Path, size: int) -> None:
    root = write_release(tmp_path / "a.bundle")
    (root / MANIFEST_SIG).write_bytes(bytes(size))
    with pytest.raises(BadInput, match=r"manifest\.sig: the bundle is damaged"):
        read_head(root)


def test_a_linked_signature_is_refused(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    (root / MANIFEST_SIG).rename(tmp_path / "sig")
    (root / MANIFEST_SIG).symlink_to(tmp_path / "sig")
    with pytest.raises(BadInput, match=r"manifest\.sig"):
        judged(root)


@pytest.mark.parametrize("name", [MANIFEST, MANIFEST_SUM, MANIFEST_SIG])
def test_a_link_is_not_even_followed_to_read_the_head(tmp_path: Path, name: str) -> None:
    root = write_release(tmp_path / "a.bundle")
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=f"a.bundle/{name}"):
        read_head(root)


def test_a_link_is_not_followed_where_a_file_was_when_the_folder_was_listed(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    files = parse_envelope(read_head(root).manifest).files
    (root / "z.txt").rename(tmp_path / "elsewhere")
    (root / "z.txt").symlink_to(tmp_path / "elsewhere")
    for read in (check_file, read_file):
        with pytest.raises(BadInput, match=r"z\.txt"):
            read(root, "z.txt", files["z.txt"])


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_a_file_that_grew_by_one_byte_is_refused_wherever_its_blocks_end(tmp_path: Path, size: int) -> None:
    root = write_release(tmp_path / "a.bundle", {**FILES, "a.bin": bytes(size)})
    judged(root)
    with (root / "a.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match=r"a\.bin"):
        judged(root)
    with pytest.raises(BadInput, match=r"a\.bin"):
        pack(root, tmp_path / "a.tar.zst")


def test_a_damaged_bundle_is_not_signed(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle", key=None)
    (root / "model/head.onnx").write_bytes(b"another")
    with pytest.raises(BadInput, match=r"model/head\.onnx"):
        sign_folder(root, KEY)
    assert not (root / MANIFEST_SIG).exists()


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    (root / os.fsdecode(b"\x1b[2J\xff\n")).touch()
    with pytest.raises(BadInput, match=r"a\.bundle/\\x1b\[2J\\udcff\\n: the bundle") as caught:
        judged(root)
    assert str(caught.value).isascii()


@needs_openssl
def test_stock_openssl_verifies_what_we_signed_and_refuses_what_was_altered(tmp_path: Path) -> None:
    root = write_release(tmp_path / "a.bundle")
    (tmp_path / "key.pub").write_text(KEY.public.pem)
    assert b"Signature Verified Successfully" in verified_by_openssl(root, tmp_path / "key.pub")
    (tmp_path / "other.pub").write_text(key_of(2).public.pem)
    verified_by_openssl(root, tmp_path / "other.pub", expect=1)
    (root / MANIFEST).write_bytes((root / MANIFEST).read_bytes() + b" ")
    verified_by_openssl(root, tmp_path / "key.pub", expect=1)


@needs_openssl
def test_what_stock_openssl_signs_we_take(tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k")
    openssl("pkey", "-in", tmp_path / "k", "-pubout", "-out", tmp_path / "p")
    root = write_release(tmp_path / "a.bundle", key=None)
    openssl("pkeyutl", "-sign", "-inkey", tmp_path / "k", "-rawin", "-in", root / MANIFEST, "-out", root / MANIFEST_SIG)
    from edgevla.trust.keys import load_public
    from edgevla.trust.store import pinned

    head = read_head(root)
    key = load_public(tmp_path / "p")
    assert pinned([key]).judge(head.manifest, head.signature) == key.id
