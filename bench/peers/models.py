"""Windows of the engines: all that run a model asked in turn, once a round, in an order drawn anew; and their rows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.case import Case, load
from bench.peers.contender import Contender
from bench.peers.engines import OURS, PEERS, REFERENCE
from bench.smolvla.build import compare
from edgevla.errors import BadInput, Unsound, explain
from edgevla.telemetry.interleaved import measure, paired_ratio, summarise

KEPT_OPEN = 20_000_000  # parameters: smaller ones stay open from window to window, as a compiler needs minutes
SHARE = 0.7  # of the free memory that the engines of one group may take together
_OVERHEAD = 400_000_000  # bytes of a process with an engine and no model
_KILO = 1024


@dataclass
class Engines:
    """Contenders, opened when they are asked for. `cache`: of compilers."""

    cache: Path
    open_ones: dict[tuple[str, int, str], Contender] = field(default_factory=dict)

    def of(self, folder: Path, threads: int, peers: Sequence[str], settle: int) -> list[Contender]:
        found = []
        for peer in peers:
            key = (str(folder), threads, peer)
            if key not in self.open_ones:
                self.open_ones[key] = Contender(folder, peer, threads, self.cache, settle)
            found.append(self.open_ones[key])
        return found

    def close(self, but_below: int = 0) -> None:
        """All of them, or those of cases that are not smaller than that."""
        for key, contender in list(self.open_ones.items()):
            if load(Path(key[0])).parameters >= but_below:
                contender.close()
                del self.open_ones[key]

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def made(folder: Path, asked: Sequence[str]) -> Case:
    """The case in `folder`, made if it is not there. Raises BadInput with the end of what the maker said."""
    if not (folder / "case.json").is_file():
        command = [sys.executable, "-m", "bench.peers.make", str(folder), *asked]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            got = f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
            raise BadInput(explain("a model for the peers", "graphs of it", got, "mend that; then call it again"))
    return load(folder)


def groups(case: Case, peers: Sequence[str], free_bytes: int) -> list[list[str]]:
    """Peers that fit beside each other; ours is in each group, as every ratio is against it. Pure."""
    found: list[list[str]] = []
    room = 0.0
    for peer in (name for name in peers if name != OURS):
        need = _bytes(case, peer)
        if not found or need > room:
            found.append([OURS])
            room = free_bytes * SHARE - _bytes(case, OURS)
        found[-1].append(peer)
        room -= need
    return found or [[OURS]]


def _bytes(case: Case, peer: str) -> float:
    return case.parameters * PEERS[peer].memory + _OVERHEAD


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * _KILO
    return 0


def window(
    engines: Engines, folder: Path, threads: int, peers: Sequence[str], rounds: int, settle: int, seed: int
) -> dict[str, Any]:
    """One window, all groups: ns of every round by peer, errors, memory, and why some did not run."""
    case = load(folder)
    found: dict[str, Any] = {"ns": [], "failed": {}, "errors": {}, "rss_mb": {}, "precision": {}, "stolen_s": 0.0}
    for group in groups(case, peers, free_bytes()):
        _one_group(engines, folder, threads, group, rounds, settle, seed, found)
        engines.close(but_below=KEPT_OPEN)
    return found


def _one_group(
    engines: Engines, folder: Path, threads: int, group: Sequence[str], rounds: int, settle: int, seed: int,
    found: dict[str, Any],
) -> None:  # fmt: skip
    contenders = engines.of(folder, threads, group, settle)
    found["failed"] |= {c.peer: c.failed for c in contenders if c.failed}
    running = {c.peer: c for c in contenders if not c.failed}
    if OURS not in running:
        raise Unsound(explain("our own int8 did not run", "an answer", found["failed"].get(OURS), "see why"))
    run = measure(running, rounds, warmup=2, seed=seed, probes={name: c.probe for name, c in running.items()})
    found["ns"].append({name: [int(v) for v in run.ns[f"{name}/inside"]] for name in running})
    found["stolen_s"] += run.stolen_s or 0.0
    found["rss_mb"] |= {name: round(c.last["rss_mb"], 1) for name, c in running.items()}
    found["precision"] |= {name: c.precision for name, c in running.items() if c.precision}
    found["errors"] |= _errors(folder, load(folder), running)


def _errors(folder: Path, case: Case, running: Mapping[str, Contender]) -> dict[str, Any]:
    """Each one's chunks against those of ONNX Runtime FP32, over the frames of the case, normalised."""
    with tempfile.TemporaryDirectory(prefix="edgevla-peers-") as name:
        chunks = {peer: _answers(contender, Path(name)) for peer, contender in running.items()}
    if REFERENCE in chunks:
        reference = chunks[REFERENCE]
    else:  # in another group: computed here
        from bench.peers.case import load_frames

        run = PEERS[REFERENCE].open(case, folder, os.cpu_count() or 1)
        frames = load_frames(folder)
        reference = np.concatenate([np.array(run(feeds)[..., : case.actions], np.float32) for feeds in frames])
    return {peer: error_of(reference, got) for peer, got in chunks.items()}


def _answers(contender: Contender, folder: Path) -> Any:
    out = folder / "chunks.npy"
    contender.answers(out)
    return np.load(out)


def error_of(expected: Any, got: Any) -> dict[str, Any]:
    """Over frames (F, H, A); `finite` false, and nothing else, where an answer is not a number."""
    if not np.isfinite(got).all():
        return {"finite": False}
    row = compare("chunk", "", expected, got)
    told = {key: float(f"{row[key]:.3g}") for key in ("max_abs", "relative_rms")}
    return {"finite": True, "frames": len(expected), "cosine_min": round(row["cosine_min"], 6), **told}


def rows(case: Case, label: str, threads: int, windows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a peer over all windows of a model: latency, times ours with a 95 % interval, error, memory. Pure."""
    runs = [run for told in windows for run in told["ns"]]
    found = []
    for name, peer in PEERS.items():
        mine = [run for run in runs if name in run]
        why = next((told["failed"][name] for told in windows if name in told["failed"]), "")
        if not mine and not why:
            continue
        row = {
            "kind": "model", "subject": label, "parameters": case.parameters, "note": case.note, "threads": threads,
            "peer": name, "configured": peer.configured, "failed": why,
        }  # fmt: skip
        found.append({**row, **(_figures(name, mine, windows) if mine else {})})
    return found


def _figures(name: str, mine: Sequence[Mapping[str, Any]], windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ns = _joined(mine, name)
    times = None if name == OURS else paired_ratio(ns, _joined(mine, OURS), name, OURS).as_dict()
    last = next(told for told in reversed(windows) if name in told["errors"])
    return {
        **{key: round(value, 4) for key, value in summarise(ns).items()},
        "times_ours": None if times is None else {k: round(times[k], 3) for k in ("median", "low", "high")},
        "rounds": int(ns.size),
        "window_p50_ms": [round(float(np.median(run[name])) / 1e6, 4) for run in mine],
        "error": last["errors"][name],
        "rss_mb": last["rss_mb"].get(name),
        "precision": last["precision"].get(name, ""),
    }


def _joined(runs: Sequence[Mapping[str, Any]], name: str) -> Any:
    return np.concatenate([np.asarray(run[name], np.int64) for run in runs])
