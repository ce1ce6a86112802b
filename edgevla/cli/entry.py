"""The console script: small, so that Ctrl-C while the rest is imported is one line and no traceback."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
_SAYS = b"error: stopped by Ctrl-C\n"


def main() -> None:
    """Entry point of the `edgevla` command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: `&` in a script
        signal.signal(signal.SIGINT, _end_at_once)
    from edgevla.cli.main import main as run  # takes a second on a small computer

    run()


def imported() -> None:
    """From here on Ctrl-C is the command's own: KeyboardInterrupt, as ever."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(*_: object) -> None:
    """Nothing is open yet. An exception would end in whichever library is imported just then."""
    os.write(2, _SAYS)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
