"""The engine of a bundle with ONNX Runtime's profiler on and a stamp at both ends of every graph: for one short run.

Named by a plan instead of `edgevla.policy.process:bundle_engine`. `$EDGEVLA_PROFILE` is JSON: the folder for what
it finds, and after how many inferences, those of the warm-up included, that is written: beside the loop, which goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from edgevla.control.config import PolicyConfig
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import Float32, Images
from edgevla.policy.providers import RunsOn

FACTORY = "bench.profile.engine:traced"
TOLD = "EDGEVLA_PROFILE"
MARKS = "marks.json"


class Stamped:
    """A session that notes when each of its runs began and ended."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.runs: list[tuple[int, int]] = []  # CLOCK_MONOTONIC ns
        self.ended = False  # no more of them are noted

    def run(self, outputs: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        """As that of ONNX Runtime."""
        begin_ns = time.monotonic_ns()
        answers: list[Any] = self.session.run(outputs, feeds)
        if not self.ended:
            self.runs.append((begin_ns, time.monotonic_ns()))
        return answers


class TracedEngine(PolicyEngine):
    """Profiles `inferences` of them: what ran where is not read back from it."""

    def __init__(self, config: PolicyConfig, folder: Path, inferences: int) -> None:
        from edgevla.bundle.reader import open_bundle

        runs_on = RunsOn(config.providers, config.provider_options, config.spinning, config.engines)
        super().__init__(open_bundle(config.bundle), threads=config.threads, runs_on=runs_on, read_back=True)
        self._folder, self._left = folder, inferences
        self._stamped = {name: Stamped(session) for name, session in self._sessions.items()}
        self._sessions = dict(self._stamped)
        self.writer = threading.Thread(target=self._write, name="profile")

    def node_providers(self) -> dict[str, dict[str, int]]:
        """Not asked: the profile goes on."""
        return {}

    def infer(self, images: Images, state: Float32, prefix: Float32) -> Float32:
        """As that of a bundle."""
        if self._left == 0:
            self.finish_profile()
        self._left -= 1
        return super().infer(images, state, prefix)

    def finish_profile(self) -> None:
        """No more runs are noted, and those that were are being written. A second call does nothing."""
        if self.writer.ident is None:
            for stamped in self._stamped.values():
                stamped.ended = True
            self.writer.start()

    def _write(self) -> None:
        """Profiles and stamps into the folder; the file of the stamps comes last and says that all is there."""
        for name, stamped in self._stamped.items():
            shutil.move(stamped.session.end_profiling(), self._folder / f"{name}.json")
        marks = {name: stamped.runs for name, stamped in self._stamped.items()}
        part = self._folder / f"{MARKS}.part"
        part.write_text(json.dumps(marks))
        part.replace(self._folder / MARKS)


def traced(config: PolicyConfig) -> TracedEngine:
    """The factory."""
    told = json.loads(os.environ[TOLD])
    engine = TracedEngine(config, Path(told["folder"]), int(told["inferences"]))

    def end(*_: object) -> None:
        engine.finish_profile()
        engine.writer.join()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    return engine
