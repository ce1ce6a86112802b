"""`edgevla bench peers`: every engine, loop and bus library that ours is compared with, in one run and one table."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from bench.files import write_json
from bench.peers import plan
from bench.peers.sizes import SIZES
from bench.peers.table import COLUMNS, SCHEMA, table
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import Usage, explain
from edgevla.telemetry.host import describe_host, host_line
from firmware_bridge.protocols import KINDS as PROTOCOLS

WHOLE = "450m"
PARTS = ("models", "loops", "buses")
ROUNDS = {"student": 150, "smolvla": 10}
QUICK_ROUNDS = {"student": 20, "smolvla": 4}


@dataclass(frozen=True)
class Asked:
    """What the caller chose."""

    bundle: Path
    data: Path | None
    size: str
    whole: Path
    parts: tuple[str, ...]
    peers: tuple[str, ...]
    lerobot_python: Path
    fps: int
    seconds: float
    repetitions: int
    loads: tuple[str, ...]
    protocols: tuple[str, ...]
    quick: bool
    work: Path
    seed: int

    def key(self) -> dict[str, Any]:
        """What makes windows of two runs comparable."""
        return {
            "bundle": _sha256(self.bundle), "size": self.size, "peers": list(self.peers), "fps": self.fps,
            "seconds": self.seconds, "quick": self.quick, "cpu": describe_host()["cpu"],
        }  # fmt: skip

    @property
    def cases(self) -> dict[str, tuple[Path, list[str]]]:
        """Label -> folder of the case, and how `bench.peers.make` makes it."""
        data = ["--data", str(self.data)] if self.data is not None else []
        student = self.work / f"student-{_sha256(self.bundle)[:12]}"
        smolvla = f"SmolVLA, stand-in {self.size}" if self.size != WHOLE else "SmolVLA 450 M, one pass"
        return {
            "reference student": (student, ["--bundle", str(self.bundle), *data]),
            smolvla: (self.work / f"smolvla-{self.size}", ["--smolvla", self.size, "--whole", str(self.whole)]),
        }


def peers(
    bundle: Path = typer.Option(Path("out/demo/student.bundle"), "--bundle", help="One-pass student, with FP32 graphs"),
    data: Path = typer.Option(Path("out/demo/data"), "--data", help="Its data set: frames to judge and calibrate on"),
    size: str = typer.Option("auto", "--size", help=f"SmolVLA: {WHOLE} (needs make smolvla), {', '.join(SIZES)}, auto"),
    only: str = typer.Option(",".join(PARTS), help="Of: models, loops, buses"),
    lerobot_python: Path = typer.Option(Path(".venv-lerobot/bin/python"), help="Made by scripts/setup_lerobot.sh"),
    fps: int = typer.Option(30, min=5, help="Of the loops; 30 is what LeRobot's examples record at"),
    seconds: float = typer.Option(12.0, min=2.0, help="Of one window of a loop"),
    repetitions: int = typer.Option(3, min=1, help="Windows of each kind; SmolVLA one, with its rounds inside"),
    quick: bool = typer.Option(False, "--quick", help="Few rounds, one repetition: shows that all of them run"),
    work: Path = typer.Option(Path("out/peers"), help="For models that are made once, and for windows that are done"),
    again: bool = typer.Option(False, "--again", help="Forget the windows that are done"),
    seed: int = typer.Option(0, help="Of the order of everything"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Other engines on the same two models, LeRobot's loop on the same arm, vendor bus libraries, and cyclictest.

    Interleaved windows in a drawn order, every ratio with its 95 % interval, every latency with its output error.
    Stopped, it goes on when it is called again with the same options. `edgevla bench peers --quick` takes minutes.

    Example: edgevla bench peers -o bench/results/peers.json
    """
    from bench.peers.engines import PEERS

    parts = tuple(only.split(","))
    whole = Path("out/smolvla")
    if not parts or not set(parts) <= set(PARTS) or size not in ("auto", WHOLE, *SIZES):
        expected = f"--only of {', '.join(PARTS)}; --size auto, {WHOLE}, {', '.join(SIZES)}"
        raise Usage(explain("no such peers", expected, f"--only {only} --size {size}", "pass others"))
    ready = (whole / "graphs" / "one-pass" / "parity.json").is_file() and not quick
    asked = Asked(
        bundle, data if (data / "dataset.json").is_file() else None,
        (WHOLE if ready else "60m") if size == "auto" else size, whole, parts, tuple(PEERS), lerobot_python, fps,
        seconds if not quick else min(seconds, 4.0), 1 if quick else repetitions,
        ("idle",) if quick else ("idle", "memory"), tuple(PROTOCOLS) if not quick else ("feetech",), quick, work, seed,
    )  # fmt: skip
    state = work / ("quick.json" if quick else "windows.json")
    if again:
        state.unlink(missing_ok=True)
    tell: Callable[[str], None] = (lambda text: None) if as_json else (lambda text: say(text, "dim"))
    found = run(asked, state, tell)
    if out is not None:
        write_json(out, found)
    print_json(found) if as_json else show(found)


def run(asked: Asked, state: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """All windows that are not done yet, and the result of all that are. Raises BadInput, Unsound, Usage."""
    from bench.peers import buses, loops, models
    from bench.peers.case import load

    host = describe_host()
    cases = asked.cases if "models" in asked.parts else {}
    for label, (folder, how) in cases.items():
        tell(f"making {label}, once" if not (folder / "case.json").is_file() else f"{label} is made")
        models.made(folder, how)
    with models.Engines(asked.work / "inductor") as engines, tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        setup = loops.Setup(asked.fps, asked.seconds, asked.lerobot_python, Path(scratch))

        def measure(window: plan.Window) -> dict[str, Any]:
            if window.kind == "model":
                small = load(cases[window.what][0]).parameters < models.KEPT_OPEN
                rounds = (QUICK_ROUNDS if asked.quick else ROUNDS)["student" if small else "smolvla"]
                folder, settle = cases[window.what][0], 2 if small else 1
                order = asked.seed + window.repetition
                return models.window(engines, folder, window.threads, asked.peers, rounds, settle, order)
            if window.kind == "loop":
                return loops.window(setup, window.what, window.load)
            return buses.window(window.what, 20 if asked.quick else 100, 200)

        windows = plan.ordered(all_windows(asked, list(cases)), asked.seed)
        done = plan.run(windows, measure, state, asked.key(), tell, time.monotonic)
    rows: list[dict[str, Any]] = []
    for label, (folder, _) in cases.items():
        for threads in thread_counts():
            rows += models.rows(load(folder), label, threads, _found(done, "model", label, threads))
    if "loops" in asked.parts:
        for load_name in asked.loads:
            by_name = {name: _found(done, "loop", name, load=load_name) for name in loops.CONFIGURED}
            rows += loops.rows(asked.fps, load_name, by_name)
    if "buses" in asked.parts:
        for protocol in asked.protocols:
            rows += buses.rows(protocol, _found(done, "bus", protocol))
    return {
        "schema": SCHEMA, "command": "edgevla bench peers", "host": host, "quick": asked.quick,
        "versions": {name: _version(name) for name in ("torch", "onnxruntime", "openvino", "nncf")},
        "smolvla": asked.size, "threads": thread_counts(), "rows": rows,
        "windows": list(done.values()),
    }  # fmt: skip


def all_windows(asked: Asked, labels: list[str]) -> list[plan.Window]:
    """Every window of a run. SmolVLA has one for each number of threads: its engines take minutes to start."""
    from bench.peers.loops import CONFIGURED

    found = []
    for repetition in range(asked.repetitions):
        for label in labels:
            if label.startswith("SmolVLA") and repetition:
                continue
            about_s = 420.0 if label.endswith("one pass") else 90.0 if "SmolVLA" in label else 40.0
            found += [plan.Window("model", repetition, label, n, "", about_s) for n in thread_counts()]
        if "loops" in asked.parts:
            about_s = asked.seconds + 8.0
            found += [plan.Window("loop", repetition, n, 0, x, about_s) for n in CONFIGURED for x in asked.loads]
        if "buses" in asked.parts:
            found += [plan.Window("bus", repetition, protocol, 0, "", 15.0) for protocol in asked.protocols]
    return found


def thread_counts() -> list[int]:
    """One, and as many as there are cores."""
    return sorted({1, len(os.sched_getaffinity(0))})


def show(found: dict[str, Any]) -> None:
    """The table."""
    print_table("peers", COLUMNS, table(found["rows"]))
    say(f"SmolVLA: {found['smolvla']}, random weights. {host_line(found['host'])}", "dim")


def _found(
    done: dict[str, dict[str, Any]], kind: str, what: str, threads: int = 0, load: str = ""
) -> list[dict[str, Any]]:
    wanted = {"kind": kind, "what": what, "threads": threads, "load": load}
    return [
        told["found"] for told in done.values() if all(told["window"][name] == value for name, value in wanted.items())
    ]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _sha256(bundle: Path) -> str:
    """Of the manifest, which names every file's own."""
    path = bundle / "manifest.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
