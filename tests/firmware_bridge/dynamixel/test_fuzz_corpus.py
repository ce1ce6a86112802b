"""Every input that the fuzzer kept, once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware_bridge.fuzz.dynamixel import check

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "dynamixel").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_the_fuzzer_found_stays_harmless(path):
    check(path.read_bytes())
