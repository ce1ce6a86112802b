"""python -m bench.bus [-o bench/results/bus.json] [--protocol NAME ...] [--rounds N]"""

from __future__ import annotations

import sys

import typer

from bench.bus.command import bus
from edgevla.cli.output import print_error
from edgevla.errors import EdgevlaError
from firmware_bridge.errors import BridgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(bus)


def main() -> int:
    """The exit codes of edgevla."""
    try:
        app(standalone_mode=False)
    except (EdgevlaError, BridgeError) as error:
        print_error(str(error))
        return error.exit_code
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:  # typer's own: a wrong option
        if hasattr(error, "format_message"):
            print_error(error.format_message())
            return 2
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
