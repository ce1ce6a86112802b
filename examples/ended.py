"""How a command ends: an exit code, and words instead of a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edgevla.errors import EdgevlaError

STOPPED = 130  # exit code after Ctrl-C, as of a shell


def ended(
    work: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, given: Sequence[str] | None
) -> int:
    """Does the work of a command; returns its exit code, and says in words what went wrong."""
    arguments = parser.parse_args(given)
    try:
        work(arguments)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return STOPPED
    return 0
