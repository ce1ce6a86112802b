"""Types of numbers on a command line."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """1 or more. Raises ArgumentTypeError."""
    return _at_least(1, text)


def count(text: str) -> int:
    """0 or more. Raises ArgumentTypeError."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.lstrip("-").isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
    return int(text)
