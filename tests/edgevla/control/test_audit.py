"""The audit of the servo's memory sees what it is there to see."""

import gc
import mmap
import tracemalloc

import pytest

from edgevla.control.audit import WARM_STEPS, Audit


@pytest.fixture(autouse=True)
def _trace_ends_with_the_test():
    yield
    tracemalloc.stop()


def warm(mode):
    audit = Audit(mode)
    for _ in range(WARM_STEPS):
        audit.step()
    return audit


def test_growth_and_peak_are_counted_from_the_warm_loop():
    audit = warm("memory")
    kept = [bytes(1000) for _ in range(10)]
    passing = bytes(100_000)
    del passing
    audit.step()
    found = audit.figures()
    assert len(kept) == 10
    assert 10_000 <= found["traced_growth_bytes"] < 15_000
    assert 110_000 <= found["traced_peak_bytes"] < 120_000
    assert found["ticks"] == 1


def test_a_peak_before_the_warm_loop_does_not_count():
    audit = Audit("memory")
    for step in range(WARM_STEPS):
        bytes(500_000)
        audit.step()
    assert audit.figures()["traced_peak_bytes"] < 100_000
    assert step == WARM_STEPS - 1


def test_a_page_touched_for_the_first_time_is_a_minor_fault():
    audit = warm("faults")
    with mmap.mmap(-1, 64 * mmap.PAGESIZE) as pages:
        for page in range(64):
            pages[page * mmap.PAGESIZE] = 1
    found = audit.figures()
    assert found["minor_faults"] >= 1  # one where huge pages back it
    assert found["traced_growth_bytes"] is None


def test_a_collection_is_counted():
    audit = warm("faults")
    gc.collect()
    assert audit.figures()["collections"] >= 1


def test_a_loop_that_never_got_warm_says_nothing():
    assert Audit("faults").figures() == {}
    assert Audit("").figures() == {}


def test_an_unknown_audit_is_refused():
    with pytest.raises(ValueError, match="audit is one of"):
        Audit("everything")
