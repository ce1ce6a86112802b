"""The arm of a stand-in: virtual, on this machine, at the other end of a serial line that the robot has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.stand_in.steps import REPO, Broken

PROFILE = Path(__file__).with_name("emulated_arm.toml")
_DIALOUT = 20  # Debian's number of the group that may open serial ports


class VirtualArm:
    """Started by `with`; `port` is a terminal of this machine that the arm answers on."""

    def __init__(self) -> None:
        words = ["-m", "edgevla.cli.main", "sim-arm", str(PROFILE)]
        environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            ["chrt", "--fifo", "50", sys.executable, *words],  # hardware is never busy with something else
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=REPO,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Broken("the virtual arm did not start")
        self.port = str(json.loads(line)["port"])
        os.chown(self.port, 0, _DIALOUT)
        os.chmod(self.port, 0o660)

    def __enter__(self) -> VirtualArm:
        return self

    def __exit__(self, *why: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
