"""Durations as people type them."""

import pytest

from export.budget import parse_duration_s


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("7m", 420), ("1.5h", 5400), (" 2m ", 120), ("0.5s", 0.5)])
def test_a_number_with_its_unit_is_seconds(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "m", "-3m", "0s", "7 m", "7min", "1e3s", "nan", "infs"])
def test_anything_else_is_refused_with_what_came(text):
    with pytest.raises(ValueError, match="a number with s, m or h"):
        parse_duration_s(text)
