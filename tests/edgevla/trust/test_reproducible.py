"""The same bundle gives the same bytes: whatever folder, time, umask, order of creation, process."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from edgevla.trust import archive
from edgevla.trust.tar_form import describe, first_entry, header
from tests.edgevla.trust.releases import FILES, STORE, compressed, listing, packed_release, untarred, write_release
from tests.edgevla.trust.stock import needs_tar

ROOT = Path(__file__).parents[3]


def test_two_packs_in_two_folders_are_the_same_to_the_byte(tmp_path: Path) -> None:
    first = write_release(tmp_path / "first.bundle")
    before = os.umask(0o077)
    try:
        (tmp_path / "elsewhere").mkdir()
        second = write_release(tmp_path / "elsewhere" / "other name.bundle", dict(FILES))
        for number, path in enumerate(sorted(second.rglob("*"), reverse=True)):
            os.utime(path, (10_000_000 * number, 20_000_000 * number))
            path.chmod(0o700)
        later = second / "z.txt"  # made last, so that the folder lists it elsewhere
        raw = later.read_bytes()
        later.unlink()
        later.write_bytes(raw)
        archive.pack(second, tmp_path / "second.tar.zst")
    finally:
        os.umask(before)
    archive.pack(first, tmp_path / "first.tar.zst")
    assert (tmp_path / "first.tar.zst").read_bytes() == (tmp_path / "second.tar.zst").read_bytes()
    archive.unpack(tmp_path / "first.tar.zst", tmp_path / "again.bundle", STORE.check)
    archive.pack(tmp_path / "again.bundle", tmp_path / "again.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == (tmp_path / "first.tar.zst").read_bytes()


def test_another_process_with_another_hash_seed_packs_the_same(tmp_path: Path) -> None:
    here = packed_release(tmp_path)
    code = (
        "from pathlib import Path; from edgevla.trust import archive; "
        f"archive.pack(Path({str(tmp_path / 'made.bundle')!r}), Path({str(tmp_path / 'there.tar.zst')!r}))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=120)
    assert (tmp_path / "there.tar.zst").read_bytes() == here


def test_larger_files_too(tmp_path: Path) -> None:
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(60_000))  # 1.9 MB that does not compress
    files = {**FILES, "a.bin": noise, "b.bin": bytes(5_000_000), "c.bin": noise[::-1][:1_000_001]}
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert packed_release(tmp_path / "1", files=files) == packed_release(tmp_path / "2", files=files)
    archive.unpack(tmp_path / "1" / "made.tar.zst", tmp_path / "out.bundle", STORE.check)
    assert (tmp_path / "out.bundle/c.bin").read_bytes() == files["c.bin"]


def test_the_form_is_frozen(tmp_path: Path) -> None:
    """A reader on a robot compares these bytes: they may change with a new `release.envelope` only."""
    raw = untarred(packed_release(tmp_path))
    assert hashlib.sha256(raw).hexdigest() == "ba0d7e1e426a2e5632c089d372fa4d177d61c56ddacb2d8ebd300cbc6f52bd0a"


@pytest.mark.parametrize("path", ["arm.bundle/a", "arm.bundle/" + "d" * 100 + "/" + "f" * 100, "a" * 100])
@pytest.mark.parametrize("size", [0, 1, 8 * 1024**3 - 1])
def test_a_header_is_the_one_of_python_s_tarfile(path: str, size: int) -> None:
    info = tarfile.TarInfo(path)
    info.size = size
    assert header(path, size) == info.tobuf(tarfile.USTAR_FORMAT)


LONG = ["f" * 128, "d" * 120 + "/" + "f" * 120, "/".join(["d" * 40] * 3) + "/" + "f" * 110]


def test_names_that_the_older_form_cannot_hold_are_there_in_full(tmp_path: Path) -> None:
    files = {**FILES, **{path: path.encode() for path in LONG}}
    raw = packed_release(tmp_path, files=files)
    with tarfile.open(fileobj=io.BytesIO(untarred(raw))) as found:
        assert {f"arm.bundle/{path}" for path in LONG} < set(found.getnames())
    archive.unpack(tmp_path / "made.tar.zst", tmp_path / "out.bundle", STORE.check)
    assert listing(tmp_path / "out.bundle") == listing(tmp_path / "made.bundle")


def test_a_long_name_stands_in_front_as_gnu_tar_writes_it() -> None:
    path = "arm.bundle/" + "f" * 128
    raw = header(path, 5)
    assert raw[:13] == b"././@LongLink"
    assert raw[124:135] == b"%011o" % (len(path) + 1)  # its zero byte counts
    assert raw[156:157] == b"L"
    assert raw[512:1024] == path.encode().ljust(512, b"\0")
    assert (len(raw), raw[1024:1124]) == (1536, path[:100].encode())


def test_a_long_name_cannot_be_exchanged(tmp_path: Path) -> None:
    raw = untarred(packed_release(tmp_path, files={**FILES, "f" * 128: b"x"}))
    place = raw.index(b"arm.bundle/" + b"f" * 128)
    with pytest.raises(Exception, match="a long name"):
        archive.inspect_stream(io.BytesIO(compressed(raw[:place] + b"../" + raw[place + 3 :])), "a", STORE.check)


@needs_tar
def test_stock_tar_unpacks_it(tmp_path: Path) -> None:
    files = {**FILES, **{path: path.encode() for path in LONG}}
    (tmp_path / "a.tar").write_bytes(untarred(packed_release(tmp_path, files=files)))
    (tmp_path / "out").mkdir()
    done = subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "out"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name, content in files.items():
        assert (tmp_path / "out" / "arm.bundle" / name).read_bytes() == content


@pytest.mark.parametrize("block", [b"", bytes(511), bytes(512), b"x" * 512, bytes(range(256)) * 2])
def test_any_block_has_words(block: bytes) -> None:
    assert describe(block, "arm.bundle/a")
    assert first_entry(block) is None
