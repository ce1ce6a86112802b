"""Whom a robot believes: pinning, rotation, revocation, a serial that only rises, and no clock anywhere."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgevla.trust
from edgevla.errors import BadInput
from edgevla.trust.store import TrustStore, parse_store, pinned
from tests.edgevla.trust.releases import KEY, STORE, key_of, manifest_of, raw_of

RAW = raw_of(manifest_of())
A, B, C = (key_of(number) for number in (1, 2, 3))
IDS = [key.public.id for key in (A, B, C)]


def store_of(serial: int, keys: list[Any], revoked: list[Any] | None = None) -> TrustStore:
    ids = tuple(sorted(key.public.id for key in revoked or []))
    return TrustStore(serial, {key.public.id: key.public for key in keys}, ids)


def spoilt(**changes: Any) -> bytes:
    return json.dumps({**json.loads(STORE.to_bytes()), **changes}).encode()


def test_the_key_that_signed_is_named() -> None:
    store = store_of(1, [A, B])
    assert store.judge(RAW, A.sign(RAW)) == A.public.id
    assert store.judge(RAW, B.sign(RAW)) == B.public.id
    assert store.check(RAW, B.sign(RAW)).name == "arm"


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (None, "the bundle is not signed"),
        (b"", "0 bytes in manifest.sig instead of 64"),
        (A.sign(RAW)[:-1], "63 bytes in manifest.sig"),
        (A.sign(RAW) + b"\0", "65 bytes in manifest.sig"),
        (bytes(64), "another key's, or manifest.json was altered"),
        (B.sign(RAW), "another key's, or manifest.json was altered"),
        (A.sign(RAW + b"\n"), "another key's, or manifest.json was altered"),
    ],
)
def test_every_other_signature_is_one_clear_refusal(signature: bytes | None, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        STORE.judge(RAW, signature)
    assert said in str(caught.value)
    assert A.public.id in str(caught.value)  # the key that is expected


def test_an_unsigned_manifest_is_not_even_parsed() -> None:
    with pytest.raises(BadInput, match="not signed"):
        STORE.check(b"{" * 10_000_000, None)


def test_a_signature_by_a_revoked_key_is_refused_and_names_the_key() -> None:
    store = store_of(2, [A, B], [A])
    with pytest.raises(BadInput, match=f"signed by a revoked key(.|\n)*{A.public.id}, revoked"):
        store.judge(RAW, A.sign(RAW))
    assert store.judge(RAW, B.sign(RAW)) == B.public.id


def test_a_revoked_key_whose_bytes_nobody_kept_is_refused_like_an_unknown_one() -> None:
    with pytest.raises(BadInput, match="signature is wrong"):
        store_of(2, [B], [A]).judge(RAW, A.sign(RAW))


def test_a_key_is_rotated_in_two_releases_and_the_old_one_never_returns() -> None:
    both = STORE.updated(STORE.changed([B.public], []))  # came in a release signed by A
    assert both.judge(RAW, A.sign(RAW))
    assert both.judge(RAW, B.sign(RAW))
    new = both.updated(both.changed([], [A.public.id]))  # came in a release signed by B
    assert (new.serial, list(new.valid), new.revoked) == (3, [B.public.id], (A.public.id,))
    with pytest.raises(BadInput, match="revoked key"):
        new.judge(RAW, A.sign(RAW))
    for back in (STORE, both, store_of(4, [A, B]), store_of(4, [A])):
        with pytest.raises(BadInput, match=r"older|takes back a revocation"):
            new.updated(back)
    with pytest.raises(BadInput, match="is revoked"):
        new.changed([A.public], [])
    again = new.updated(store_of(4, [A, B], [A]))  # its bytes may be sent: to name it, not to believe it
    assert list(again.valid) == [B.public.id]


def test_an_update_that_leaves_a_key_out_ends_its_trust_but_still_names_it_when_revoked() -> None:
    after = store_of(1, [A, B]).updated(store_of(2, [B], [A]))
    with pytest.raises(BadInput, match=f"{A.public.id}, revoked"):
        after.judge(RAW, A.sign(RAW))
    dropped = store_of(1, [A, B]).updated(store_of(2, [B]))
    with pytest.raises(BadInput, match="signature is wrong"):
        dropped.judge(RAW, A.sign(RAW))


@pytest.mark.parametrize("serial", [1, 2, 4])
def test_an_update_of_a_lower_serial_or_the_same_with_other_keys_is_refused(serial: int) -> None:
    with pytest.raises(BadInput, match=f"serial above 4(.|\n)*got:      {serial}"):
        store_of(4, [A]).updated(store_of(serial, [A, B]))


def test_the_same_update_again_changes_nothing_as_power_may_fail_behind_it() -> None:
    update = store_of(2, [B], [A])
    once = STORE.updated(update)
    assert once.updated(update) == once


@pytest.mark.parametrize("update", [store_of(2, []), store_of(2, [A], [A]), store_of(2, [A, B], [A, B])])
def test_one_key_always_stays(update: TrustStore) -> None:
    with pytest.raises(BadInput, match="no key is left"):
        STORE.updated(update)


def test_nothing_is_pinned_without_a_key() -> None:
    with pytest.raises(BadInput, match="no key is left"):
        pinned([])


def test_what_is_not_known_cannot_be_revoked_by_a_slip() -> None:
    with pytest.raises(BadInput, match="no key 'abc' to revoke"):
        STORE.changed([B.public], ["abc"])
    with pytest.raises(BadInput, match="no key is left"):
        STORE.changed([], [A.public.id])


def test_the_file_is_what_the_documents_say_and_reads_back() -> None:
    store = store_of(2, [A, B], [B])
    assert json.loads(store.to_bytes()) == {
        "schema": "edgevla.trust/1",
        "serial": 2,
        "keys": {key.public.id: key.public.pem for key in (A, B)},
        "revoked": [B.public.id],
    }
    assert parse_store(store.to_bytes()) == store
    assert parse_store(store.to_bytes()).to_bytes() == store.to_bytes()


def test_the_highest_serial_is_allowed() -> None:
    assert parse_store(spoilt(serial=2**53 - 1)).serial == 2**53 - 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "`schema` is wrong"),
        (b"null", "`schema` is wrong"),
        (b'{"schema": 1}', "`schema` is wrong"),
        (spoilt(schema="edgevla.trust/2"), "update edgevla"),
        (b'{"schema": "edgevla.trust/1", "schema": "edgevla.trust/1"}', "a key is said twice"),
        (spoilt(expires="2030-01-01"), "expires"),
        (json.dumps({"schema": "edgevla.trust/1"}).encode(), "is wrong"),
        (spoilt(serial=0), "`serial`"),
        (spoilt(serial=True), "`serial`"),
        (spoilt(serial="1"), "`serial`"),
        (spoilt(serial=1.0), "`serial`"),
        (spoilt(serial=2**53), "`serial`"),
        (spoilt(keys={}), "`keys`"),
        (spoilt(keys=[A.public.pem]), "`keys`"),
        (spoilt(keys={A.public.id: 1}), "a public key in PEM"),
        (spoilt(keys={A.public.id: "x"}), "cannot be used"),
        (spoilt(keys={B.public.id: A.public.pem}), f"{A.public.id}, the id of that key"),
        (spoilt(keys={f"{n:016x}": A.public.pem for n in range(65)}), "`keys`"),
        (spoilt(revoked={}), "`revoked`"),
        (spoilt(revoked=[1]), "`revoked`"),
        (spoilt(revoked=["ABCDEF0123456789"]), "`revoked`"),
        (spoilt(revoked=["0" * 16] * 2), "each id once"),
        (spoilt(revoked=[f"{n:016x}" for n in range(1025)]), "`revoked`"),
        (spoilt(revoked=[A.public.id]), "no key is left"),
        (b" " * (256 * 1024 + 1), "262144 bytes at most"),
    ],
)
def test_a_trust_file_that_is_wrong_is_refused_by_key(raw: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=r"etc/trust\.json") as caught:
        parse_store(raw, "etc/trust.json")
    assert said in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sets(st.sampled_from([1, 2, 3])), st.sets(st.sampled_from([1, 2, 3]))),
        max_size=6,
    )
)
def test_whatever_updates_come_serials_rise_revocations_stay_and_a_key_is_left(updates: list[Any]) -> None:
    store = STORE
    for serial, keys, revoked in updates:
        before = store
        try:
            store = store.updated(store_of(serial, [key_of(n) for n in keys], [key_of(n) for n in revoked]))
        except BadInput:
            continue
        assert store == before or store.serial > before.serial
        assert set(before.revoked) <= set(store.revoked)
        assert store.valid
        assert not set(store.valid) & set(store.revoked)


def test_trust_asks_no_clock() -> None:
    """Nothing that tells the time is imported where trust is judged."""
    for path in Path(edgevla.trust.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"time", "datetime", "calendar"} & set(names), path.name
    assert KEY is not None
