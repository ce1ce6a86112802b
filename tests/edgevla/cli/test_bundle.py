"""`edgevla bundle` as typed: keys, signatures, trust files, archives, differences; one clear error where it must be."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgevla.cli.main import run_command
from edgevla.trust.keys import load_private, load_public
from tests.edgevla.bundle.releasing import write_tiny_release
from tests.edgevla.trust.releases import listing

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path, tiny_bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the tiny bundle and a key pair in it."""
    shutil.copytree(tiny_bundle_path, tmp_path / "tiny.bundle")
    monkeypatch.chdir(tmp_path)
    assert run_command(["bundle", "keygen", "release.key", "--json"]) == 0
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Type a command; what it printed, which must be JSON where it says --json."""

    def typed(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert run_command(["bundle", *arguments]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        if code:
            assert err.count("error: ") == 1
            return err
        return json.loads(out) if "--json" in arguments else out

    return typed


def test_a_key_pair_says_its_fingerprint_and_is_never_overwritten(here: Path, call: Any) -> None:
    told = call("keygen", "next.key", "--json")
    assert told["fingerprint"] == load_public(here / "next.pub").fingerprint
    assert load_private(here / "next.key").public.id == told["id"]
    raw = (here / "next.key").read_bytes()
    assert "next.key is in the way" in call("keygen", "next.key", code=4)
    assert (here / "next.key").read_bytes() == raw
    assert "the name of the public key" in call("keygen", "x.pub", code=2)
    assert "a key needs a name" in call("keygen", "", code=2)
    assert "which is not there" in call("keygen", "nowhere/x.key", code=2)
    for words in (["-o", "x.key"], ["-out.key"], ["x.key", "-o", "y"]):
        assert "keygen has no option -o" in call("keygen", *words, code=2)
    assert "a key needs a name" in call("keygen", "--", "-o.key", code=2)
    assert sorted(path.name for path in here.glob("*.key")) == ["next.key", "release.key"]


def test_a_bundle_is_signed_shown_and_verified_with_its_key(here: Path, call: Any) -> None:
    assert call("show", "tiny.bundle", "--json")["signature"] == {"signed": False, "key": None}
    told = call("verify", "tiny.bundle", "--key", "release.pub", code=4)
    assert "tiny is no release" in told
    assert "edgevla bundle build" in told
    assert "a policy alone (schema 2), not signed" in told
    signed = call("sign", "tiny.bundle", "--key", "release.key", "--json")
    shown = call("show", "tiny.bundle", "--key", "release.pub", "--json")
    assert (shown["id"], shown["signature"]) == (signed["release_id"], {"signed": True, "key": signed["id"]})
    verified = call("verify", "tiny.bundle", "--key", "release.pub", "--json")
    assert verified["kept"] is True
    assert verified["verdicts"][0]["name"] == "signature"
    assert any(verdict["name"] == "golden/000.npz" for verdict in verified["verdicts"])
    assert "the signature was not judged" in call("verify", "tiny.bundle")
    assert "there, not judged" in call("show", "tiny.bundle")
    assert "verified" in call("show", "tiny.bundle", "--key", "release.pub")


def test_another_key_and_an_altered_byte_are_refused(here: Path, call: Any) -> None:
    call("keygen", "other.key")
    call("sign", "tiny.bundle", "--key", "other.key")
    assert "signature is wrong" in call("verify", "tiny.bundle", "--key", "release.pub", code=4)
    call("verify", "tiny.bundle", "--key", "release.pub", "--key", "other.pub")  # one of them
    path = here / "tiny.bundle" / "noise.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert "noise.npy" in call("verify", "tiny.bundle", "--key", "other.pub", code=4)
    assert "noise.npy" in call("sign", "tiny.bundle", "--key", "release.key", code=4)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sign", "none.bundle", "--key", "release.key"], 4, "cannot be signed"),
        (["sign", "tiny.bundle", "--key", "release.pub"], 4, "got:      a public key"),
        (["sign", "tiny.bundle", "--key", "none.key"], 4, "none.key"),
        (["verify", "tiny.bundle", "--key", "release.key"], 4, "a private key"),
        (["verify", "tiny.bundle", "--key", "release.pub", "--trust", "t.json"], 2, "exclude each other"),
        (["verify", "tiny.bundle", "--trust", "none.json"], 4, "none.json"),
        (["pack", "tiny.bundle", "-o", "tiny.zip"], 4, "NAME.tar.zst"),
        (["pack", "tiny.bundle", "-o", "nowhere/tiny.tar.zst"], 2, "which is not there"),
        (["unpack", "none.tar.zst", "-o", "a.bundle"], 4, "none.tar.zst"),
        (["unpack", "release.pub", "-o", "a.bundle"], 4, "damaged or altered"),
        (["unpack", "release.pub", "-o", "a"], 2, "NAME.bundle"),
        (["show", "none.tar.zst"], 4, "none.tar.zst"),
        (["diff", "tiny.bundle", "none.bundle"], 4, "is no bundle"),
        (["trust", "none.json"], 4, "none.json"),
        (["trust", "none.json", "--revoke", "0123456789abcdef"], 4, "none.json"),
        (["keygen", "a.key", "--passphrase-fd", "63"], 2, "descriptor 63"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error_and_leaves_nothing(
    here: Path, call: Any, arguments: list[str], code: int, said: str
) -> None:
    before = listing(here)
    assert said in call(*arguments, code=code)
    assert listing(here) == before


def test_an_archive_goes_there_and_back_and_may_be_used_in_place(here: Path, call: Any) -> None:
    write_tiny_release(here / "tiny.bundle", here / "release.bundle")
    call("sign", "release.bundle", "--key", "release.key")
    packed = call("pack", "release.bundle", "-o", "release.tar.zst", "--json")
    assert packed["bytes"] == (here / "release.tar.zst").stat().st_size
    unpacked = call("unpack", "release.tar.zst", "-o", "again.bundle", "--key", "release.pub", "--json")
    assert (unpacked["id"], unpacked["judged"]) == (packed["id"], True)
    assert listing(here / "again.bundle") == listing(here / "release.bundle")
    assert call("verify", "release.tar.zst", "--key", "release.pub", "--json")["kept"] is True
    assert "numpy 2.2.6" in call("show", "release.tar.zst")
    same = call("diff", "release.bundle", "release.tar.zst", "--json")
    assert (same["changes"], same["ids"]) == ([], [packed["id"]] * 2)
    assert "in the way" in call("unpack", "release.tar.zst", "-o", "again.bundle", code=4)
    assert "not judged" in call("unpack", "release.tar.zst", "-o", "third.bundle")
    (here / "third.bundle" / "manifest.sig").unlink()
    assert "the bundle is not signed" in call("verify", "third.bundle", "--key", "release.pub", code=4)  # a release
    call("keygen", "other.key")
    before = listing(here)
    assert "signature is wrong" in call("unpack", "release.tar.zst", "-o", "x.bundle", "--key", "other.pub", code=4)
    assert "signature is wrong" in call("show", "release.tar.zst", "--key", "other.pub", code=4)
    assert listing(here) == before


def test_a_difference_is_told_in_words(here: Path, call: Any) -> None:
    write_tiny_release(here / "tiny.bundle", here / "release.bundle")
    text = call("diff", "tiny.bundle", "release.bundle")
    for words in ("counter", "generic-aarch64", "2.2.6", "sbom.cdx.json", "differences"):
        assert words in text


def test_a_key_is_rotated_by_a_trust_file(here: Path, call: Any) -> None:
    first = call("trust", "trust.json", "--add", "release.pub", "--json")
    call("keygen", "next.key")
    call("sign", "tiny.bundle", "--key", "release.key")
    call("verify", "tiny.bundle", "--trust", "trust.json")
    second = call("trust", "trust.json", "--add", "next.pub", "--revoke", "release.pub", "--json")
    assert (first["serial"], second["serial"]) == (1, 2)
    assert second["revoked"] == [first["keys"][0]["id"]]
    assert "signed by a revoked key" in call("verify", "tiny.bundle", "--trust", "trust.json", code=4)
    call("sign", "tiny.bundle", "--key", "next.key")
    call("verify", "tiny.bundle", "--trust", "trust.json")
    assert "revoked" in call("trust", "trust.json")
    before = (here / "trust.json").read_bytes()
    assert "is revoked" in call("trust", "trust.json", "--add", "release.pub", code=4)
    assert "no key is left" in call("trust", "trust.json", "--revoke", "next.pub", code=4)
    assert (here / "trust.json").read_bytes() == before


def test_a_trust_update_is_shown_with_the_release_that_carries_it(here: Path, call: Any) -> None:
    call("trust", "trust.json", "--add", "release.pub")
    update = (here / "trust.json").read_bytes()
    write_tiny_release(here / "tiny.bundle", here / "release.bundle", {"trust/trust.json": update})
    assert f"serial 1, keys {load_public(here / 'release.pub').id}" in call("show", "release.bundle")


def through_pipe(text: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    return reading


def test_a_passphrase_comes_from_a_descriptor_and_a_wrong_one_does_not_open(here: Path, call: Any) -> None:
    call("keygen", "locked.key", "--passphrase-fd", str(through_pipe(b"three words here\n")))
    sign = ["sign", "tiny.bundle", "--key", "locked.key", "--passphrase-fd"]
    assert "passphrase of this key" in call(*sign, str(through_pipe(b"other\n")), code=4)
    assert "a line of 1 to 1024 bytes" in call(*sign, str(through_pipe(b"\n")), code=2)
    assert "a line of 1 to 1024 bytes" in call(*sign, str(through_pipe(b"x" * 2000)), code=2)
    assert not (here / "tiny.bundle/manifest.sig").exists()
    call(*sign, str(through_pipe(b"three words here")))
    call("verify", "tiny.bundle", "--key", "locked.pub")


def edgevla_at(folder: Path, terminal: int | None, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgevla.cli.main", "bundle", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if terminal is None else terminal,
        start_new_session=True,
    )


def test_a_passphrase_is_asked_for_at_a_terminal_and_never_shown(here: Path) -> None:
    main, other = pty.openpty()
    process = edgevla_at(here, other, "keygen", "asked.key", "--passphrase")
    os.close(other)
    shown = b""
    for _ in range(2):
        while not shown.endswith(b": "):  # the space comes when the terminal no longer shows what is typed
            shown += os.read(main, 1000)
        os.write(main, b"three words here\n")
        shown += b"."
    out, _ = process.communicate(timeout=120)
    os.close(main)
    assert process.returncode == 0, shown
    assert b"three" not in shown + out
    assert load_private(here / "asked.key", lambda: b"three words here").public == load_public(here / "asked.pub")


def test_nobody_to_ask_is_one_clear_error(here: Path, call: Any) -> None:
    call("keygen", "locked.key", "--passphrase-fd", str(through_pipe(b"three words here\n")))
    process = edgevla_at(here, None, "sign", "tiny.bundle", "--key", "locked.key")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"pass --passphrase-fd N" in error


def test_golden_vectors_run_on_the_providers_of_the_target_or_not_at_all(here: Path, call: Any) -> None:
    assert call("verify", "tiny.bundle", "--target", "host", "--json")["kept"]
    own = 'extends = "host"\nname = "gpu"\ndescription = "-"\nmeasured = false\nproviders = ["CUDAExecutionProvider"]\n'
    (here / "gpu.toml").write_text(own)
    assert "CUDAExecutionProvider" in call("verify", "tiny.bundle", "--target", "gpu.toml", code=1)
