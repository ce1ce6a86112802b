"""The audit of the servo's memory sees what it is there to see."""

import gc
import mmap
import tracemalloc

import pytest

from edgevla.control.audit import Audit

SETTLED = 1000  # steps before faults are counted
WARM = 10_000  # steps before memory is


@pytest.fixture(autouse=True)
def _tracing_ends_with_the_test():
    yield
    tracemalloc.stop()


def settled(kind):
    audit = Audit(kind)
    for _ in range(SETTLED):
        audit.step()
    return audit


def closed(audit):
    audit.step()
    audit.close()
    return audit.figures


def run_on(audit, steps=2 * SETTLED, each=lambda step: None):
    for step in range(steps):
        each(step)
        audit.step()
    audit.close()
    return audit.figures


def test_what_stays_is_growth_and_what_passes_is_peak():
    audit, kept = settled("memory"), []
    for _ in range(WARM - SETTLED):
        audit.step()
    found = run_on(audit, each=lambda step: kept.append(bytes(1000)) if step < 10 else bytes(100_000))
    assert len(kept) == 10
    assert 10_000 <= found["traced_growth_bytes"] < 15_000
    assert 100_000 <= found["traced_peak_bytes"] < 130_000
    assert found["ticks"] == WARM + SETTLED


def test_what_is_alive_at_the_last_step_only_is_no_growth():
    alive = []

    def chunk(step):
        alive[:] = [bytes(50_000)] if step % 100 > 50 or step > 1990 else []

    audit = settled("memory")
    for step in range(WARM - SETTLED):
        chunk(step)
        audit.step()
    assert run_on(audit, each=chunk)["traced_growth_bytes"] < 1_000


def test_a_peak_before_that_does_not_count():
    audit = Audit("memory")
    for _ in range(WARM):
        bytes(500_000)
        audit.step()
    assert run_on(audit)["traced_peak_bytes"] < 100_000


def test_a_run_that_has_not_settled_says_nothing_of_growth():
    assert closed(settled("memory"))["traced_growth_bytes"] is None


def test_a_page_touched_for_the_first_time_is_a_minor_fault():
    audit = settled("faults")
    with mmap.mmap(-1, 64 * mmap.PAGESIZE) as pages:
        for page in range(64):
            pages[page * mmap.PAGESIZE] = 1
    found = closed(audit)
    assert found["minor_faults"] >= 1  # one where huge pages back it
    assert found["traced_growth_bytes"] is None


def test_a_collection_is_counted():
    audit = settled("faults")
    gc.collect()
    assert closed(audit)["collections"] >= 1


def test_a_loop_that_never_settled_says_nothing():
    audit = Audit("faults")
    assert closed(audit) == {"ticks": 0}
