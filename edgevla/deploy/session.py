"""One deploy from the first packet to the last, in the order of the design (section 7).

connect -> provision where nothing is pinned -> preflight -> copy what changed -> verify -> install, whose steps the
robot's own installer takes. Everything before `offer` changes nothing on a provisioned robot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevla.cli.output import megabytes
from edgevla.deploy.agent_client import STEP_TIMEOUT_S, AgentClient
from edgevla.deploy.ask import ask_line, require_rest
from edgevla.deploy.chunks import index_files
from edgevla.deploy.connection import connect
from edgevla.deploy.facts import facts_of, findings_of, require_settings
from edgevla.deploy.index import ChunkIndex, encode_index
from edgevla.deploy.judged import require_judged
from edgevla.deploy.local import LocalRelease
from edgevla.deploy.plan import Reach
from edgevla.deploy.preflight import Situation, judge, require_go
from edgevla.deploy.probe import require_machine
from edgevla.deploy.progress import Screen
from edgevla.deploy.robot import Robot, look
from edgevla.deploy.said import hello_text, holder_text, is_good, is_installing
from edgevla.deploy.transfer import send_chunks, wanted_chunks
from edgevla.doctor.finding import Finding
from edgevla.errors import Refused, Usage, explain
from edgevla.install.robot_config import parse_robot_config
from edgevla.install.staging import MAX_MISSING
from profiles import Target

_LOOK_S = 1.0  # between looks at an install that another call began

ShowTable = Callable[[str, list[Finding]], None]


@dataclass(frozen=True)
class Wish:
    """What the person wants of this deploy."""

    reach: Reach
    target: Target
    key_file: Path | None = None
    pin: str = ""  # fingerprint that was compared before: no question at the first provisioning
    robot_toml: bytes | None = None  # the robot's own settings, replaced before anything else
    dry_run: bool = False
    yes: bool = False  # the arm is at rest, even where its torque cannot be known
    options: dict[str, Any] = field(default_factory=dict)  # of `install`: health_ticks, ...


@dataclass
class Report:
    """What a deploy did; filled in as it goes. `state`: provisioned | dry-run | unchanged | installed | failed."""

    host: str
    bundle: str
    id: str
    counter: int
    target: str
    state: str = ""
    changed: bool = False  # key, settings or a release were written on the robot, even where it returned
    why: str = ""
    exit_code: int = 0
    warnings: list[str] = field(default_factory=list)
    preflight: list[Finding] = field(default_factory=list)
    bundle_bytes: int = 0
    missing_bytes: int = 0  # of chunks that the robot did not have
    moved_bytes: int = 0  # both ways, frames of the protocol
    steps: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, start_s: float) -> None:
        """A part of it took from `start_s` (monotonic) until now."""
        self.seconds[name] = round(time.monotonic() - start_s, 3)


class Deploy:
    """One call of `edgevla deploy`. Raises on the way what went wrong; `report` says how far it came."""

    def __init__(self, wish: Wish, local: LocalRelease, screen: Screen, show: ShowTable) -> None:
        self.wish, self.local, self.screen, self.show = wish, local, screen, show
        envelope, release = local.envelope, local.release
        self.report = Report(str(wish.reach.where), str(local.source), envelope.id, release.counter, wish.target.name)
        self.report.bundle_bytes = envelope.total_bytes

    async def run(self) -> Report:
        """Raises Refused, BadInput, DeviceFault, Usage."""
        start, reach = time.monotonic(), self.wish.reach
        async with connect(reach.where, reach.ssh_config) as connection:
            robot = await look(connection, reach.prefix)
            self.report.timed("connect", start)
            if not robot.probe.agent and not await self._provision(robot):
                return self.report
            async with robot.agent() as client:
                try:
                    await self._with(client)
                finally:
                    self.report.moved_bytes = client.sent_bytes + client.received_bytes
                    self.report.timed("all", start)
        return self.report

    async def _with(self, client: AgentClient) -> None:
        hello = await self._after_others(client, await client.request("hello"))
        if self.report.state:  # the install that was watched has ended
            return
        self.screen.step(f"connected to {self.report.host}", hello_text(hello))
        hello, changed = self._with_settings(hello)
        good = is_good(hello, self.report.id) and not changed
        if good and (await client.request("status")).get("active") is not False:
            self.report.state = "unchanged"
            return
        await self._preflight(client, hello)
        if self.wish.dry_run:
            self.report.state = "dry-run"
            return
        self.report.changed = True
        if changed and self.wish.robot_toml is not None:  # the robot takes the old ones back where the install fails
            await client.request("configure", {"robot_toml": self.wish.robot_toml.decode("utf-8", "replace")})
            self.screen.step("the robot's own settings are written", f"{self.wish.reach.prefix}/etc/robot.toml")
        await self._copy(client)
        await self._install(client)

    def _with_settings(self, hello: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What the robot says, with the settings that come in place of its own; whether they are others."""
        if self.wish.robot_toml is None:
            return hello, False
        wanted = parse_robot_config(self.wish.robot_toml, "robot.toml").as_dict()
        return {**hello, "robot": wanted}, wanted != hello.get("robot")

    async def _after_others(self, client: AgentClient, hello: dict[str, Any]) -> dict[str, Any]:
        """Where an install of this release is at work, of a call that lost its connection: watch it to its end.

        Raises Refused where something else is at work.
        """
        if not hello.get("locked") or self.wish.dry_run:
            return hello
        status = await client.request("status")
        if not is_installing(status, self.report.id):
            todo = "wait for it: `edgevla deploy status` says how far it is"
            got = holder_text(status)
            raise Refused(explain(f"another deploy is at work on {self.report.host}", "one at a time", got, todo))
        self.screen.step("an install of this release is at work there already; watching it")
        seen = 0
        while True:
            lines = status["deploy"]
            for line in lines[seen:]:
                if "step" in line:
                    self._event(line)
            seen = len(lines)
            if not is_installing(status, self.report.id) or not status.get("locked"):
                break
            await asyncio.sleep(_LOOK_S)
            status = await client.request("status")
        await self._ended(client, status.get("outcome") or {})
        return await client.request("hello")

    async def _ended(self, client: AgentClient, outcome: dict[str, Any]) -> None:
        """How an install ended; what the robot runs where it failed."""
        self.report.changed = True
        self.report.warnings += [str(text) for text in outcome.get("warnings") or []]
        if outcome.get("good") is True:
            self.report.state = "installed"
            return
        status = await client.request("status")
        runs, active = status.get("current"), status.get("active") is True
        self.report.state, self.report.exit_code = "failed", int(outcome.get("exit_code") or 1)
        why = outcome.get("why") or "the robot's installer was ended"
        idle = f"release {runs} is installed, and its service does not run" if runs else "nothing runs"
        self.report.why = f"{why}\n  now:      {f'release {runs} runs again' if runs and active else idle}"

    async def _provision(self, robot: Robot) -> bool:
        """Bring the installer and pin the key; False where that is as far as this call goes."""
        where, key = self.report.host, self.local.key
        require_machine(robot.probe, self.local.release, where)
        if self.wish.dry_run:
            self.report.state = "dry-run"
            self.report.why = f"{where} has no installer and trusts no key yet: the deploy would provision it"
            return False
        if key is None or self.wish.key_file is None:
            todo = "pass --key release.pub, the public half of the key that signed the bundle"
            raise Usage(explain(f"{where} trusts no key yet", "the key to pin", "no --key", todo))
        self._confirm(key.fingerprint)
        self.report.changed, start = True, time.monotonic()
        said = await robot.provision(self.local, self.wish.key_file)
        self.report.timed("provision", start)
        self.screen.step("provisioned: the robot has the installer and trusts the key", key.id)
        if not said.strip():
            self.report.warnings.append("provision.py printed nothing")
        robot.probe = (await look(robot.connection, robot.prefix)).probe
        return True

    def _confirm(self, fingerprint: str) -> None:
        """The key's fingerprint was compared with one told by another way. Raises Refused."""
        pin = "".join(self.wish.pin.split()).replace(":", "").lower()
        if not pin:
            what = f"{self.report.host} trusts no key yet. It will take only bundles that are signed by the key"
            self.screen.warn(f"{what}\n  {fingerprint}")
            pin = ask_line("Type the first 8 digits of the fingerprint that you were told by another way: ").lower()
            if pin and len(pin) >= 8 and fingerprint.startswith(pin):
                return
        if pin != fingerprint:
            what, todo = "the key is not pinned", "compare it where the key was made, then pass --pin FINGERPRINT"
            raise Refused(explain(what, f"the fingerprint {fingerprint}", pin or "no answer", todo))

    async def _preflight(self, client: AgentClient, hello: dict[str, Any]) -> None:
        start, folder = time.monotonic(), self.local.folder
        profiles = {f"{name}_toml": (folder / f"profiles/{name}.toml").read_text() for name in ("target", "arm")}
        said = await client.request("preflight", {**profiles, "port": self._port(hello)})
        situation = Situation(
            facts_of(said.get("facts") or {}),
            findings_of(said.get("findings") or []),
            str(said.get("torque", "unknown")),
            str(said.get("why", "")),
            time.time(),
            int(hello.get("counter_floor") or 0),
            tuple(hello.get("good") or ()),
            str((hello.get("robot") or {}).get("service", "")),
        )
        rows = judge(self.wish.target, self.local.envelope, self.local.release, situation)
        self.report.preflight = rows
        self.report.timed("preflight", start)
        self.show(f"preflight of {self.report.host}", rows)
        require_go(rows, self.report.host)
        await require_judged(client, hello, self.local, self.screen)
        if not self.wish.dry_run:
            require_settings(hello)
        if not (situation.torque == "off" or self.wish.yes or self.wish.dry_run):
            require_rest(situation.torque_why)

    def _port(self, hello: dict[str, Any]) -> str:
        """Where the arm is: as the settings say that a dry run does not write, else as the robot's own do."""
        if self.wish.robot_toml is not None:
            return parse_robot_config(self.wish.robot_toml).port
        robot = hello.get("robot")
        return str(robot.get("port", "")) if isinstance(robot, dict) else ""

    async def _copy(self, client: AgentClient) -> None:
        """The files of the bundle in staging on the robot, every hash verified there."""
        start, head = time.monotonic(), self.local.head
        index = await asyncio.to_thread(index_files, self.local.folder, self.local.envelope.files)
        self.report.timed("chunks", start)
        raw = encode_index(index)
        sizes = {"manifest_bytes": len(head.manifest), "signature_bytes": len(head.signature or b"")}
        offer = {**sizes, "index_bytes": len(raw)}
        payload = b"".join((head.manifest, head.signature or b"", raw))
        start = time.monotonic()
        while (offered := await _offer(client, offer, payload)).get("state") != "installed":
            hashes = offered.get("missing") or []
            await self._send(client, index, hashes)
            if len(hashes) < MAX_MISSING:  # an answer names no more at once
                await client.request("assemble", {"release": self.report.id}, timeout_s=STEP_TIMEOUT_S)
                self.screen.step("verified every file on the robot", f"{len(self.local.envelope.files)} files")
                break
        else:
            self.screen.step("the release is there already")
        self.report.timed("copy", start)

    async def _send(self, client: AgentClient, index: ChunkIndex, hashes: list[Any]) -> None:
        """Send these chunks, with a bar."""
        wanted = wanted_chunks(index, hashes)
        total = sum(chunk.length for chunk in wanted)
        self.report.missing_bytes += total
        if not total:
            return
        start = time.monotonic()
        with self.screen.transfer("copying what changed", total) as advance:
            await send_chunks(client, self.local.folder, index, wanted, advance)
        rate = total / max(time.monotonic() - start, 1e-3)
        of = f"{megabytes(total)} of {megabytes(self.report.bundle_bytes)}"
        self.screen.step("copied what changed", f"{of}, {megabytes(int(rate))}/s")

    async def _install(self, client: AgentClient) -> None:
        start = time.monotonic()
        options = {**self.wish.options, "accept_unknown_torque": self.wish.yes}
        result = await client.request(
            "install", {"release": self.report.id, "options": options}, on_event=self._event, timeout_s=STEP_TIMEOUT_S
        )
        self.report.timed("install", start)
        await self._ended(client, result)

    def _event(self, event: dict[str, Any]) -> None:
        self.report.steps.append(event)
        self.screen.event(event)


async def _offer(client: AgentClient, sizes: dict[str, int], payload: bytes) -> dict[str, Any]:
    """What the robot misses; it looks through what it has first, on a card that takes minutes."""
    return await client.request("offer", sizes, payload, timeout_s=STEP_TIMEOUT_S)
