"""bench steady: what it refuses, and a short real run under both audits."""

import json

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.steady import LIMITS, broken
from edgevla.errors import Unsound

STILL = {
    "traced_growth_bytes": 4096,
    "traced_peak_bytes": 65536,
    "minor_faults": 0,
    "major_faults": 0,
    "collections": 0,
}


def test_what_is_at_its_limit_is_steady():
    assert set(STILL) == set(LIMITS)
    assert broken(STILL) == []


@pytest.mark.parametrize("name", STILL)
def test_one_more_than_a_limit_is_named(name):
    assert broken({**STILL, name: STILL[name] + 1}) == [f"{name} {STILL[name] + 1} > {STILL[name]}"]


@pytest.mark.slow
def test_a_short_real_run_is_counted_under_both_audits(tmp_path):
    out = tmp_path / "steady.json"
    done = CliRunner().invoke(
        app, ["steady", "--ticks", "1000", "--servo-hz", "640", "--best-effort", "--json", "-o", str(out)]
    )
    if isinstance(done.exception, Unsound):
        pytest.skip(f"this host was too busy to step 1000 times in the time given: {done.exception}")
    found = json.loads(out.read_text())
    assert found["ticks"] >= 1000
    assert found["runs"]["memory"]["traced_peak_bytes"] > 0
    assert found["runs"]["faults"]["traced_growth_bytes"] is None
    assert found["collections"] == 0
