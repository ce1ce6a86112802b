"""A process that makes one inference per line and says how it went; one that cannot run says why."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.peers.engines import PEERS
from edgevla.errors import Unsound, explain

START_S = 900.0  # a compiler of a large model takes minutes
ANSWER_S = 120.0
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Contender:
    """`failed` is empty where it runs. Ends with `close`."""

    def __init__(self, folder: Path, peer: str, threads: int, cache: Path, settle: int = 2) -> None:
        self.peer, self.threads, self.last = peer, threads, {"ns": 0}
        command = [sys.executable, "-m", "bench.peers.serve", str(folder), "--peer", PEERS[peer].name]
        command += ["--threads", str(threads), "--settle", str(settle)]
        pipe = subprocess.PIPE
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=self._said,
            env=_environment(threads, cache),
            start_new_session=True,
        )
        told = self._answer(START_S)
        self.failed = str(told.get("failed", ""))
        self.precision = str(told.get("precision", ""))

    def __call__(self) -> None:
        """One inference; `last` says its ns and the memory. Raises Unsound: the process ended."""
        self.last = self._ask("infer", ANSWER_S)

    def probe(self) -> dict[str, int]:
        """The last inference by the contender's own clock."""
        return {"inside": int(self.last["ns"])}

    def answers(self, out: Path) -> None:
        """The chunks of every frame into a .npy."""
        self._ask(f"answer {out}", START_S)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # with what a compiler started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()

    def _ask(self, line: str, patience_s: float) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
            told = self._answer(patience_s)
        if not told or "failed" in told:
            got = told.get("failed", f"exit {self._process.poll()}")
            todo = f"run it by hand to see why: {' '.join(map(str, self._process.args))}"  # type: ignore[arg-type]
            raise Unsound(explain(f"{self.peer} stopped answering", "an answer to each line", got, todo))
        return told

    def _answer(self, patience_s: float) -> dict[str, Any]:
        out = self._process.stdout
        if out is None or not select.select([out], [], [], patience_s)[0]:
            return {"failed": f"no answer within {patience_s:g} s"}
        if line := out.readline():
            return dict(json.loads(line))
        self._said.seek(0)
        words = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return {"failed": f"exit {self._process.wait()}: {words[-1][:300] if words else 'silence'}"}


def _environment(threads: int, cache: Path) -> dict[str, str]:
    compiler = {"TORCHINDUCTOR_CACHE_DIR": str(cache.resolve()), "OPENVINO_LOG_LEVEL": "0"}
    return {**os.environ, **dict.fromkeys(THREADS, str(threads)), **compiler, "TOKENIZERS_PARALLELISM": "false"}
