"""The part of a manifest that every version keeps: an older installer reads a newer bundle, and nothing is assumed."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevla.errors import BadInput
from edgevla.trust.envelope import FileEntry, Release, parse_envelope, release_id
from tests.edgevla.trust.fuzz import envelope as fuzzed
from tests.edgevla.trust.releases import FILES, RELEASE, WHEEL, manifest_of, raw_of

Table = dict[str, Any]
ENTRY = {"sha256": "0" * 64, "bytes": 1}


def changed(change: Callable[[Table], object]) -> bytes:
    manifest = json.loads(raw_of(manifest_of()))
    change(manifest)
    return raw_of(manifest)


def refused(raw: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        parse_envelope(raw)
    assert str(caught.value).count("expected:") == 1
    return str(caught.value)


def test_an_envelope_holds_what_an_installer_must_know() -> None:
    raw = raw_of(manifest_of())
    found = parse_envelope(raw)
    assert (found.schema, found.name, list(found.files)) == (3, "arm", list(FILES))
    assert found.files["z.txt"] == FileEntry(hashlib.sha256(b"z" * 512).hexdigest(), 512)
    assert found.release == Release(7, "generic-aarch64", "aarch64", "3.10", (WHEEL,), (WHEEL,), False)
    assert found.id == hashlib.sha256(raw).hexdigest()[:32] == release_id(raw)
    assert found.total_bytes == sum(map(len, FILES.values()))


def test_an_older_installer_reads_a_newer_schema_and_ignores_what_it_does_not_know() -> None:
    def newer(manifest: Table) -> None:
        manifest.update(schema="edgevla.bundle/12", skills=[{"deep": [1.5, None]}])
        manifest["release"]["delta"] = "rsync"
        manifest["files"]["z.txt"]["mode"] = 493

    found = parse_envelope(changed(newer))
    assert found.schema == 12
    assert found.release is not None
    assert found.release.counter == 7


def test_another_envelope_is_refused_with_what_to_do() -> None:
    text = refused(changed(lambda m: m["release"].update(envelope=2)))
    assert "written by a newer edgevla" in text
    assert "update edgevla on this machine" in text


def test_what_a_manifest_says_does_not_reach_the_terminal_as_it_is() -> None:
    text = refused(changed(lambda m: m.update(schema="\x1b[2J\n  to do:    rm -r")))
    assert "\\x1b[2J\\n  to do:" in text
    assert text.count("\n") == 3


def test_a_policy_alone_has_no_release() -> None:
    def policy(manifest: Table) -> None:
        manifest.update(schema="edgevla.bundle/2")
        del manifest["release"]

    assert parse_envelope(changed(policy)).release is None
    assert "`release`" in refused(changed(lambda m: m.update(schema="edgevla.bundle/2")))


@pytest.mark.parametrize(
    "schema", ["edgevla.bundle/1", "edgevla.bundle/0", "edgevla.bundle/03", "edgevla.bundle/", "x/3", 3, None]
)
def test_an_older_or_unknown_schema_is_refused(schema: object) -> None:
    assert "`schema`" in refused(changed(lambda m: m.update(schema=schema)))


FAULTS: dict[str, Callable[[Table], object]] = {
    "`name` is wrong": lambda m: m.pop("name"),
    "`name`": lambda m: m.update(name="../arm"),
    "`files` is wrong": lambda m: m.update(files=[]),
    "1 to 4096 files": lambda m: m.update(files={}),
    "4096 files": lambda m: m.update(files={f"f{n}": ENTRY for n in range(4097)}),
    "z.txt` is wrong": lambda m: m["files"].update({"z.txt": 1}),
    "z.txt: sha256": lambda m: m["files"]["z.txt"].update(sha256="A" * 64),
    "z.txt: bytes": lambda m: m["files"]["z.txt"].update(bytes=-1),
    "z.txt: bytes` is wrong": lambda m: m["files"]["z.txt"].update(bytes=True),
    "[0, 8589934591]": lambda m: m["files"]["z.txt"].update(bytes=8 * 1024**3),
    "17179869184 bytes in all": lambda m: m["files"].update({f"b{n}": {**ENTRY, "bytes": 2**33 - 1} for n in range(3)}),
    "a folder model, as model/head.onnx lies in it": lambda m: m["files"].update(model=ENTRY),
    "`release` is wrong": lambda m: m.pop("release"),
    "`release`": lambda m: m.update(release=[]),
    "release: envelope": lambda m: m["release"].pop("envelope"),
    "release: counter": lambda m: m["release"].update(counter=0),
    "release: counter` is wrong": lambda m: m["release"].update(counter=2**53),
    "in [1, 9007199254740991]": lambda m: m["release"].update(counter="7"),
    "release: target": lambda m: m["release"].update(target="a/b"),
    "release: arch": lambda m: m["release"].update(arch=""),
    "release: python": lambda m: m["release"].update(python="3"),
    "release: wheels": lambda m: m["release"].update(wheels=WHEEL),
    "listed in `files`": lambda m: m["release"].update(wheels=["runtime/wheels/other.whl"]),
    "release: wheels` is wrong": lambda m: m["release"].update(wheels=[1]),
    "paths of wheels": lambda m: m["release"].update(wheels=["z.txt"]),
    "each wheel once": lambda m: m["release"].update(wheels=[WHEEL, WHEEL]),
    "listed in `wheels`": lambda m: m["release"].update(wheels=[]),
    "release: needs_gpu_wheel": lambda m: m["release"].update(needs_gpu_wheel=0),
}


@pytest.mark.parametrize("said", FAULTS)
def test_an_envelope_that_lies_is_refused_by_key(said: str) -> None:
    assert said in refused(changed(FAULTS[said]))


def test_the_bounds_themselves_are_allowed() -> None:
    def largest(manifest: Table) -> None:
        rest = {f"f{n}": {**ENTRY, "bytes": 0} for n in range(4096 - len(FILES))}
        manifest["files"].update({**rest, "f0": {**ENTRY, "bytes": 2**33 - 1}})
        manifest["release"]["counter"] = 2**53 - 1

    found = parse_envelope(changed(largest))
    assert len(found.files) == 4096
    assert found.release is not None
    assert found.release.counter == 2**53 - 1
    small = sum(map(len, FILES.values()))
    sizes = {"a": 2**33 - 1, "b": 2**33 - 1 - small, "c": 2}
    full = {name: {**ENTRY, "bytes": size} for name, size in sizes.items()}
    assert parse_envelope(changed(lambda m: m["files"].update(full))).total_bytes == 16 * 1024**3


@pytest.mark.parametrize("key", sorted(RELEASE))
def test_every_key_of_a_release_must_be_there(key: str) -> None:
    assert f"release: {key}` is wrong" in refused(changed(lambda m: m["release"].pop(key)))


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "", ".hidden", "a/.git", "-rf", "a\\b", "a b", "a\n",
     "\u00e9", "a\0b", "manifest.json", "manifest.sha256", "manifest.sig", "/".join("abcdefghi"), "x" * 129,
     "/".join(["y" * 100] * 3)],
)  # fmt: skip
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    assert "path is not allowed" in refused(changed(lambda m: m["files"].update({path: ENTRY})))


@pytest.mark.parametrize("path", ["runtime/units/can@.service", "runtime/wheels/a-1.0+jp6-py3-none-any.whl", "x" * 128])
def test_names_of_units_and_wheels_are_plain(path: str) -> None:
    assert path in parse_envelope(changed(lambda m: m["files"].update({path: ENTRY}))).files


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0", b"{", b"null", b"[]", b"NaN", b"\xff", b'{"schema": NaN}', b"[" * 100_000, b"9" * 5000, b'"\\ud800"',
     b'{"a":1,"a":1}', b" " * (4 * 1024 * 1024 + 1), b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_what_is_no_manifest_is_one_refusal(raw: bytes) -> None:
    assert "manifest.json" in refused(raw)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_one_refusal(data: bytes) -> None:
    fuzzed.check(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(raw_of(manifest_of())) - 1), st.binary(min_size=1, max_size=6))
def test_a_manifest_with_a_few_bytes_changed_is_an_envelope_or_one_refusal(place: int, piece: bytes) -> None:
    raw = raw_of(manifest_of())
    fuzzed.check(raw[:place] + piece + raw[place + len(piece) :])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = ["schema", "name", "files", "release", *(f"release.{key}" for key in RELEASE), "files.z.txt"]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), json_values)
def test_any_value_anywhere_is_an_envelope_or_one_refusal(place: str, value: object) -> None:
    def put(manifest: Table) -> None:
        top, _, inner = place.partition(".")
        if inner:
            manifest[top][inner] = value
        else:
            manifest[top] = value

    fuzzed.check(changed(put))
