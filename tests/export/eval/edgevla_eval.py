"""`edgevla eval` whether or not the installed metadata already names the command."""

import sys
from importlib.metadata import EntryPoint
from unittest.mock import patch

from edgevla.cli import main


def edgevla_eval(*arguments: object) -> int:
    """Its exit code."""
    found = [entry for entry in main._entries() if entry.name != "eval"]
    entries = [*found, EntryPoint("eval", "export.eval_cli:evaluate", main.GROUP)]
    with patch.object(main, "_entries", lambda: entries):
        return main.run_command(["eval", *map(str, arguments)])


if __name__ == "__main__":
    sys.exit(edgevla_eval(*sys.argv[1:]))
