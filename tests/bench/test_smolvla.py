"""The comparison with LeRobot: contenders are processes, a broken one is one clear error, ratios have intervals."""

import json
import sys

import numpy as np
import pytest

from bench.smolvla.__main__ import FP32, WHOLE, Contender, print_tables, run_rounds, summary
from bench.smolvla.build import VARIANTS, folder_of, random_frames
from edgevla.errors import Unsound
from edgevla.telemetry.interleaved import Interleaved

ANSWERING = """
import json, sys
print(json.dumps({"ready": True, "rss_mb": 1.0, "peak_mb": 2.0}), flush=True)
for i, _ in enumerate(sys.stdin):
    if i == LAST: sys.exit(3)
    print(json.dumps({"ns": NS + i, "rss_mb": 10.0 + i, "peak_mb": 20.0}), flush=True)
"""


def contender(name, ns=1000, last=-1):
    script = ANSWERING.replace("LAST", str(last)).replace("NS", str(ns))
    return Contender(name, [sys.executable, "-c", script])


def test_latencies_are_those_of_the_contenders_own_clock():
    result, memory = run_rounds([contender("a"), contender("b", ns=5000)], rounds=3, warmup=1)
    assert result.ns["a"].tolist() == [1001, 1002, 1003]  # the first was warm-up
    assert result.ns["b"].tolist() == [5001, 5002, 5003]
    assert memory["a"] == {"rss_mb": 13.0, "peak_mb": 20.0}  # after the last inference


@pytest.mark.parametrize("last", [0, 2])
def test_a_contender_that_ends_is_one_clear_error(last):
    with pytest.raises(Unsound, match="exit 3"):
        run_rounds([contender("a"), contender("b", last=last)], rounds=3, warmup=0)


def test_a_contender_that_does_not_start_is_one_clear_error():
    with pytest.raises(Unsound, match="by hand"), Contender("a", [sys.executable, "-c", "raise SystemExit(4)"]):
        pass


def test_the_summary_says_goal_interval_and_share_of_memory(tmp_path, capsys):
    folder_of(tmp_path, WHOLE).mkdir(parents=True)
    (folder_of(tmp_path, WHOLE) / "parity.json").write_text("[]")
    times = {name: np.full(6, ns, np.int64) for name, ns in ((FP32, 6000), ("lerobot bf16 vlm", 4000), (WHOLE, 1000))}
    memory = {name: {"rss_mb": mb, "peak_mb": mb} for name, mb in zip(times, (2000.0, 1000.0, 500.0), strict=True)}
    report = summary(tmp_path, Interleaved(times, 6, 1.0, 0.0), memory, [WHOLE])
    first = report["ratios"][0]
    assert (first["median"], first["low"], first["high"], first["speed_goal"]) == (6.0, 6.0, 6.0, 5.0)
    assert (first["rss_share"], first["rss_goal"]) == (0.25, 0.35)
    print_tables(json.loads(json.dumps(report)))
    assert "0.25" in capsys.readouterr().out


def test_each_variant_has_a_folder_of_its_own(tmp_path):
    assert len({folder_of(tmp_path, name) for name in VARIANTS}) == len(VARIANTS)


def test_random_frames_have_the_shapes_of_the_spec():
    class Camera:
        height = 8

    class Spec:
        cameras, max_tokens, state, actions, horizon, noise = (Camera(), Camera()), 8, "abc", "ab", 5, 32

    class Policy:
        spec = Spec()

    frames = random_frames(Policy(), 3)
    assert {name: value.shape for name, value in frames.items()} == {
        "image": (3, 2, 8, 8, 3),
        "camera_mask": (3, 2),
        "tokens": (3, 8),
        "token_mask": (3, 8),
        "state": (3, 3),
        "noise": (3, 5, 32),
        "prefix": (3, 5, 2),
        "prefix_mask": (3, 5, 1),
    }
