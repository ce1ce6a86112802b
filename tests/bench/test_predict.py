"""The interval's arithmetic on invented operators; the method held against this host; the mark in every output."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import profiles
from bench.cli import app
from bench.predict.ceilings import MODULES, Ceilings, of_target
from bench.predict.here import look
from bench.predict.interval import MARK, predict, shares
from bench.roofline.classes import Operator, Peaks, rows
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput

BUNDLE = Path(__file__).parents[2] / "examples/metaworld/student.bundle"
PEAKS = Peaks(fp32_gops=100.0, u8s8_gops=400.0, copy_gbs=20.0)
OPERATORS = [
    Operator("MatMulIntegerToFloat", True, 500.0, 50_000_000, 1_000_000),  # half of the peak
    Operator("Gelu", False, 100.0, 0, 1_000_000),  # half of a copy
]
SAME = Ceilings("here", 400.0, 100.0, 20.0, 1.0, 0.0, 1.0, ())


def here():
    return shares(rows(OPERATORS, 0.6, PEAKS))


def test_at_the_ceilings_and_at_the_shares_of_this_host():
    found = predict(OPERATORS, here(), SAME)
    assert found.low_ms == pytest.approx(0.25 + 0.05)
    assert found.high_ms == pytest.approx(0.6)  # what it took here
    assert found.holds(0.6 - 1e-9)
    assert not found.holds(0.7)


def test_launches_slower_memory_and_the_way_to_another_machine_raise_the_upper_end_alone():
    first = predict(OPERATORS, here(), SAME)
    other = predict(OPERATORS, here(), replace(SAME, launch_us=10.0, bandwidth_share=0.5, transfer=2.0))
    assert other.low_ms == first.low_ms
    assert other.high_ms == pytest.approx(2 * (0.5 + 0.2) + 0.02)


def test_what_was_faster_than_a_copy_here_may_be_so_there():
    fast = [Operator("Gelu", False, 25.0, 0, 1_000_000)]  # 40 GB/s where a copy has 20
    found = predict(fast, shares(rows(fast, 0.025, PEAKS)), SAME)
    assert (found.low_ms, found.high_ms) == (pytest.approx(0.025), pytest.approx(0.05))


def test_ceilings_are_the_data_sheets_dense_ones_in_the_power_mode_of_the_target():
    target = profiles.load_target("jetson-orin-nano-8")
    cpu, gpu = of_target(target)
    assert (gpu.int8_gops, gpu.float_gops, gpu.bandwidth_gbs) == (20_000, 10_000, 68)
    assert (cpu.int8_gops, cpu.float_gops) == (96, 24)
    slow_cpu, slow_gpu = of_target(replace(target, power_mode="7W"))
    assert slow_cpu.int8_gops == pytest.approx(96 * 960 / 1500)
    assert slow_gpu.int8_gops == pytest.approx(20_000 * 408 / 625)


def test_every_module_has_ceilings_and_nothing_else_does():
    for name in MODULES:
        assert len(of_target(profiles.load_target(name))) == 2
    with pytest.raises(BadInput, match="no data-sheet ceilings of raspberry-pi-5"):
        of_target(profiles.load_target("raspberry-pi-5"))


def test_the_mark_and_the_assumptions_stand_in_json_and_text():
    result = CliRunner().invoke(app, ["predict", str(BUNDLE), "--rounds", "50", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["prediction_not_measurement"] is True
    assert [one["prediction_not_measurement"] for one in found["intervals"]] == [True, True]
    assert found["validation"]["prediction"]["prediction_not_measurement"] is True
    for one in found["intervals"]:
        assert 0 < one["low_ms"] < one["high_ms"]
        assert any("assumed" in text for text in one["assumptions"])
    shown = CliRunner().invoke(app, ["predict", str(BUNDLE), "--rounds", "50", "--target", "host"])
    assert "the method on this host" in shown.stdout


def test_the_documents_carry_the_mark():
    text = (Path(__file__).parents[2] / "docs/predict.md").read_text()
    assert MARK in text


def test_this_host_lies_in_its_own_interval():
    bundle = open_bundle(BUNDLE)
    for _ in range(3):
        told = look(bundle, 100).validation()
        if told["inside"]:
            break
    if not told["inside"] and not told["sound"]:
        pytest.skip(f"other programs take this machine: {100 * told['cpu_share']:.0f} % of a core was had")
    assert told["inside"], told
