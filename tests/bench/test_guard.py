"""bench/guard: what may be claimed of samples, what a run is worth, and the exit code that follows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.guard.budget import SCHEMA, Budget, Limit, Soundness, load_budget
from bench.guard.claims import (
    bounded,
    broken,
    broken_beyond_blame,
    late_commands,
    measured,
    observed,
    proved,
    unjudged,
)
from bench.guard.drift import BLOCKS, chi_squared_survival, drift_of, kruskal_wallis
from bench.guard.sound import Conditions, Reason, conditions, exit_code, of_machine, of_run, of_samples
from bench.guard.stages import REPORTED, stage_names
from edgevla.control.timing import Claim as Contract
from edgevla.doctor.host import Host
from edgevla.doctor.probe import Reading, Tree
from edgevla.errors import BadInput
from edgevla.telemetry.stats import upper_bound_quantile
from profiles import load_target

HOST_BUDGET = Path(__file__).parents[2] / "bench/budgets/guard-host.toml"
RNG = np.random.default_rng(7)
STAGES = ("capture", "graph:vision", "graph:head", "wake")
MS = 1_000_000


def stage(values_ms, name="wake", segments=1):
    return {name: measured(name, np.array_split(np.asarray(values_ms, float) * MS, segments))}


def limit(**changes):
    return Budget((replace(Limit("wake", 0.99, 2000.0), **changes),))


# --- budget files ------------------------------------------------------------------------------------------------


def written(tmp_path, text):
    path = tmp_path / "budget.toml"
    path.write_text(f'schema = "{SCHEMA}"\n{text}')
    return path


def test_a_budget_says_limits_in_order_and_what_a_run_may_suffer(tmp_path):
    text = '[sound]\nstolen_share = 0.5\n[[stage]]\nname = "graph:*"\nquantile = 0.9\nlimit_us = 7\n'
    found = load_budget(written(tmp_path, text), STAGES)
    assert found.sound == Soundness(0.5, True)
    assert found.of("graph:head") == found.of("graph:vision") == [Limit("graph:*", 0.9, 7.0, 0.99)]
    assert found.of("wake") == []


GOOD = '[[stage]]\nname = "wake"\nquantile = 0.9\nlimit_us = 7\n'


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (GOOD.replace("wake", "weak"), 3, "name"),
        (GOOD.replace("0.9", "1.0"), 4, "quantile"),
        (GOOD.replace("0.9", "true"), 4, "quantile"),
        (GOOD.replace("7", '"7 us"'), 5, "limit_us"),
        (GOOD + "confidence = 0\n", 6, "confidence"),
        (GOOD + "limit_ms = 7\n", 6, "limit_ms"),
        (GOOD + GOOD.replace("7", "-1"), 9, "limit_us"),
        (GOOD + "[sound]\nreal_time = 1\n", 7, "real_time"),
        ("stages = 1\n" + GOOD, 2, "stages"),
    ],
)
def test_a_wrong_budget_names_file_line_and_key(tmp_path, text, line, key):
    path = written(tmp_path, text)
    with pytest.raises(BadInput, match=rf"budget\.toml:{line}: {key}"):
        load_budget(path, STAGES)


@pytest.mark.parametrize("text", ["", "[[stage]]\nname = 'wake'\nquantile = 0.9\n", "[[stage]\n"])
def test_a_budget_without_what_it_needs_is_refused(tmp_path, text):
    with pytest.raises(BadInput, match=r"stage|limit_us|cannot read"):
        load_budget(written(tmp_path, text), STAGES)


def test_the_budget_of_the_host_leaves_more_slack_behind_a_stage_than_in_it():
    found = load_budget(HOST_BUDGET, stage_names(("vision", "head")))
    limit_us = {limit.name: limit.limit_us for limit in found.limits}
    assert set(limit_us) == {n if not n.startswith("graph:") else "graph:*" for n in stage_names(("a",))} - REPORTED
    assert limit_us["wake"] < limit_us["bus"]
    assert limit_us["capture"] < limit_us["age"] < limit_us["sensor-to-bus"]
    assert limit_us["policy"] == load_target("host").latency_budget_s * 1e6
    assert all(found.of(name) for name in stage_names(("vision", "head")) if name not in REPORTED)


def test_another_schema_is_refused(tmp_path):
    (tmp_path / "budget.toml").write_text('schema = "x/2"\n' + GOOD)
    with pytest.raises(BadInput, match=r"budget\.toml:1: schema"):
        load_budget(tmp_path / "budget.toml", STAGES)


# --- claims ------------------------------------------------------------------------------------------------------


def test_independent_samples_bound_as_the_order_statistics_say():
    values = RNG.exponential(size=2000)
    (claim,) = bounded(stage(values), limit(limit_us=1e9), {})
    found = stage(values)["wake"]
    assert found.effective == pytest.approx(2000, rel=0.15)
    known = [upper_bound_quantile(values, 0.99 + shift, 0.99) * 1000 for shift in (-0.002, 0.003)]
    assert known[0] <= claim.value_us <= known[1]
    assert (claim.kind, claim.samples, claim.confidence, claim.kept) == ("bounded", 2000, 0.99, True)


def test_correlated_samples_are_worth_less_and_bound_higher():
    independent = RNG.exponential(size=1000)
    repeated = np.repeat(independent, 10)
    single, tenfold = stage(independent)["wake"], stage(repeated)["wake"]
    assert tenfold.effective < 0.2 * repeated.size
    assert tenfold.bound_ns(0.99, 0.99) >= 0.9 * single.bound_ns(0.99, 0.99)
    assert tenfold.bound_ns(0.999, 0.99) is None  # 10,000 samples, but not 4,603 independent ones


def test_a_claim_holds_its_slack_and_breaks_by_it():
    kept, red = (bounded(stage(RNG.normal(1, 0.1, 1000)), limit(limit_us=us), {})[0] for us in (2000, 1000))
    assert kept.kept
    assert kept.slack_us == pytest.approx(2000 - kept.value_us)
    assert not red.kept
    assert broken([kept, red]) == [red]
    assert red.as_dict()["slack_us"] < 0


def test_too_few_samples_judge_nothing():
    (claim,) = bounded(stage(RNG.normal(1, 0.1, 300)), limit(), {})
    assert (claim.value_us, claim.kept) == (None, None)
    assert unjudged([claim]) == [claim]


def test_without_a_limit_the_highest_quantile_that_holds_is_said():
    assert bounded(stage(RNG.normal(1, 0.1, 300)), Budget(), {})[0].quantile == 0.9
    (natural,) = bounded(stage(RNG.normal(1, 0.1, 300)), Budget(), {"wake": 2000.0})
    assert (natural.limit_us, natural.kept) == (2000.0, True)


def test_slack_that_was_left_is_reported_and_never_judged():
    (claim,) = bounded(stage(RNG.normal(9, 0.1, 300), "release"), Budget((Limit("*", 0.9, 1.0),)), {})
    assert claim.kept is None


def test_proved_claims_are_the_inequalities_of_the_contract_in_time():
    ticks = Contract("horizon", "proved", "26 <= 32", 26, 32, "ticks", 0, None, True)
    wire = Contract("wire time", "proved", "...", 0.001, 0.0125, "s", 0, None, True)
    other = replace(wire, kind="bounded")
    found = proved([ticks, wire, other, replace(ticks, unit="cameras")], 0.0125)
    assert [(claim.value_us, claim.limit_us) for claim in found] == [(325_000, 400_000), (1000, 12_500)]
    assert {claim.kind for claim in found} == {"proved"}


def test_maxima_are_observed_and_never_judged():
    (claim,) = observed(stage([1, 2, 9]))
    assert (claim.kind, claim.kept, claim.limit_us) == ("observed", None, None)
    assert claim.value_us == pytest.approx(9000, rel=1e-3)


def test_one_late_command_is_broken():
    assert late_commands(np.zeros(0, np.int64), 100).kept
    late = late_commands(np.array([5000], np.int64), 100)
    assert (late.kept, late.value_us) == (False, 5.0)


# --- drift -------------------------------------------------------------------------------------------------------


def test_a_run_that_stays_the_same_does_not_drift_and_one_that_grows_does():
    steady = RNG.normal(100, 10, 900)
    assert not drift_of(steady).significant
    grown = drift_of(steady + np.linspace(0, 40, 900))
    assert grown.significant
    assert grown.spread > 0.2
    assert len(grown.blocks) == BLOCKS
    assert sum(block["count"] for block in grown.blocks) == 900


def test_kruskal_wallis_agrees_with_its_textbook_value():
    # Conover's corn yields, Practical Nonparametric Statistics, example 5.2.1: T = 25.46, 3 degrees of freedom.
    yields = [
        [83, 91, 94, 89, 89, 96, 91, 92, 90], [91, 90, 81, 83, 84, 83, 88, 91, 89, 84],
        [101, 100, 91, 93, 96, 95, 94], [78, 82, 81, 77, 79, 81, 80, 81],
    ]  # fmt: skip
    p = kruskal_wallis([np.array(one, float) for one in yields])
    assert p == pytest.approx(chi_squared_survival(25.6288, 3), rel=0.01)
    assert kruskal_wallis([np.ones(9), np.ones(9)]) == 1.0
    assert kruskal_wallis([np.ones(9), np.ones(2)]) is None


def test_chi_squared_is_exact_for_even_degrees():
    assert chi_squared_survival(15.507, 8) == pytest.approx(0.05, rel=1e-3)
    assert chi_squared_survival(0.0, 8) == 1.0


# --- sound -------------------------------------------------------------------------------------------------------


def test_stolen_time_missing_real_time_and_a_stop_are_reasons():
    found = of_run(Soundness(0.01), 0.5, 10.0, ["SCHED_FIFO priority 80 (EPERM)"], "operator stop")
    assert [reason.kind for reason in found] == ["stolen", "real-time", "stopped"]
    assert "5.00 %" in found[0].text
    assert of_run(Soundness(0.1, real_time=False), 0.5, 10.0, ["SCHED_FIFO"], "") == []


def machine(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(tree=Tree(tmp_path), run=lambda argv: Reading(None, "no tools"), arch="aarch64")


JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n",
    "var/lib/nvpmodel/status": "pmode:0000",
}


def test_the_power_mode_of_the_target_is_sound_and_another_is_not(tmp_path):
    target, same = load_target("jetson-orin-nano-8"), Conditions(0.0, {})
    assert of_machine(machine(tmp_path, JETSON), target, same, same) == []
    other = machine(tmp_path, {"var/lib/nvpmodel/status": "pmode:0001"})
    (reason,) = of_machine(other, target, same, same)
    assert reason.kind == "power"
    assert "7W" in reason.text
    (absent,) = of_machine(machine(tmp_path / "pc", {"proc/stat": ""}), target, same, same)
    assert "has none" in absent.text


def test_throttling_is_seen_by_its_counters_and_by_what_cools_now(tmp_path):
    count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    host = machine(tmp_path, {count: "3", "proc/stat": "cpu 0 0 0 0 0 0 0 200 0 0"})
    before = conditions(host)
    assert before.stolen_s > 0
    assert of_machine(host, load_target("host"), before, conditions(host)) == []
    machine(tmp_path, {count: "4"})
    (reason,) = of_machine(host, load_target("host"), before, conditions(host))
    assert (reason.kind, "cpu0 core" in reason.text) == ("throttled", True)
    machine(tmp_path, {count: "3", "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0"})
    machine(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "2"})
    assert [r.kind for r in of_machine(host, load_target("host"), before, conditions(host))] == ["throttled"]


def test_a_quantile_that_the_samples_cannot_bound_is_no_sound_answer():
    stages = stage(RNG.normal(1, 0.1, 300))
    (reason,) = of_samples(bounded(stages, limit(), {}), stages, {})
    assert reason.kind == "samples"
    assert "459" in reason.text


def test_drift_makes_unsound_only_what_depends_on_it():
    values = np.concatenate([np.full(800, 1.0), np.full(100, 1.5)]) + RNG.normal(0, 0.01, 900)
    stages = stage(RNG.permutation(values))  # as if they were independent: the quantile itself is kept
    drifts = {"wake": drift_of(values * MS)}
    depends, far = (bounded(stages, limit(quantile=0.6, limit_us=us), {}) for us in (1300, 2000))
    assert depends[0].kept
    assert [reason.kind for reason in of_samples(depends, stages, drifts)] == ["drift"]
    assert of_samples(far, stages, drifts) == []


@pytest.mark.parametrize(
    ("broken_claims", "kinds", "beyond", "code"),
    [
        (0, [], 0, 0),
        (1, [], 0, 1),
        (0, ["stolen"], 0, 3),
        (1, ["stolen"], 0, 3),
        (1, ["stolen", "samples"], 1, 1),  # the median is over its limit: stolen time did not do that
        (1, ["stolen", "power"], 1, 3),  # everything is slower in another power mode
        (1, ["throttled"], 1, 3),
        (1, ["real-time"], 1, 3),
    ],
)
def test_exit_codes(broken_claims, kinds, beyond, code):
    assert exit_code(broken_claims, [Reason(kind, "") for kind in kinds], beyond) == code


def test_beyond_blame_is_what_half_of_all_samples_break():
    stages = stage(RNG.normal(1, 0.1, 300))
    tail, median = (bounded(stages, limit(quantile=0.9, limit_us=us), {}) for us in (1100, 900))
    assert broken(tail)
    assert broken_beyond_blame(tail, stages) == []
    assert broken_beyond_blame(median, stages) == median
    unbounded = bounded(stages, limit(limit_us=900), {})
    assert broken_beyond_blame(unbounded, stages) == unbounded  # too few for p99, and yet plain


def test_claims_are_json():
    json.dumps([claim.as_dict() for claim in bounded(stage(RNG.normal(1, 0.1, 300)), limit(), {})], allow_nan=False)
