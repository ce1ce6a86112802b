"""What the commands of `edgevla deploy` do, apart from printing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import profiles
from edgevla.deploy.connection import connect
from edgevla.deploy.local import choose, open_release, require_target
from edgevla.deploy.plan import Plan, Reach
from edgevla.deploy.progress import Screen
from edgevla.deploy.remembered import remember, user_file
from edgevla.deploy.robot import look
from edgevla.deploy.session import Deploy, Report, ShowTable, Wish
from edgevla.errors import BadInput, DeviceFault, explain
from edgevla.install.robot_config import load_robot_config

EventHandler = Callable[[dict[str, Any]], None]


async def install(plan: Plan, choices: dict[str, Any], robot: Path | None, screen: Screen, show: ShowTable) -> Report:
    """One install; `choices` are fields of `Wish`. Raises Refused, BadInput, DeviceFault, Usage, OSError."""
    if plan.taken():
        screen.step(plan.taken())
    reach, source = plan.reach(), choose(plan.bundle(), plan.targets)
    if robot is not None:
        load_robot_config(robot)  # what is wrong in it is said before anything travels
    with open_release(source, plan.key()) as local:
        require_target(local, plan.targets)
        who = f"signed by {local.key.id}" if local.key else "signed; whether by a pinned key, the robot says"
        screen.step(f"{source.name}: release {local.envelope.id}, counter {local.release.counter}", who)
        target = profiles.load_target(local.folder / "profiles" / "target.toml")
        wish = Wish(reach, target, plan.key(), robot_toml=robot.read_bytes() if robot else None, **choices)
        report = await Deploy(wish, local, screen, show).run()
    kept = plan.remembers and report.state in ("installed", "unchanged") and plan.file in (None, user_file())
    if kept:
        _remember(plan, screen)
    return report


def _remember(plan: Plan, screen: Screen) -> None:
    """A file that cannot be written does not undo a deploy: its exit code tells of the robot."""
    try:
        if remember(user_file(), plan.target, plan.to_remember()):
            screen.step(f"remembered in {user_file()}", f"next time: edgevla deploy --target {plan.target}")
    except (OSError, BadInput) as error:
        screen.warn(f"not remembered in {user_file()}: {str(error).splitlines()[0]}")


async def ask(
    reach: Reach, do: str, fields: dict[str, Any] | None = None, on_event: EventHandler | None = None
) -> dict[str, Any]:
    """One request to the robot's installer. Raises DeviceFault where there is none, and what it says."""
    async with connect(reach.where, reach.ssh_config) as connection:
        robot = await look(connection, reach.prefix)
        if not robot.probe.agent:
            got, todo = f"nothing in {reach.prefix}", "edgevla deploy NAME.tar.zst --host USER@HOST --key release.pub"
            raise DeviceFault(explain(f"{reach.where} has no installer", "one, provisioned", got, todo))
        async with robot.agent() as client:
            return await client.request(do, fields, on_event=on_event, timeout_s=600.0)
