"""Keys: the vectors of RFC 8032 and RFC 8410, stock openssl on both sides, files that others cannot read."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.trust.keys import PublicKey, generate, load_private, load_public, parse_public
from tests.edgevla.trust.releases import key_of
from tests.edgevla.trust.stock import needs_openssl, openssl

# RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
            "24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
            "eeb00d291612bb0c00"
        ),
    ),
]
# RFC 8410, section 10.1 and 10.3.
BEGIN, END = "-----BEGIN {} KEY-----\n", "\n-----END {} KEY-----\n"
PEM = BEGIN.format("PUBLIC") + "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=" + END.format("PUBLIC")
PRIVATE_PEM = (
    BEGIN.format("PRIVATE") + "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC" + END.format("PRIVATE")
)


def private_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_signatures_are_those_of_rfc_8032(public: str, message: str, signature: str) -> None:
    key = PublicKey(bytes.fromhex(public))
    assert key.verifies(bytes.fromhex(message), bytes.fromhex(signature))
    assert not key.verifies(bytes.fromhex(message) + b"\0", bytes.fromhex(signature))
    for place in range(64):
        altered = bytearray(bytes.fromhex(signature))
        altered[place] ^= 1
        assert not key.verifies(bytes.fromhex(message), bytes(altered))


def test_a_public_key_is_read_and_written_as_rfc_8410_has_it() -> None:
    key = parse_public(PEM, "here")
    assert key.raw.hex() == "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    assert key.pem == PEM
    assert parse_public(PEM.replace("\n", "\r\n").encode(), "here") == key  # a file that went through Windows


def test_a_private_key_of_rfc_8410_gives_its_public_key(tmp_path: Path) -> None:
    assert load_private(private_file(tmp_path / "k", PRIVATE_PEM)).public == parse_public(PEM, "here")


def test_a_key_pair_is_made_readable_by_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = generate(tmp_path / "a.key", tmp_path / "a.pub")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a.pub").stat().st_mode) == 0o644
    assert load_public(tmp_path / "a.pub") == key == load_private(tmp_path / "a.key").public
    assert key.verifies(b"manifest", load_private(tmp_path / "a.key").sign(b"manifest"))


@pytest.mark.parametrize("there", ["a.key", "a.pub"])
def test_no_key_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(BadInput, match=f"{there} is in the way"):
        generate(tmp_path / "a.key", tmp_path / "a.pub")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="in the way"):
        generate(tmp_path / "a.key", tmp_path / "a.pub")
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_key_whose_public_half_cannot_be_written_is_not_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        generate(tmp_path / "a.key", tmp_path / "nowhere" / "a.pub")
    assert list(tmp_path.iterdir()) == []


def test_a_locked_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    key = generate(tmp_path / "a.key", tmp_path / "a.pub", b"long and secret")
    assert b"ENCRYPTED" in (tmp_path / "a.key").read_bytes()
    assert load_private(tmp_path / "a.key", lambda: b"long and secret").public == key
    with pytest.raises(BadInput, match="the passphrase of this key"):
        load_private(tmp_path / "a.key", lambda: b"long and secrer")
    with pytest.raises(BadInput, match="an encrypted one without"):
        load_private(tmp_path / "a.key")


def test_nobody_is_asked_for_the_passphrase_of_a_key_without(tmp_path: Path) -> None:
    load_private(private_file(tmp_path / "k", PRIVATE_PEM), lambda: pytest.fail("asked"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(BadInput, match=f"got:      mode {mode:o}"):
        load_private(private_file(tmp_path / "k", PRIVATE_PEM, mode))


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (PEM, "a public key"),
        ("", "something else"),
        ("ssh-ed25519 AAAA", "something else"),
        (PRIVATE_PEM.replace("MC4C", "MC5C"), "a damaged file"),
        (PRIVATE_PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"), "does not open"),
    ],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, text: str, got: str) -> None:
    with pytest.raises(BadInput, match=got):
        load_private(private_file(tmp_path / "k", text), lambda: b"x")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (PRIVATE_PEM, "a private key"),
        ("", "something else"),
        (PEM + PEM, "something else"),
        ("x" + PEM, "something else"),
        (PEM.replace("VwAy", "VvAy"), "something else"),  # X25519, the same length
        (PEM.replace("ZuE=", "Zg=="), "something else"),  # 31 bytes
        (PEM.replace("MCow", "MC*w"), "something else"),
        (PEM.replace("\n", "\n\u00e9"), "something else"),
        (PEM.replace("MCow", "MCow" * 9000), "something else"),
    ],
)
def test_what_is_no_public_key_is_refused_by_name(text: str, got: str) -> None:
    with pytest.raises(BadInput, match=f"release.pub cannot be used(.|\n)*got:      {got}"):
        parse_public(text.encode(), "release.pub")
    with pytest.raises(BadInput):
        parse_public(text, "release.pub")


def test_a_public_key_in_place_of_the_private_one_is_named_and_not_told_to_be_hidden(tmp_path: Path) -> None:
    generate(tmp_path / "release.key", tmp_path / "release.pub")
    with pytest.raises(BadInput, match="a public key") as told:
        load_private(tmp_path / "release.pub")
    assert "chmod" not in str(told.value)
    assert "private half" in str(told.value)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    raw = X25519PrivateKey.generate().private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with pytest.raises(BadInput, match="another kind"):
        load_private(private_file(tmp_path / "k", raw.decode()))


def test_a_private_key_does_not_show_itself() -> None:
    assert repr(key_of(1)) == f"PrivateKey({key_of(1).public.id})"


@needs_openssl
def test_the_fingerprint_is_the_one_of_the_line_in_the_documents(tmp_path: Path) -> None:
    key = generate(tmp_path / "a.key", tmp_path / "a.pub")
    der = openssl("pkey", "-pubin", "-in", tmp_path / "a.pub", "-outform", "DER")
    assert (
        subprocess.run(["sha256sum"], input=der, capture_output=True, check=True).stdout.split()[0]
        == key.fingerprint.encode()
    )
    assert key.id == key.fingerprint[:16]


@needs_openssl
def test_openssl_reads_our_locked_key_and_we_read_the_one_it_made(tmp_path: Path) -> None:
    key = generate(tmp_path / "a.key", tmp_path / "a.pub", b"secret")
    public = openssl("pkey", "-in", tmp_path / "a.key", "-passin", "pass:secret", "-pubout")
    assert public.decode() == key.pem
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "b.key")
    (tmp_path / "b.key").chmod(0o600)
    openssl("pkey", "-in", tmp_path / "b.key", "-pubout", "-out", tmp_path / "b.pub")
    assert load_private(tmp_path / "b.key").public == load_public(tmp_path / "b.pub")


def test_the_trust_modules_load_nothing_but_the_standard_library() -> None:
    names = ["archive", "envelope", "files", "folder", "keys", "signing", "store", "tar_form", "zstd_stream"]
    code = (
        f"import sys; [__import__('edgevla.trust.' + name) for name in {names}]\n"
        "tops = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in tops if not name.startswith('_')))"
    )
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['edgevla', 'firmware_bridge']"
