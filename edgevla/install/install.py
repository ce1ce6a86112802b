"""The steps of an install, in the order of the design (section 7), and the way back from each of them.

Until `stop` nothing that runs is touched. From then on a failure ends with the old release running again. Killed at
any point, the boot selector finds a good release: state.json says that the new one is on trial before `current` leads
to it, and that it is good only after the health window.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, explain
from edgevla.install.after import after_good
from edgevla.install.durable import sync_disk, write_file
from edgevla.install.layout import Layout, linked_id
from edgevla.install.settings import are_new, keep_settings, new_digest, restore_settings
from edgevla.install.state import State, change_state, read_state
from edgevla.install.steps import SAID, Options, Outcome, Say, Step, each_tried, undisturbed, walk
from edgevla.install.switch import (
    go_back,
    healthy,
    require_torque_off,
    restore_units,
    start_release,
    switch_to,
    units_of,
)
from edgevla.install.tools import Tools
from edgevla.install.trial import Trial
from edgevla.install.unpack import unpack_release, verify_bundle
from edgevla.trust.envelope import Envelope

_KINDS: dict[int, type[EdgevlaError]] = {3: Unsound, 4: BadInput, 5: DeviceFault}


@dataclass
class Install:
    """One install of a release that is complete in staging, or unpacked. The caller holds the installer's lock."""

    layout: Layout
    release_id: str
    tools: Tools
    options: Options
    say: Say
    _stopped: bool = False
    _placed: bool = False  # the udev rules
    _torque: str = "unknown"
    _trials: list[Trial] = field(default_factory=list)
    _verified: list[Envelope] = field(default_factory=list)

    def run(self) -> Outcome:
        """All steps. Raises BadInput where state.json is damaged; every other error is in the outcome, and then what
        ran before runs again."""
        before = linked_id(self.layout.current)
        good = before == self.release_id and before in read_state(self.layout).good
        if good and self.tools.manager.is_active() and not are_new(self.layout):
            return Outcome(self.release_id, True, "already installed")
        told = walk(self.steps(), self.say)
        if told is None:
            return Outcome(self.release_id, True, "", 0, after_good(self.layout, self.release_id, self.options.keep))
        acts: list[Callable[[], object]] = [
            lambda: self._write_record(told["text"]),
            lambda: go_back(self.layout, self.tools, before),
        ]
        untouched: list[Callable[[], object]] = [lambda: restore_settings(self.layout)]
        if self._placed:
            untouched.append(lambda: restore_units(self.layout, self.tools))
        with undisturbed():
            warnings = each_tried(acts if self._stopped else untouched)
        return Outcome(self.release_id, False, told["text"], told["exit_code"], warnings)

    def steps(self) -> tuple[Step, ...]:
        """In this order."""
        release, tools = self.layout.release(self.release_id), self.tools
        operating = "servo, bus, cameras, recorder and policy at operating rate, torque off"
        return (
            Step("verify", "signature, trust, machine, counter and every hash", self._verify),
            Step("torque", "torque of the arm", self._look_at_torque),
            Step("unpack", "release folder, wheels unpacked", lambda: unpack_release(self.layout, self._verified[0])),
            Step("stop", "cameras confirmed, udev rules placed, the service stopped, disarmed", self._stop),
            Step("engines", "engines of this device", lambda: self._engines(release)),
            Step("golden", "golden vectors on this device", lambda: self._tried(tools.golden(release))),
            Step("self-test", operating, lambda: self._tried(tools.selftest(release))),
            Step("switch", "`current` leads to the release, on trial", self._switch),
            Step("start", "the service is started", lambda: start_release(self.layout, self.release_id, tools)),
            Step("health", "disarmed ticks of the started service", lambda: healthy(tools, self.options)),
            Step("good", "marked good", self._mark_good),
        )

    def _verify(self) -> None:
        self._verified.append(verify_bundle(self.layout, self.release_id))

    def _look_at_torque(self) -> Mapping[str, Any]:
        figures = require_torque_off(self.tools, self.options)
        self._torque = figures["torque"]
        return figures

    def _stop(self) -> Mapping[str, Any]:
        self.tools.cameras(self.layout.release(self.release_id))
        idle = not self.tools.manager.is_active()
        if idle:  # first, so that a port which these rules name can be looked at
            self._place_rules()
        found: dict[str, Any] = {}
        if self._torque != "off":  # nothing here could look at the arm: the release that was just verified can
            found = require_torque_off(self.tools, self.options, self.layout.release(self.release_id))
        self._stopped = True  # before it: whatever it did until it failed is taken back
        self.tools.manager.stop()
        if not idle:  # udev touches no port that is in use
            self._place_rules()
        return {key: value for key, value in found.items() if key != SAID}

    def _place_rules(self) -> None:
        if units := units_of(self.layout, self.release_id):
            self._placed = True
            self.tools.manager.place_rules(units, self.tools.port)

    def _engines(self, release: Path) -> Mapping[str, Any]:
        figures = self._tried(self.tools.engines(release))
        if figures.get("engines"):
            sync_disk(release)  # another process wrote them; they are read at every start
        return figures

    def _tried(self, trial: Trial) -> Mapping[str, Any]:
        """Its figures. Raises Refused, BadInput, DeviceFault when it was not kept."""
        self._trials.append(trial)
        if not trial.kept:
            todo = f"every figure: {self.layout.release(self.release_id)}/installed.json on the robot"
            raise _KINDS.get(trial.exit_code, Refused)(explain(f"{trial.name} failed", "kept", trial.why, todo))
        return trial.figures

    def _switch(self) -> None:
        self._write_record("")
        state = change_state(self.layout, lambda now: now.on_trial(self.release_id))
        switch_to(self.layout, self.release_id, state)

    def _mark_good(self) -> None:
        release = self._verified[0].release
        counter = release.counter if release else 0
        settings = new_digest(self.layout)

        def mark(now: State) -> State:
            on_trial = now.trial is not None and now.trial.id == self.release_id
            if linked_id(self.layout.current) != self.release_id or not (on_trial or self.release_id in now.good):
                got, todo = "another one: something changed it meanwhile", "deploy again"
                raise Refused(explain("the release on trial is not current any more", self.release_id, got, todo))
            return now.marked_good(self.release_id, counter, settings)

        change_state(self.layout, mark)
        keep_settings(self.layout)  # only now: until the mark they go with the trial

    def _write_record(self, why: str) -> None:
        """installed.json: what this device made of the release."""
        release = self.layout.release(self.release_id)
        engines = [dict(trial.figures).get("engines", {}) for trial in self._trials if trial.name == "engines"]
        data = {
            "id": self.release_id,
            "engines": engines[0] if engines else {},
            "trials": [asdict(trial) for trial in self._trials],
            "why": why,
        }
        write_file(release / "installed.json", (json.dumps(data, indent=1, default=str) + "\n").encode())
