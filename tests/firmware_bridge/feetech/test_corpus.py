"""The committed corpus of the fuzz target, and what it is made of, once more without the fuzzer."""

from pathlib import Path

import pytest

from firmware_bridge.feetech import codec

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "feetech").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_an_input_of_the_corpus_is_taken_apart_and_told(path):
    data = path.read_bytes()
    pieces = codec.split(data)
    assert b"".join(pieces) == data
    assert all(codec.describe(piece) for piece in pieces)
    packets = codec.Decoder().feed(data)
    assert packets == [codec.Packet(p[2], p[4], p[5:-1]) for p in pieces if codec.describe(p)[:4] != "junk"]
