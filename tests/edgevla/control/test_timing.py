"""The inequalities of the timing contract: kept for the reference, refused in numbers for each that fails."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import profiles
from edgevla.control.timing import (
    Measurements,
    broken,
    delay_ticks,
    evaluate,
    require,
    schedule_of,
)
from edgevla.errors import Refused, Unsound
from profiles.bridge import wire_s


@dataclass(frozen=True)
class Timing:
    period_s: float = 0.0125
    horizon: int = 32
    d_max: int = 8
    memory_ticks: int = 0


@dataclass(frozen=True)
class Camera:
    name: str
    rate_hz: float
    when_missing: str = "refuse"


TARGET = profiles.load_target("host")
ARM = profiles.load_arm("metaworld-sawyer")


def test_the_reference_policy_on_this_host_keeps_every_claim():
    claims = evaluate(Timing(), TARGET, ARM)
    assert broken(claims) == []
    assert {claim.kind for claim in claims} == {"proved"}


def test_a_budget_of_25_ms_at_80_hz_is_two_ticks_and_a_hair_more_is_three():
    assert delay_ticks(0.025, 0.0125) == 2
    assert delay_ticks(0.02501, 0.0125) == 3
    assert delay_ticks(0.001, 0.0125) == 1


def test_the_schedule_of_the_reference():
    schedule = schedule_of(Timing(), TARGET)
    assert (schedule.horizon, schedule.delay, schedule.replan, schedule.survive) == (32, 2, 8, 2)


@pytest.mark.parametrize(
    ("timing", "target", "arm", "text"),
    [
        ({"horizon": 25}, {}, {}, "2 + 3 * 8 = 26 <= 25"),
        ({}, {"survive_misses": 3}, {}, "2 + 4 * 8 = 34 <= 32"),
        ({}, {"latency_budget_s": 0.0875, "replan_ticks": 5}, {}, "d <= r: 7 <= 5"),
        ({"d_max": 1}, {}, {}, "d <= d_max: 2 <= 1"),
        ({}, {}, {"baud": 9600}, "wire + return delay + USB <= Ts: 75 ms <= 12.5 ms"),
        ({}, {}, {"return_delay_s": 0.02}, "wire + return delay + USB <= Ts: 20.78 ms <= 12.5 ms"),
        ({}, {}, {"watchdog_s": 0.02}, "largest command gap (2 Ts) < watchdog: 25 ms < 20 ms"),
        ({}, {}, {"watchdog_s": 0.025}, "largest command gap (2 Ts) < watchdog: 25 ms < 25 ms"),
        ({}, {}, {"command_ttl_s": 0.2}, "command_ttl <= watchdog: 200 ms <= 100 ms"),
        ({}, {}, {"max_state_age_s": 0.01}, "T <= max state age: 12.5 ms <= 10 ms"),
        ({}, {}, {"watchdog_s": None}, "pass --accept-no-watchdog to accept that"),
    ],
)
def test_a_configuration_that_cannot_hold_is_refused_in_numbers(timing, target, arm, text):
    claims = evaluate(replace(Timing(), **timing), replace(TARGET, **target), replace(ARM, **arm))
    with pytest.raises(Refused) as error:
        require(claims)
    assert text in str(error.value)


def test_without_a_trained_prefix_the_blend_has_to_end_before_the_next_observation():
    free = replace(Timing(), d_max=0)
    claims = evaluate(free, TARGET, ARM, blend_ticks=4)
    assert broken(claims) == []
    (claim,) = [claim for claim in claims if claim.name == "blended seams"]
    assert claim.text == "no trained prefix: seams are blended over b ticks, d + b <= r: 2 + 4 = 6 <= 8"
    assert claim.kind == "proved"
    assert "trained prefix" not in [claim.name for claim in claims]
    assert schedule_of(free, TARGET, blend_ticks=6).delay == 2
    with pytest.raises(Refused, match=r"d \+ b <= r: 2 \+ 7 = 9 <= 8"):
        schedule_of(free, TARGET, blend_ticks=7)
    with pytest.raises(Refused, match="d <= d_max: 2 <= 0"):
        schedule_of(free, TARGET)


def test_an_arm_without_a_watchdog_is_accepted_only_explicitly():
    arm = replace(ARM, watchdog_s=None)
    assert broken(evaluate(Timing(), TARGET, arm, accept_no_watchdog=True)) == []
    with pytest.raises(Refused, match=r"to do:    pass --accept-no-watchdog$"):
        require(evaluate(Timing(), TARGET, arm))
    slow = replace(arm, return_delay_s=0.02)
    with pytest.raises(Refused, match="to do:    pass --accept-no-watchdog; choose another target"):
        require(evaluate(Timing(), TARGET, slow))


def test_a_slow_camera_is_refused():
    arm = replace(ARM, cameras=(replace(ARM.cameras[0], rate_hz=5.0),))
    assert [claim.name for claim in broken(evaluate(Timing(), TARGET, arm))] == [
        f"camera {ARM.cameras[0].name} age",
        f"camera {ARM.cameras[0].name} skew",
    ]


def test_a_camera_slower_than_in_training_and_an_unknown_camera_are_refused():
    name = ARM.cameras[0].name
    slower = evaluate(Timing(), TARGET, ARM, cameras=[Camera(name, 2 * ARM.cameras[0].rate_hz)])
    assert [claim.name for claim in broken(slower)] == [f"camera {name} rate"]
    unknown = evaluate(Timing(), TARGET, ARM, cameras=[Camera("wrist", 10.0)])
    assert "'wrist'" in broken(unknown)[0].text


def test_the_wire_time_counts_command_and_reply_at_ten_bits_a_byte():
    """4 channels: framing 3 + header 4 + (expiry 4 | state 10, efforts 8) + floats 16 + CRC 2 = 29 and 43 bytes."""
    assert wire_s(ARM) == pytest.approx(720 / 921_600, abs=1e-8)


def test_a_measured_inference_is_bounded_and_its_maximum_only_observed():
    samples = np.full(5000, 0.002)
    samples[7] = 0.030
    claims = {c.name: c for c in evaluate(Timing(), TARGET, ARM, Measurements(inference_s=samples))}
    assert claims["inference"].kind == "bounded"
    assert claims["inference"].samples == 5000
    assert claims["inference maximum"].kind == "observed"
    assert claims["inference maximum"].kept is None


def test_a_measured_inference_above_the_budget_breaks_the_claim():
    claims = evaluate(Timing(), TARGET, ARM, Measurements(inference_s=np.full(4603, 0.026)))
    assert [claim.text for claim in broken(claims)] == ["inference p99.9 <= L: 26 ms <= 25 ms"]


def test_the_hosts_share_is_added_to_the_wire():
    claims = evaluate(Timing(), TARGET, ARM, Measurements(host_s=np.full(4603, 0.0122)))
    assert [claim.name for claim in broken(claims)] == ["servo period"]


def test_too_few_samples_prove_nothing():
    with pytest.raises(Unsound, match="4603"):
        evaluate(Timing(), TARGET, ARM, Measurements(inference_s=np.full(4602, 0.002)))
