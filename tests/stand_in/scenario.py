"""A robot's life under the real `edgevla deploy`: installed, killed, upgraded, failed and returned, rolled back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.stand_in import deploys, hardening
from tests.stand_in.releases import Done, Releases, edgevla
from tests.stand_in.remote import Remote
from tests.stand_in.steps import Broken, Steps

PREFIX, SERVICE, _BOOT = "/opt/edgevla", "edgevla.service", "edgevla-boot.service"
_ROBOT_TOML = """service = "systemd"
port = "{serial}"
instruction = "open the drawer"
"""
_RESET_AT = ("unpack", "self-test")  # while the old release runs, and while none does
_INTO_STEP_S = 10
_TICKS = 50  # of 100 ms
_LIMIT_S = 1200
# pid, scheduling class, real-time priority of every thread of the service, and what its processes keep in memory.
_THREADS = """for pid in $(cat $(find /sys/fs/cgroup -path '*/{unit}/cgroup.procs') | sort -u); do
  ps -L -o pid=,cls=,rtprio= -p $pid; grep VmLck /proc/$pid/status; done"""

_SAYS = """{prefix}/current/venv/bin/python3 -I -B -c 'from pathlib import Path
from edgevla.install.watch import status_of
told = status_of(Path("/run/edgevla"))
print("" if told["phase"] is None else told["phase"] + ", torque " + told["torque"])'"""


@dataclass
class Scenario:
    """One robot. Each method is one step, in the order that `run` has them."""

    steps: Steps
    name: str
    remote: Remote
    releases: Releases
    serial: str
    home: Path
    drop_in: str = ""
    seccomp: bool = True  # whether the unit's filters exist there
    sshd_port: int = 22
    reset: Callable[[], None] | None = None  # returns when it answers again

    def run(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "robot.toml").write_text(_ROBOT_TOML.format(serial=self.serial))
        if self.drop_in:
            for unit in (SERVICE, _BOOT, "run-.service"):  # the last: what systemd-run starts, as the self-test
                self.remote.put(self.drop_in.encode(), f"/etc/systemd/system/{unit}.d/stand-in.conf")
        self._step("provision and install the first release", self.install)
        self._step("service under SCHED_FIFO", self.real_time)
        self._step("the installed unit, hardened", self.hardened)
        self._step("servo stopped: watchdog, restart", self.watchdog)
        if self.reset is not None:
            self._step("upgrade, reset in the middle of it, twice", self.reset_mid_upgrade)
        self._step("upgrade", self.upgrade)
        self._step("failed upgrade, automatic return", self.failed_upgrade)
        self._step("rollback", self.rollback)
        self._step("offline archive", self.offline)
        self._step("gc, logs", self.clean_up)
        log = self.remote.run(f"cat {PREFIX}/{deploys.LOG}").out
        self.steps.facts.setdefault("deploys", {})[self.name] = deploys.deploys_of(log.splitlines())

    def _step(self, text: str, do: Callable[[], None]) -> None:
        with self.steps.step(f"{self.name}: {text}"):
            do()

    def install(self) -> None:
        trust = ["--key", self.releases.key, "--pin", self.releases.fingerprint]
        done = self._deploy(self.releases.first, *trust, "--robot", self.home / "robot.toml")
        self._good("installed", done)
        self._runs("first")
        golden = self.remote.run(f"cat {PREFIX}/current/installed.json").out
        self.steps.note(golden)
        self.steps.check("golden vectors in the local record", "there", "there", "golden" in golden)

    def real_time(self) -> None:
        said = self.remote.run(_THREADS.format(unit=SERVICE), check=False).out
        self.steps.note(said)
        rows = [line.split() for line in said.splitlines()]
        fifo = [row for row in rows if len(row) == 3 and row[1] == "FF"]
        locked = [int(row[1]) for row in rows if row[:1] == ["VmLck:"]]
        self.steps.check(
            "servo", "FF 80", " ".join(fifo[0][1:]) if fifo else "none", ["FF", "80"] in [r[1:] for r in fifo]
        )
        chosen = self.remote.run(f"systemctl show -P Result {_BOOT}").out.strip()
        self.steps.check("boot selector", "success", chosen, chosen == "success")
        self.steps.check("memory it keeps", "some", f"{max(locked, default=0)} kB", any(locked))

    def hardened(self) -> None:
        """The unit that was installed, with the probe in the place of the run: the arm's port is free meanwhile."""
        unit = self.remote.run(f"systemctl stop {SERVICE} && cat /etc/systemd/system/{SERVICE}", timeout_s=300).out
        found = hardening.probe(self.remote, unit, f"{self.sshd_port} {self.serial}", self.drop_in)
        hardening.judge(self.steps, found, self.seccomp)
        self.steps.say(
            "  " + self.remote.run(f"systemd-analyze security {SERVICE} | tail -n 1", check=False).out.strip()
        )
        self.remote.run(f"systemctl start {SERVICE}", timeout_s=300)
        self._runs("first")

    def watchdog(self) -> None:
        before = self._restarts()
        servo = self.remote.run(_THREADS.format(unit=SERVICE), check=False).out
        pid = next((line.split()[0] for line in servo.splitlines() if " FF " in line), "")
        self.remote.run(f"kill -STOP {pid}")
        after_s = self._wait(lambda: self._restarts() > before and self._active(), "a restart by the watchdog", 300)
        said = self.remote.run(
            f"journalctl -q -u {SERVICE} --no-pager -o cat | grep -i 'watchdog timeout'", check=False
        ).out
        self.steps.check("its watchdog", "a timeout in the journal", said.splitlines()[-1:], "imeout" in said)
        self.steps.say(f"  active again {after_s:.0f} s after the servo was stopped")
        self._runs("first")

    def reset_mid_upgrade(self) -> None:
        """The reset line in the middle of two installs: the old release runs again each time."""
        assert self.reset is not None
        for at in _RESET_AT:
            with ThreadPoolExecutor(1) as pool:
                cut_off = pool.submit(self._deploy, self.releases.second)
                self._until_step(at, cut_off)
                time.sleep(_INTO_STEP_S)
                self.reset()
                code = cut_off.result().code
            self.steps.check(f"a deploy cut off at its step `{at}`", "not 0", code, code != 0)
            self._runs("first")

    def _until_step(self, name: str, deploy: Future[Done]) -> None:
        """Until the robot is at that step of a deploy. Raises Broken: the deploy ended before, or it never came."""
        self._wait(lambda: deploy.done() or self._last_step() == name, f"step {name}", _LIMIT_S)
        if deploy.done():
            raise Broken(f"the deploy ended before its step `{name}`: {deploy.result().err[-800:]}")

    def upgrade(self) -> None:
        done = self._deploy(self.releases.second)
        self._good("upgraded", done)
        self.steps.facts.setdefault("delta_bytes", {})[self.name] = done.said.get("moved_bytes")
        self._runs("second")

    def failed_upgrade(self) -> None:
        done = self._deploy(self.releases.wrong)
        said = json.dumps(done.said) + done.err
        self.steps.check("exit code of a release with wrong answers", 1, done.code, done.code == 1)
        self.steps.check("its reason", "names the golden vectors", done.said.get("why"), "golden" in said)
        self._runs("second")

    def rollback(self) -> None:
        done = edgevla("deploy", "rollback", *self._where(), *self._options(), home=self.home, limit_s=_LIMIT_S)
        self.steps.note(json.dumps(done.said) + "\n" + done.err)
        self.steps.check("rollback", 0, done.code, done.code == 0)
        self._runs("first")

    def offline(self) -> None:
        self.remote.run("mkdir -p /media/stick")
        self.remote.run("cat > /media/stick/third.tar.zst", stdin=self.releases.third.read_bytes(), timeout_s=300)
        words = f"deploy --offline /media/stick/third.tar.zst --yes --health-ticks {_TICKS}"
        done = self.remote.run(f"{PREFIX}/current/venv/bin/edgevla {words}", timeout_s=_LIMIT_S, check=False)
        self.steps.note(done.said)
        self.steps.check("edgevla deploy --offline on the robot", 0, done.code, done.code == 0)
        self._runs("third")

    def clean_up(self) -> None:
        done = edgevla("deploy", "gc", "--keep", 1, *self._where(), home=self.home)
        self.steps.note(json.dumps(done.said))
        self.steps.check("gc", 0, done.code, done.code == 0)
        logs = edgevla("deploy", "logs", *self._where(), home=self.home)
        self.steps.check("logs", "the reason of the failed upgrade", "there", "golden" in json.dumps(logs.said))
        self._runs("third")

    def _deploy(self, release: Path, *more: object) -> Done:
        words = ["deploy", release, *self._where(), *self._options(), *more]
        done = edgevla(*words, home=self.home, limit_s=_LIMIT_S)
        self.steps.note(done.err + "\n" + json.dumps(done.said))
        return done

    def _where(self) -> list[object]:
        return ["--target", self.releases.target, "--host", "robot", "--ssh-config", self.remote.config]

    @staticmethod
    def _options() -> list[object]:
        return ["--yes", "--health-ticks", _TICKS]

    def _good(self, what: str, done: Done) -> None:
        self.steps.check(what, "exit code 0", f"exit code {done.code}", done.code == 0)

    def _runs(self, name: str) -> None:
        """The service is active, on the release of that name, and disarmed."""
        self._wait(self._active, f"{SERVICE} active", 180)
        got = self._name()
        self.steps.check("runs", name, got, got == name)
        self._wait(lambda: " " in self._says(), "figures of the run", 120)
        said = self._says()
        self.steps.check("says of itself", "disarmed, torque off", said, said == "disarmed, torque off")

    def _says(self) -> str:
        """Phase and torque by the run's own socket, "" while it is starting."""
        return self.remote.run(_SAYS.format(prefix=PREFIX), check=False).out.strip()

    def _name(self) -> str:
        return str(json.loads(self.remote.run(f"cat {PREFIX}/current/bundle/manifest.json").out)["name"])

    def _last_step(self) -> str:
        """The step that a deploy is at, "" when it is at none."""
        line = json.loads(self.remote.run(f"tail -n 1 {PREFIX}/log/deploy.jsonl").out)
        return "" if line.get("done") else str(line.get("name", ""))

    def _active(self) -> bool:
        return self.remote.run(f"systemctl is-active {SERVICE}", check=False).out.strip() == "active"

    def _restarts(self) -> int:
        return int(self.remote.run(f"systemctl show -P NRestarts {SERVICE}").out)

    def _wait(self, until: Callable[[], bool], what: str, limit_s: float) -> float:
        began_s = time.monotonic()
        while time.monotonic() - began_s < limit_s:
            if until():
                return time.monotonic() - began_s
            time.sleep(1)
        raise Broken(f"no {what} within {limit_s:g} s")
