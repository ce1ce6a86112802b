"""The injectors: each takes the running rig and returns the time (CLOCK_MONOTONIC ns) at which the fault was there."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from edgevla.control.exchange import Reply, Status, pack_reply, unpack_request
from edgevla.control.shm import Slots
from tests.faults.rig import Child, Rig

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
    """For every request a reply with a right checksum and status OK whose set-points are nonsense."""

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
    """Half of what is available, touched page by page, for some seconds; the first to die when it gets scarce."""
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


# --- recorder ---------------------------------------------------------------------------------------------


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
