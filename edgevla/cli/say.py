"""`edgevla say`: give a run that is going another instruction, or ask it how it is. It cannot arm."""

from __future__ import annotations

from pathlib import Path

import typer

from edgevla.cli.output import JSON_OPTION, print_json
from edgevla.cli.output import say as say_line
from edgevla.errors import Usage, explain
from edgevla.operate.ask import ask, find

_INSTRUCTION = typer.Argument("", help="What to do, in the policy's words; with --status none")
_SOCKET = typer.Option(None, "--socket", metavar="PATH", help="Socket of the run, instead of its name")


def say(
    instruction: str = _INSTRUCTION,
    status: bool = typer.Option(False, "--status", help="Print the state of the run as JSON instead"),
    name: str = typer.Option("", "--name", help="Which run; needed where several are going"),
    socket: Path | None = _SOCKET,
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a run another instruction; it acts within r + d ticks. This cannot arm, stop or quit.

    Example: edgevla say "close the drawer"
    """
    if bool(instruction.strip()) == status:
        got = "both" if status else "neither"
        raise Usage(
            explain("what shall the run hear?", "an instruction or --status", got, 'edgevla say "close the drawer"')
        )
    place = find(name, socket)
    if status:
        print_json(ask(place, {"status": True}))
        return
    answer = ask(place, {"say": instruction})
    if as_json:
        print_json(answer)
    else:
        say_line(f"{answer['instruction']!r} acts within {answer['acts_within_ticks']} ticks")
