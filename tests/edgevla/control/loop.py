"""A plan for the whole loop without a bundle: the reference arm and target, an engine by name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import profiles
from edgevla.control.options import RunOptions
from edgevla.control.plan import PlannedCamera, RunPlan
from edgevla.control.schedule import Schedule

HERE = str(Path(__file__).parent)


def plan(engine="to_goal", arm=None, **target):
    """Reference schedule; processes are not pinned, so that tests do not pile up on one core."""
    loose = {"servo_core": None, "policy_core": None, **target}
    return RunPlan(
        policy="tiny",
        bundle="none",
        engine=f"tiny_engine:{engine}",
        arm=arm or patient_arm(),
        target=replace(profiles.load_target("host"), **loose),
        schedule=Schedule(32, 2, 8, 2),
        blend_ticks=None,
        period_s=0.0125,
        kinds=("delta", "delta", "delta", "absolute"),
        scale=(0.01, 0.01, 0.01, 1.0),
        offset=(0.0, 0.0, 0.0, 0.0),
        start_low=(-0.5, 0.40, 0.05, -1.0),
        start_high=(0.5, 1.0, 0.5, 1.0),
        observations=1,
        cameras=(PlannedCamera("corner", 96, 96, 40.0, 10.0, "refuse"),),
    )


def patient_arm(**changes):
    """The reference arm for a machine that may be busy: stalls must not end a test of logic."""
    patient = {"hold_s": 20.0, "max_state_age_s": 10.0, "max_skew_s": 10.0, "command_ttl_s": 0.0125, **changes}
    return replace(profiles.load_arm("metaworld-sawyer"), **patient)


def options(**changes):
    values = {
        "instruction": "go to the dot",
        "sim": "drawer-open-v3",
        "plant": "integrator",
        "duration_s": 20.0,
        "best_effort": True,
        **changes,
    }
    return RunOptions(**values)


if __name__ == "__main__":  # the whole loop as a process, to be interrupted: python loop.py ENGINE
    sys.path.insert(0, HERE)
    from edgevla.control.run import run

    result = run(plan(sys.argv[1]), options(), say=lambda text: print(text, flush=True))
    print(f"END {result.stop_reason} | {result.success} | {result.figures['device']}", flush=True)
    sys.exit(result.exit_code)
