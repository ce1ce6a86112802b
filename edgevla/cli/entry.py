"""The console script: small, so that Ctrl-C while the rest is imported is one line and no traceback."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point of the `edgevla` command."""
    try:
        from edgevla.cli.main import main as run  # takes a second on a small computer

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped by Ctrl-C\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
