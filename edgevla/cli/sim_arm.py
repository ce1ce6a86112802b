"""`edgevla sim-arm`: a virtual arm to connect to by hand."""

from __future__ import annotations

import typer

from edgevla.cli.stopping import Stdout, until_told
from edgevla.errors import Usage, explain

_PLANTS = ("metaworld", "integrator")
_OF_THE_SCENE = ("sim", "seed", "half_way", "plant", "period_s")
_OF_ACTUATORS = ("paced", "gravity_nm")
_PROFILE = typer.Argument("metaworld-sawyer", metavar="[PROFILE]", help="Arm profile; or a .toml of your own")


def sim_arm(
    context: typer.Context,
    profile: str = _PROFILE,
    sim: str = typer.Option("drawer-open-v3", "--sim", help="Meta-World task"),
    seed: int = typer.Option(0, min=0, help="Seed of the scene"),
    half_way: bool = typer.Option(False, "--half-way", help="Start with the drawer or window half open"),
    plant: str = typer.Option(
        "metaworld", help="metaworld, or integrator: no simulator, set-points are reached at once"
    ),
    period_s: float = typer.Option(0.0125, help="T, the step of the plant in seconds, 0.0001 to 10"),
    paced: bool = typer.Option(False, "--paced", help="As slow as the wire of the profile; not of metaworld-sawyer"),
    gravity_nm: float = typer.Option(0.2, min=0.0, help="That pulls each joint down, N m; not of metaworld-sawyer"),
    as_json: bool = typer.Option(False, "--json", help="Changes nothing: the output is one JSON object a line always"),
) -> None:
    """Start a virtual arm; prints one JSON line with its port, ends with Ctrl-D, Ctrl-C or SIGTERM.

    metaworld-sawyer has a simulated scene. Every other profile has virtual actuators, byte-true, one process a bus;
    what happens to them is a JSON line on stdin: {"do": "unplug"}, see `python -m firmware_bridge.virtual`.

    Example: edgevla sim-arm so101
    """
    del as_json
    if plant not in _PLANTS:
        raise Usage(explain("unknown --plant", " or ".join(_PLANTS), plant, "see `edgevla sim-arm --help`"))
    _require_its_own(context, profile)
    if profile != "metaworld-sawyer":
        from edgevla.bus.virtual_arm import run

        with until_told():
            run(profile, paced, gravity_nm, Stdout().reader_left)
        return
    from edgevla.sim.virtual_arm import main

    flags = ["--half-way"] if half_way else []
    options = ["--sim", sim, "--seed", str(seed), "--plant", plant, "--period-s", str(period_s)]
    raise typer.Exit(main([*options, *flags]))


def _require_its_own(context: typer.Context, profile: str) -> None:
    """Raises Usage for an option that the profile's virtual arm does not have."""
    others = _OF_ACTUATORS if profile == "metaworld-sawyer" else _OF_THE_SCENE
    given = [name for name in others if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"]
    if given:
        mine = _OF_THE_SCENE if profile == "metaworld-sawyer" else _OF_ACTUATORS
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        expected = ", ".join(f"--{name.replace('_', '-')}" for name in mine)
        todo = f"leave {names} out; see `edgevla sim-arm --help`"
        raise Usage(explain(f"options that the virtual {profile} does not have", expected, names, todo))
