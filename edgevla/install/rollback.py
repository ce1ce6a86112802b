"""Back to an installed good release: torque, stop, switch, start, health; and back again when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.install.layout import Layout, linked_id
from edgevla.install.releases import back_to
from edgevla.install.state import State, change_state
from edgevla.install.steps import Options, Outcome, Say, Step, each_tried, undisturbed, walk
from edgevla.install.switch import go_back, healthy, require_torque_off, start_release, switch_to
from edgevla.install.tools import Tools
from edgevla.install.unpack import check_release


class Rollback:
    """One rollback. Both releases are good, so at no point is none. The caller holds the installer's lock."""

    def __init__(self, layout: Layout, wanted: str | None, tools: Tools, options: Options, say: Say) -> None:
        self._layout, self._tools, self._options, self._say = layout, tools, options, say
        self._target, self._wanted, self._stopped = wanted or "", wanted, False

    def run(self) -> Outcome:
        """Raises nothing: every error is in the outcome, and then what ran before runs again."""
        before = linked_id(self._layout.current)
        told = walk(self.steps(), self._say)
        if told is None:
            return Outcome(self._target, True, "")
        with undisturbed():
            warnings = each_tried([lambda: go_back(self._layout, self._tools, before)]) if self._stopped else ()
        return Outcome(self._target, False, told["text"], told["exit_code"], warnings)

    def steps(self) -> tuple[Step, ...]:
        """In this order."""
        layout, tools = self._layout, self._tools
        return (
            Step("verify", "every file of the release is as it was installed", self._verify),
            Step("torque", "torque of the arm", lambda: require_torque_off(tools, self._options)),
            Step("stop", "the service is stopped, disarmed", self._stop),
            Step("switch", "`current` leads to the release", self._switch),
            Step("start", "the service is started", lambda: start_release(layout, self._target, tools)),
            Step("health", "disarmed ticks of the started service", lambda: healthy(tools, self._options)),
        )

    def _verify(self) -> Mapping[str, Any]:
        self._target = back_to(self._layout, self._wanted)
        check_release(self._layout, self._target)
        return {"id": self._target}

    def _stop(self) -> None:
        self._stopped = True
        self._tools.manager.stop()

    def _switch(self) -> None:
        switch_to(self._layout, self._target, change_state(self._layout, State.without_trial))
