"""`edgevla sim-arm`: a virtual arm to connect to by hand."""

from __future__ import annotations

import typer

from edgevla.errors import Usage, explain

_PLANTS = ("metaworld", "integrator")


def sim_arm(
    sim: str = typer.Option("drawer-open-v3", "--sim", help="Meta-World task"),
    seed: int = typer.Option(0, min=0, help="Seed of the scene"),
    half_way: bool = typer.Option(False, "--half-way", help="Start with the drawer or window half open"),
    plant: str = typer.Option(
        "metaworld", help="metaworld, or integrator: no simulator, set-points are reached at once"
    ),
    period_s: float = typer.Option(0.0125, help="T, the step of the plant in seconds, 0.0001 to 10"),
    as_json: bool = typer.Option(False, "--json", help="Changes nothing: the output is one JSON object a line always"),
) -> None:
    """Start a virtual arm on a pty; prints one JSON line with its port, ends with Ctrl-D or Ctrl-C.

    Example: edgevla sim-arm --plant integrator
    """
    del as_json
    if plant not in _PLANTS:
        raise Usage(explain("unknown --plant", " or ".join(_PLANTS), plant, "see `edgevla sim-arm --help`"))
    from edgevla.sim.virtual_arm import main

    flags = ["--half-way"] if half_way else []
    options = ["--sim", sim, "--seed", str(seed), "--plant", plant, "--period-s", str(period_s)]
    raise typer.Exit(main([*options, *flags]))
