"""Evil archives (`evil.py`) are one BadInput each, judged before anything is written; nothing is left behind."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.trust import archive
from edgevla.trust.envelope import Envelope, sum_line
from tests.edgevla.trust.evil import EVIL, FIRST, TOP, head
from tests.edgevla.trust.releases import (
    FILES,
    KEY,
    STORE,
    WHEEL,
    compressed,
    entries_of,
    entry,
    key_of,
    listing,
    manifest_of,
    packed_release,
    raw_of,
    tar_of,
    write_release,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed_release(tmp_path_factory.mktemp("packed"))


def refused(folder: Path, raw: bytes, check: archive.Check = STORE.check) -> str:
    """The one clear error, from a reader that writes and from one that does not; nothing is left behind."""
    path = folder / "some.tar.zst"
    path.write_bytes(raw)
    before = listing(folder)
    with pytest.raises(BadInput) as caught:
        archive.unpack(path, folder / "out.bundle", check)
    assert listing(folder) == before
    with pytest.raises(BadInput) as again:
        archive.inspect(path, check)
    assert str(again.value) == str(caught.value)
    for part in ("expected:", "got:", "to do:"):
        assert str(caught.value).count(part) == 1
    return str(caught.value)


def test_an_archive_gives_back_the_very_folder(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "a.tar.zst").write_bytes(packed)
    made = write_release(tmp_path / "made.bundle")
    envelope = archive.unpack(tmp_path / "a.tar.zst", tmp_path / "out.bundle", STORE.check)
    assert listing(tmp_path / "out.bundle") == listing(made)
    for name in [*FILES, "manifest.json", "manifest.sha256", "manifest.sig"]:
        assert (tmp_path / "out.bundle" / name).read_bytes() == (made / name).read_bytes()
        assert (tmp_path / "out.bundle" / name).stat().st_mode & 0o7777 == 0o644
    assert envelope == archive.read_envelope(tmp_path / "a.tar.zst", STORE.check)
    assert envelope == archive.inspect(tmp_path / "a.tar.zst", STORE.check)


def test_what_is_unpacked_can_be_read_by_the_service_whatever_the_umask(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "a.tar.zst").write_bytes(packed)
    before = os.umask(0o022)
    try:
        archive.unpack(tmp_path / "a.tar.zst", tmp_path / "out.bundle", STORE.check)
        os.umask(0o077)
        archive.unpack(tmp_path / "a.tar.zst", tmp_path / "tight.bundle", STORE.check)
    finally:
        os.umask(before)
    modes = [
        {path.relative_to(root).as_posix(): path.stat().st_mode for path in [root, *root.rglob("*")]}
        for root in (tmp_path / "out.bundle", tmp_path / "tight.bundle")
    ]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_archive_is_one_refusal_and_leaves_nothing(tmp_path: Path, packed: bytes, kind: str) -> None:
    change, said = EVIL[kind]
    entries = entries_of(packed)
    change(entries)
    assert said in refused(tmp_path, compressed(tar_of(entries)))


def test_the_helpers_put_the_same_archive_together_that_we_take(tmp_path: Path, packed: bytes) -> None:
    """Or every test above would be refused for another reason than its own."""
    (tmp_path / "a.tar.zst").write_bytes(compressed(tar_of(entries_of(packed))))
    assert archive.inspect(tmp_path / "a.tar.zst", STORE.check).release is not None
    assert [one.name for one in entries_of(packed)[:FIRST]] == [
        TOP + "manifest.json",
        TOP + "manifest.sha256",
        TOP + "manifest.sig",
    ]
    assert [one.name for one in entries_of(packed)[FIRST:]] == [TOP + name for name in sorted(FILES)]
    assert entries_of(packed)[FIRST].header == head().header


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (b"", "it ends too soon"),
        (bytes(512), "it ends too soon"),
        (bytes(1023), "it ends too soon"),
        (bytes(1025), "more data in it"),
        (bytes(10240), "more data in it"),  # the padding of stock tar: one form alone is right
        (bytes(1024) + b"evil", "more data in it"),
        (bytes(512) + b"x" + bytes(511), "the end of the archive"),
    ],
)
def test_an_archive_ends_in_exactly_one_way(tmp_path: Path, packed: bytes, end: bytes, said: str) -> None:
    assert said in refused(tmp_path, compressed(tar_of(entries_of(packed), end)))


def test_an_unsigned_archive_is_for_the_workstation_alone(tmp_path: Path) -> None:
    raw = packed_release(tmp_path, key=None)
    (tmp_path / "made.tar.zst").unlink()
    assert "not signed" in refused(tmp_path, raw)
    (tmp_path / "some.tar.zst").write_bytes(raw)
    assert archive.unpack(tmp_path / "some.tar.zst", tmp_path / "out.bundle", archive.unsigned).name == "arm"


@pytest.mark.parametrize("key", [key_of(2), None])
def test_a_signature_is_judged_before_a_byte_is_written(tmp_path: Path, key: object) -> None:
    raw = packed_release(tmp_path, key=key)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.tar.zst").write_bytes(raw)
    seen = []

    def check(manifest_raw: bytes, signature: bytes | None) -> Envelope:
        seen.append(listing(tmp_path / "only"))
        return STORE.check(manifest_raw, signature)

    with pytest.raises(BadInput, match="sign"):
        archive.unpack(tmp_path / "only" / "a.tar.zst", tmp_path / "only" / "out.bundle", check)
    assert seen == [["a.tar.zst"]]


def test_nothing_behind_a_manifest_that_is_refused_is_read(tmp_path: Path) -> None:
    class Counted(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            raw = super().read(size)
            self.most = max(self.most, self.tell())
            return raw

    big = os.urandom(3_000_000)
    file = Counted(packed_release(tmp_path, files={**FILES, "a.bin": big}, key=key_of(2)))
    with pytest.raises(BadInput, match="signature is wrong"):
        archive.inspect_stream(file, "a.tar.zst", STORE.check)
    assert file.most <= 128 * 1024 + 64  # one block of the frame


def test_a_manifest_that_lists_a_path_outside_is_refused_though_it_is_signed(tmp_path: Path) -> None:
    raw = raw_of(manifest_of({"../evil": b"x"}))
    heads = [
        ("manifest.json", raw),
        ("manifest.sha256", sum_line(raw)),
        ("manifest.sig", KEY.sign(raw)),
        ("../evil", b"x"),
    ]
    text = refused(tmp_path, compressed(tar_of(entry(TOP + name, content) for name, content in heads)))
    assert "path is not allowed" in text


def test_a_bundle_of_another_name_than_its_folder_is_refused(tmp_path: Path) -> None:
    raw = raw_of(manifest_of(name="leg"))
    heads = [("manifest.json", raw), ("manifest.sha256", sum_line(raw)), ("manifest.sig", KEY.sign(raw))]
    entries = [entry(TOP + name, content) for name, content in [*heads, *sorted(FILES.items())]]
    assert "the folder leg.bundle" in refused(tmp_path, compressed(tar_of(entries)))


def test_a_bundle_larger_than_the_disk_is_refused_with_both_sizes(tmp_path: Path) -> None:
    archive.require_space(tmp_path, 1)
    with pytest.raises(BadInput, match=f"the disk is full(.|\n)*expected: {2**62} bytes free"):
        archive.require_space(tmp_path, 2**62)


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path: Path, packed: bytes) -> None:
    """The kernel refuses to write more than 1,000 bytes into a file: the same path as a full disk."""
    (tmp_path / "a.tar.zst").write_bytes(packed)
    code = (
        "import resource, signal, sys; from pathlib import Path; from edgevla.trust import archive\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: archive.unpack(Path('a.tar.zst'), Path('out.bundle'), archive.unsigned)\n"
        "except OSError as error: print(error.strerror)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("File too large\n", "")
    assert listing(tmp_path) == ["a.tar.zst"]


@pytest.mark.parametrize("there", ["folder", "file", "dangling link"])
def test_nothing_is_unpacked_over_what_is_there(tmp_path: Path, packed: bytes, there: str) -> None:
    (tmp_path / "a.tar.zst").write_bytes(packed)
    dest = tmp_path / "out.bundle"
    {"folder": dest.mkdir, "file": dest.touch, "dangling link": lambda: dest.symlink_to("nowhere")}[there]()
    with pytest.raises(BadInput, match="in the way"):
        archive.unpack(tmp_path / "a.tar.zst", dest, STORE.check)
    assert listing(tmp_path) == ["a.tar.zst", "out.bundle"]


def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar.zst").write_bytes(packed)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        archive.unpack(tmp_path / "a.tar.zst", tmp_path / "out.bundle", STORE.check)
    with pytest.raises(KeyboardInterrupt):
        archive.pack(write_release(tmp_path / "b.bundle"), tmp_path / "b.tar.zst")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.tar.zst", "b.bundle"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / WHEEL).write_bytes(b"x"), WHEEL),
        (lambda root: (root / WHEEL).unlink(), "it is missing"),
        (lambda root: (root / "more").touch(), "an extra file"),
        (lambda root: (root / "manifest.sha256").write_bytes(b"x"), "manifest.json"),
        (lambda root: ((root / "z.txt").unlink(), (root / "z.txt").symlink_to("/etc/hostname")), "a symbolic link"),
    ],
)
def test_a_damaged_folder_is_not_packed_and_the_older_archive_stays(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    root = write_release(tmp_path / "a.bundle")
    (tmp_path / "a.tar.zst").write_bytes(b"older")
    spoil(root)
    with pytest.raises(BadInput) as caught:
        archive.pack(root, tmp_path / "a.tar.zst")
    assert said in str(caught.value)
    assert (tmp_path / "a.tar.zst").read_bytes() == b"older"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.bundle", "a.tar.zst"]


def test_an_archive_needs_its_ending(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"NAME\.tar\.zst"):
        archive.pack(write_release(tmp_path / "a.bundle"), tmp_path / "a.zip")


def test_a_manifest_of_the_archive_is_the_one_of_the_folder(tmp_path: Path, packed: bytes) -> None:
    assert json.loads(entries_of(packed)[0].content.rstrip(b"\0")) == manifest_of()
