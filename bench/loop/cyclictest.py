"""One window of cyclictest, the yardstick of wake latency: Debian's rt-tests, run as a child, its JSON read back.

-m -p80 -t1 -a CORE: locked memory, SCHED_FIFO 80, one thread pinned; clock_nanosleep to absolute deadlines is its
default, and so is 0 us in /dev/cpu_dma_latency. Our window gets both too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from bench.loop.histogram import Histogram, from_json
from edgevla.errors import DeviceFault, Unsound, explain

LARGEST_US = 100_000  # of the histogram; longer stalls are counted at the maximum
_GRACE_S = 20.0


def version() -> str:
    """Of the installed cyclictest. Raises DeviceFault where there is none."""
    program = shutil.which("cyclictest")
    if program is None:
        todo = "apt-get install rt-tests"
        raise DeviceFault(explain("no cyclictest on this machine", "Debian's rt-tests", "nothing by that name", todo))
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    found = re.search(r"V\s*([0-9.]+)", told.stdout + told.stderr)
    return found.group(1) if found else "unknown"


def command(rate_hz: float, samples: int, core: int, priority: int, out: Path) -> list[str]:
    """The line that is run."""
    return [
        "cyclictest", "-q", "-m", f"-p{priority}", "-a", str(core), "-t1", "-i", str(round(1e6 / rate_hz)),
        "-l", str(samples), f"--histogram={LARGEST_US}", f"--json={out}",
    ]  # fmt: skip


def window(rate_hz: float, samples: int, core: int, priority: int, folder: Path) -> Histogram:
    """Wake latencies of one window in whole us. Raises Unsound when cyclictest did not deliver."""
    out = folder / "cyclictest.json"
    line = command(rate_hz, samples, core, priority, out)
    try:
        done = subprocess.run(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=samples / rate_hz + _GRACE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unsound(explain("cyclictest did not end", f"{samples} cycles", "a hang", "run again")) from None
    if done.returncode:
        got = done.stderr.decode("utf-8", "replace").strip()[-300:] or f"exit status {done.returncode}"
        raise Unsound(explain("cyclictest failed", "its histogram", got, "run as root; try: " + " ".join(line)))
    return parse(out.read_text(encoding="utf-8"))


def parse(text: str) -> Histogram:
    """The histogram of thread 0; cycles beyond its end are put at the maximum that cyclictest saw.

    Raises Unsound on anything but such a result.
    """
    try:
        thread = json.loads(text)["thread"]["0"]
        histogram = from_json(thread["histogram"])
        beyond = int(thread["cycles"]) - sum(histogram.values())
        largest = int(thread["max"])
    except (ValueError, KeyError, TypeError) as error:
        todo = "see `cyclictest --help` for --json; rt-tests 2.x is known to work"
        raise Unsound(explain("cyclictest's JSON has another form", "thread.0.histogram", error, todo)) from None
    if beyond > 0:
        histogram[largest] = histogram.get(largest, 0) + beyond
    return histogram
