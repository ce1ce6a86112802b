"""The faults: how each is injected, what the design promises for it, and within which bound.

An injector takes the running rig and returns the time (CLOCK_MONOTONIC ns) at which the fault was there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.control.exchange import Reply, Status, pack_reply, unpack_request
from edgevla.control.plan import RunPlan
from edgevla.control.shm import Slots
from tests.faults import bounds, clock
from tests.faults.bounds import Bound
from tests.faults.rig import Child, Rig

SURVIVED = "survived"  # the arm never came to rest
RESTED = "rested, went on"  # it came to rest, held, and a new chunk moved it again
STOPPED = "stopped"  # it came to rest and latched
PATIENT: Mapping[str, Any] = {"hold_s": 20.0}  # long enough for a new policy process


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    inject: Callable[[Rig], int]
    expect: frozenset[str]
    bound: Callable[[RunPlan], Bound] | None = None  # None: only where it always survives
    watch_s: float = 2.0  # after the injection, unless the run ends before
    arm: Mapping[str, Any] = field(default_factory=dict)  # changes of the profile
    short: bool = False  # part of make test
    skip: Callable[[], str] = lambda: ""
    lasting: bool = False  # it lets some chunks through: the time counts from the last of them
    settle_s: float = 0.0  # of swaying before it
    record: Callable[[Path], contextlib.AbstractContextManager[Path]] | None = None  # where the flight record goes


def _one(*outcomes: str) -> frozenset[str]:
    return frozenset(outcomes)


# --- the policy process -------------------------------------------------------------------------------------------


def engine(kind: str, value: float = 0.0) -> Callable[[Rig], int]:
    return lambda rig: rig.ask_engine(kind, value)


def send(child: str, *numbers: int, times: int = 1) -> Callable[[Rig], int]:
    """Signals to a process of the run; "host" is the supervisor."""

    def inject(rig: Rig) -> int:
        pid = rig.host.pid if child == "host" else rig.pid(child)
        at_ns = time.monotonic_ns()
        for _ in range(times):
            for number in numbers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if times > 1:
                time.sleep(0.002)
        return at_ns

    return inject


def forge(setpoints: Callable[[int], float], seconds: float = 1.5) -> Callable[[Rig], int]:
    """Replies with a right checksum and status OK whose set-points are nonsense, for every request, before the policy's."""

    def inject(rig: Rig) -> int:
        rings = {ring.payload_bytes: ring for ring in map(Slots.attach, rig.memories("servo", "edgevla-slots"))}
        replies, requests = rings[max(rings)], rings[min(rings)]
        begun_ns, seen, count = time.monotonic_ns(), 0, 0
        while time.monotonic_ns() - begun_ns < seconds * 1e9:
            found = requests.read(after=seen)
            if found is not None:
                seen, count = found[0], count + 1
                rows = np.full((32, 4), setpoints(count), np.float32)
                reply = Reply(unpack_request(found[1]).tick, time.monotonic_ns(), Status.OK, rows)
                _overwrite(replies, pack_reply(reply))
            time.sleep(0.0005)
        for ring in rings.values():
            ring.close()
        return begun_ns

    return inject


def _overwrite(ring: Slots, payload: bytes) -> None:
    """Another writer's entry: the sequence goes on from whatever is the newest."""
    other = Slots.attach(os.dup(ring.fd))
    other.write(payload)
    other.close()


# --- host ---------------------------------------------------------------------------------------------------------


def wall_clock(rig: Rig) -> int:
    stepper = Child("tests.faults.clock", "1.0")
    at_ns = int(stepper.until("at_ns").partition(":")[2].strip(" }"))
    stepper.process.wait(20.0)
    stepper.end()
    return at_ns


def supervisor_garbage(rig: Rig) -> int:
    rig.host.tell("gc 2")
    return time.monotonic_ns()


@contextlib.contextmanager
def _hogs(*scripts: str) -> Iterator[int]:
    hogs = [subprocess.Popen([sys.executable, "-c", script]) for script in scripts]
    try:
        yield time.monotonic_ns()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


_BUSY = "import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: sum(range(100000))"


def both_cores(rig: Rig) -> int:
    cores = sorted(os.sched_getaffinity(0))
    with _hogs(*(_BUSY.format(core=core) for core in cores for _ in range(2))) as at_ns:
        rig.run_for(3.0)
    return at_ns


def memory_pressure(rig: Rig) -> int:
    """Half of what is available, touched page by page, for at most some seconds; the first to die when it gets scarce."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    size = int(lines["MemAvailable"].split()[0]) * 1024 // 2
    script = (
        "import mmap, time; open('/proc/self/oom_score_adj', 'w').write('1000')\n"
        f"m = mmap.mmap(-1, {size})\nuntil = time.monotonic() + 4\n"
        f"for at in range(0, {size}, 4096):\n    m[at] = 1\n    if time.monotonic() > until: break\ntime.sleep(9)"
    )
    with _hogs(script) as at_ns:
        rig.run_for(5.0)
    return at_ns


# --- the line -----------------------------------------------------------------------------------------------------


def line(mode: str, **values: float) -> Callable[[Rig], int]:
    return lambda rig: rig.ask_line(mode, **values)


def blocked_for(seconds: float) -> Callable[[Rig], int]:
    """The device stops reading, and later reads what has piled up: all of it too old by then."""

    def inject(rig: Rig) -> int:
        at_ns = rig.ask_line("block")
        time.sleep(seconds)
        rig.ask_line("pass")
        return at_ns

    return inject


def noise_for(seconds: float, flip: float, drop: float) -> Callable[[Rig], int]:
    def inject(rig: Rig) -> int:
        at_ns = rig.ask_line("noise", flip=flip, drop=drop)
        rig.run_for(seconds)
        rig.ask_line("pass")
        return at_ns

    return inject


# --- camera, recorder ---------------------------------------------------------------------------------------------


def camera(number: int) -> Callable[[Rig], int]:
    def inject(rig: Rig) -> int:
        at_ns = time.monotonic_ns()
        os.kill(rig.camera.pid, number)
        return at_ns

    return inject


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = folder / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def cannot_mount() -> str:
    return "" if os.geteuid() == 0 else "a small file system is mounted by root only"


def disk_full(rig: Rig) -> int:
    """The rest of the disk of the record is filled; the record itself fills it sooner or later anyway."""
    at_ns = time.monotonic_ns()
    with contextlib.suppress(OSError), (rig.record / "filler").open("wb") as file:  # type: ignore[operator]
        while True:
            file.write(bytes(4096))
            file.flush()
    return at_ns


# --- shared memory ------------------------------------------------------------------------------------------------


def poke(child: str, name: str, seconds: float = 1.5, only: str = "") -> Callable[[Rig], int]:
    """Random bytes at random places of a shared memory, a thousand times a second."""

    def inject(rig: Rig) -> int:
        fds = rig.memories(child, name)
        fds.sort(key=lambda fd: os.fstat(fd).st_size)
        chosen = fds[:1] if only == "smallest" else fds[-1:] if only == "largest" else fds
        chance, begun_ns = random.Random(0), time.monotonic_ns()
        maps = [mmap.mmap(fd, os.fstat(fd).st_size) for fd in chosen]
        while time.monotonic_ns() - begun_ns < seconds * 1e9:
            for memory in maps:
                at = chance.randrange(min(len(memory), 1 << 16) - 16)
                memory[at : at + 16] = chance.randbytes(16)
            time.sleep(0.001)
        for memory in maps:
            memory.close()
        for fd in fds:
            os.close(fd)
        return begun_ns

    return inject


# --- the table ----------------------------------------------------------------------------------------------------

_RUNS_OUT, _ASKED = bounds.chunk_runs_out, bounds.servo_asked
_SUPERVISOR, _WATCHDOG = bounds.supervisor_asked, bounds.watchdog
_ANY, _GOES_ON = _one(SURVIVED, RESTED, STOPPED), _one(SURVIVED, RESTED)

FAULTS: tuple[Fault, ...] = (
    Fault("inference stalled 10 ms", engine("stall", 0.010), _one(SURVIVED)),
    Fault("inference stalled 100 ms", engine("stall", 0.100), _one(SURVIVED)),
    Fault("inference stalled 1 s", engine("stall", 1.0), _one(STOPPED, RESTED), _RUNS_OUT),
    Fault("inference stalled 10 s", engine("stall", 10.0), _one(STOPPED), _RUNS_OUT, short=True),
    Fault("inference stalled 10 s, hold_s 20 s", engine("stall", 10.0), _one(RESTED), _RUNS_OUT, 6.0, PATIENT),
    Fault("policy killed (SIGKILL)", send("policy", signal.SIGKILL), _ANY, _RUNS_OUT),
    Fault("policy killed, hold_s 20 s", send("policy", signal.SIGKILL), _GOES_ON, _RUNS_OUT, 6.0, PATIENT, short=True),
    Fault("policy stopped (SIGSTOP)", send("policy", signal.SIGSTOP), _one(STOPPED, RESTED), _RUNS_OUT),
    Fault("policy stopped, hold_s 20 s", send("policy", signal.SIGSTOP), _one(RESTED), _RUNS_OUT, 6.0, PATIENT),
    Fault("one chunk of NaN", engine("nan-once"), _one(SURVIVED)),
    Fault("one chunk of infinity", engine("inf-once"), _one(SURVIVED)),
    Fault("NaN in every chunk", engine("nan"), _one(STOPPED), _RUNS_OUT, short=True),
    Fault("infinity in every chunk", engine("inf"), _one(STOPPED), _RUNS_OUT),
    Fault("chunks far outside the range", engine("outside", 1e6), _one(SURVIVED)),
    Fault("chunks that jump 0.9 m", engine("jump"), _one(SURVIVED), short=True),
    Fault("forged replies: NaN", forge(lambda count: float("nan")), _ANY, _RUNS_OUT, lasting=True),
    Fault("forged replies: 1e30", forge(lambda count: 1e30 * (-1) ** count), _ANY, _RUNS_OUT, lasting=True),
    Fault("wall clock stepped by a year", wall_clock, _one(SURVIVED), skip=clock.refused),
    Fault("garbage collection storm, policy", engine("gc", 2.0), _ANY, _RUNS_OUT, 3.0, lasting=True),
    Fault("garbage collection storm, supervisor", supervisor_garbage, _one(SURVIVED), watch_s=2.5),
    Fault("both cores loaded", both_cores, _ANY, _RUNS_OUT, 0.5, lasting=True),
    Fault("memory pressure", memory_pressure, _ANY, _RUNS_OUT, 0.5, lasting=True),
    Fault("serial blocked", line("block"), _one(STOPPED), _WATCHDOG),
    Fault("serial blocked 0.3 s, then all at once", blocked_for(0.3), _one(STOPPED), _WATCHDOG),
    Fault("serial cut", line("cut"), _one(STOPPED), _WATCHDOG, short=True),
    Fault("serial noisy, 4 % of the frames", noise_for(3.0, 1e-3, 5e-4), _one(SURVIVED)),
    Fault("serial noisy, every frame", noise_for(1.0, 0.3, 0.1), _one(STOPPED), _WATCHDOG),
    Fault("camera frozen (SIGSTOP)", camera(signal.SIGSTOP), _one(STOPPED), bounds.old_inputs),
    Fault("camera killed (SIGKILL)", camera(signal.SIGKILL), _one(STOPPED), bounds.old_inputs),
    Fault("recorder's disk full", disk_full, _one(SURVIVED), record=small_disk, skip=cannot_mount, settle_s=1.5),
    Fault("recorder stopped (SIGSTOP)", send("recorder", signal.SIGSTOP), _one(SURVIVED), settle_s=1.5),
    Fault("recorder killed (SIGKILL)", send("recorder", signal.SIGKILL), _one(SURVIVED), settle_s=1.5),
    Fault("SIGTERM to the supervisor", send("host", signal.SIGTERM), _one(STOPPED), _SUPERVISOR),
    Fault("SIGINT to the supervisor", send("host", signal.SIGINT), _one(STOPPED), _SUPERVISOR),
    Fault("SIGHUP to the supervisor", send("host", signal.SIGHUP), _one(STOPPED), _SUPERVISOR),
    Fault("SIGUSR1 to the supervisor", send("host", signal.SIGUSR1), _one(STOPPED), _SUPERVISOR),
    Fault("a storm of SIGTERM to the supervisor", send("host", signal.SIGTERM, times=200), _one(STOPPED), _SUPERVISOR),
    Fault("supervisor killed (SIGKILL)", send("host", signal.SIGKILL), _one(STOPPED), _SUPERVISOR, short=True),
    Fault("SIGTERM to the servo", send("servo", signal.SIGTERM), _one(STOPPED), _ASKED),
    Fault("a storm of SIGTERM to the servo", send("servo", signal.SIGTERM, times=200), _one(STOPPED), _ASKED),
    Fault("SIGINT and SIGHUP to the servo", send("servo", signal.SIGINT, signal.SIGHUP), _one(SURVIVED)),
    Fault("SIGUSR1 to the servo", send("servo", signal.SIGUSR1), _one(STOPPED), _WATCHDOG),
    Fault("servo killed (SIGKILL)", send("servo", signal.SIGKILL), _one(STOPPED), _WATCHDOG),
    Fault("watchdog starvation: servo stopped", send("servo", signal.SIGSTOP), _one(STOPPED), _WATCHDOG, short=True),
    Fault(
        "shared memory poked: requests", poke("servo", "edgevla-slots", only="smallest"), _ANY, _RUNS_OUT, lasting=True
    ),
    Fault(
        "shared memory poked: replies",
        poke("servo", "edgevla-slots", only="largest"),
        _ANY,
        _RUNS_OUT,
        short=True,
        lasting=True,
    ),
    Fault("shared memory poked: orders", poke("servo", "edgevla-orders"), _one(SURVIVED)),
    Fault("shared memory poked: words", poke("policy", "edgevla-words"), _one(SURVIVED)),
    Fault("shared memory poked: camera", poke("policy", "edgevla-camera"), _ANY, bounds.old_inputs, lasting=True),
    Fault("shared memory poked: ticks", poke("servo", "edgevla-rows"), _one(SURVIVED)),
    Fault("shared memory poked: inferences", poke("policy", "edgevla-rows"), _one(SURVIVED)),
    Fault("shared memory poked: tape", poke("policy", "edgevla-tape"), _one(SURVIVED)),
)
