"""What the fuzzer asks of the readers, asked of some hundred inputs in every run of the tests; no atheris needed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edgevla.trust.fuzz import archive, envelope, store

pieces = st.lists(st.tuples(st.integers(0, 2**16 - 1), st.binary(min_size=1, max_size=20)), min_size=1, max_size=4)


@pytest.mark.parametrize("target", [archive, envelope, store])
def test_every_seed_is_read_and_every_cut_of_it_is_taken_or_refused(target: object) -> None:
    for seed in target.seeds():  # type: ignore[attr-defined]
        for length in range(0, len(seed) + 1, 1 + len(seed) // 200):
            target.check(seed[:length])  # type: ignore[attr-defined]


def test_the_right_archive_is_taken_by_every_way() -> None:
    taken = []

    class Seen(archive.Plain):
        def finish(self) -> None:
            super().finish()
            taken.append(True)

    archive.taken(lambda file, _: Seen(file.read()), archive.RIGHT)
    assert taken == [True]


@settings(max_examples=300, deadline=None)
@given(pieces)
def test_an_archive_with_pieces_replaced_is_refused_or_the_same(changes: list[tuple[int, bytes]]) -> None:
    archive.check(b"\2" + b"".join(at.to_bytes(2, "little") + bytes((len(raw),)) + raw for at, raw in changes))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_no_archive(data: bytes) -> None:
    archive.check(b"\0" + data)
    archive.check(b"\1" + data)
    archive.check(b"\0" + bytes.fromhex("28b52ffd0468") + data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(store.seeds()[1]) - 1), st.binary(min_size=1, max_size=5))
def test_a_trust_file_with_a_few_bytes_changed_is_a_store_or_one_refusal(place: int, piece: bytes) -> None:
    raw = store.seeds()[1]
    store.check(raw[:place] + piece + raw[place + len(piece) :])
