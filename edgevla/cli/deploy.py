"""`edgevla deploy`: a signed release onto a robot over SSH, and what one asks of a robot afterwards.

`edgevla deploy BUNDLE ...` is `edgevla deploy install BUNDLE ...`: what is no command is an argument of `install`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from edgevla.cli import deploy_show as show
from edgevla.cli.output import JSON_OPTION
from edgevla.deploy.plan import DEFAULT_PREFIX, Plan, Reach, plan_install, plan_look
from edgevla.deploy.remembered import Remembered
from edgevla.install.steps import Options


class DefaultInstall(TyperGroup):
    """A group whose first word may be left out where it is `install`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = bool(args) and args[0] in {*self.commands, "--help", "-h"}  # help of all, not of one
        return list(super().parse_args(ctx, args if known else ["install", *args]))


app = typer.Typer(
    cls=DefaultInstall,
    help="Install a signed release on a robot over SSH; look at what it runs; go back.\n\n"
    "`edgevla deploy BUNDLE ...` is `edgevla deploy install BUNDLE ...`: its options are in "
    "`edgevla deploy install --help`. What was kept is remembered: the next deploy is one line.",
    epilog="Example: edgevla deploy --target jetson-orin",
    subcommand_metavar="[install] [BUNDLE] | COMMAND ...",
)

TARGET = typer.Option("", help="Name or .toml of the target; default: the bundle's, or the only one of deploy.toml")
HOST = typer.Option("", help="USER@HOST[:PORT] or a Host of ssh's config; default: as deploy.toml says")
PREFIX = typer.Option("", help="Folder of the installation on the robot; default: /opt/edgevla")
SSH_CONFIG = typer.Option("", "--ssh-config", help="As `ssh -F`, in place of ~/.ssh/config and /etc/ssh/ssh_config")
YES = typer.Option(False, "--yes", "-y", help="The arm is at rest, also where its torque cannot be known")
TICKS = typer.Option(
    Options().health_ticks, "--health-ticks", min=1, show_default=True, help="Disarmed ticks that the service must keep"
)


@app.command()
def install(
    bundle: str = typer.Argument("", help="NAME.tar.zst, NAME.bundle, or a folder of them: the highest counter"),
    target: str = TARGET,
    host: str = HOST,
    key: str = typer.Option("", help="Public key of its signer: checked before it travels, pinned the first time"),
    pin: str = typer.Option("", help="Fingerprint that you compared: provisions a new robot without a question"),
    robot: Path | None = typer.Option(None, help="robot.toml with this robot's port, cameras and instruction"),
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    dry_run: bool = typer.Option(False, "--dry-run", help="Verify, connect, show the preflight table; change nothing"),
    yes: bool = YES,
    health_ticks: int = TICKS,
    remember: bool = typer.Option(True, help="Read deploy.toml, and write it when the deploy was kept"),
    offline: Path | None = typer.Option(None, help="On the robot itself: install this archive, without a network"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Install a signed release on a robot: preflight, copy what changed, verify, test on the device, switch, watch.

    Whatever fails, the old release runs again. Host, bundle and key of a deploy that was kept are remembered in
    deploy.toml, so that the next one is one line. Also: edgevla deploy status, releases, rollback, gc, logs.

    Exit: 0 installed, or nothing to do; 1 refused, or broken and returned to the old release; 2 usage; 3 the
    self-test could not measure soundly; 4 bad bundle, signature or settings; 5 no connection, or the device failed.

    Example: edgevla deploy --target jetson-orin
    """
    if offline is not None:
        from edgevla.deploy.offline import install_archive

        show.outcome(install_archive(offline, prefix or DEFAULT_PREFIX, _options(health_ticks, yes)), as_json)
        return
    plan = plan_install(Remembered(host, bundle, key, prefix, ssh_config), target, remember)
    from edgevla.deploy import run

    choices = {"pin": pin, "dry_run": dry_run, "yes": yes, "options": _options(health_ticks, yes)}
    table = show.no_table if as_json else show.table
    with run.Screen(as_json) as screen:
        done = asyncio.run(run.install(plan, choices, robot, screen, table))
    show.report(done, as_json)


@app.command()
def status(
    target: str = TARGET,
    host: str = HOST,
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    as_json: bool = JSON_OPTION,
) -> None:
    """What a robot runs, what is on trial, and how far a deploy is that is at work.

    Example: edgevla deploy status --target jetson-orin
    """
    show.status(_ask(target, host, prefix, ssh_config, "status"), as_json)


@app.command()
def releases(
    target: str = TARGET,
    host: str = HOST,
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    as_json: bool = JSON_OPTION,
) -> None:
    """Releases on a robot, the newest good one first.

    Example: edgevla deploy releases --target jetson-orin
    """
    show.releases(_ask(target, host, prefix, ssh_config, "releases"), as_json)


@app.command()
def rollback(
    release: str = typer.Argument("", help="Id of a release that was good here; default: the one before"),
    target: str = TARGET,
    host: str = HOST,
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    yes: bool = YES,
    health_ticks: int = TICKS,
    as_json: bool = JSON_OPTION,
) -> None:
    """Go back to an installed release that was good here: stop, switch, start, watch.

    Example: edgevla deploy rollback --target jetson-orin
    """
    from edgevla.deploy.progress import Screen

    fields = {"release": release or None, "options": _options(health_ticks, yes)}
    with Screen(as_json) as screen:
        done = _ask(target, host, prefix, ssh_config, "rollback", fields, screen.event)
    show.outcome(done, as_json)


@app.command()
def gc(
    keep: int = typer.Option(3, min=1, help="Good releases that stay, beside the current and the previous one"),
    target: str = TARGET,
    host: str = HOST,
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    as_json: bool = JSON_OPTION,
) -> None:
    """Remove old releases and what interrupted deploys left on a robot.

    Example: edgevla deploy gc --keep 2 --target jetson-orin
    """
    show.removed(_ask(target, host, prefix, ssh_config, "gc", {"keep": keep}), as_json)


@app.command()
def logs(
    lines: int = typer.Option(50, min=1, max=10_000, help="The newest lines of each"),
    target: str = TARGET,
    host: str = HOST,
    prefix: str = PREFIX,
    ssh_config: str = SSH_CONFIG,
    as_json: bool = JSON_OPTION,
) -> None:
    """The newest lines of the service's log and of the deploys' on a robot.

    Example: edgevla deploy logs --lines 100 --target jetson-orin
    """
    show.logs(_ask(target, host, prefix, ssh_config, "logs", {"lines": lines}), as_json)


def _options(ticks: int, yes: bool) -> dict[str, Any]:
    return {"health_ticks": ticks, "accept_unknown_torque": yes}


def _ask(
    target: str,
    host: str,
    prefix: str,
    ssh_config: str,
    do: str,
    fields: dict[str, Any] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    plan = plan_look(Remembered(host=host, prefix=prefix, ssh_config=ssh_config), target)
    from edgevla.deploy import run

    return asyncio.run(run.ask(_said_reach(plan), do, fields, on_event))


def _said_reach(plan: Plan) -> Reach:
    if said := plan.taken(("host", "prefix", "ssh_config")):
        typer.echo(f"· {said}", err=True)
    return plan.reach()
