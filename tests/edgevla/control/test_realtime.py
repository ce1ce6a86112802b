"""What the servo asks of the kernel, read back from the kernel."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: it locks memory, freezes the heap and takes a real-time class for good.
PROBE = """
import gc, json, os, resource
from edgevla.control.realtime import ask
granted = ask(1, 0)
for _ in range(3): bytearray(6_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50): bytearray(6_000_000)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
open_files = [os.readlink(link) for link in links if os.path.lexists(link)]
print(json.dumps({**granted.as_dict(), "faults": faults, "gc": gc.isenabled(), "files": open_files,
  "policy": os.sched_getscheduler(0), "cores": sorted(os.sched_getaffinity(0))}))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_memory_taken_a_second_time_does_not_fault(found):
    # Without mallopt each of the 50 blocks is mapped and given back: 1,465 faults a block, or huge pages.
    assert found["faults"] == 0


def test_the_collector_is_off(found):
    assert found["gc"] is False


def test_the_process_is_on_its_core(found):
    assert found["cores"] == [0]
    assert found["core"] == 0


def test_shallow_idle_is_held_by_an_open_descriptor_or_said_to_be_missing(found):
    assert found["shallow_idle"] == ("/dev/cpu_dma_latency" in found["files"])
    if os.access("/dev/cpu_dma_latency", os.W_OK):
        assert found["shallow_idle"]


def test_what_is_granted_is_what_the_kernel_says(found):
    assert (found["policy"] == os.SCHED_FIFO) == (found["fifo_priority"] == 1)
