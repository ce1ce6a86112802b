"""The faults: how each is injected, what the design promises for it, and within which bound."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevla.control.plan import RunPlan
from tests.faults import bounds, clock
from tests.faults.bounds import Bound
from tests.faults.injectors import (
    blocked_for,
    both_cores,
    cannot_mount,
    disk_full,
    engine,
    forge,
    line,
    memory_pressure,
    noise_for,
    poke,
    send,
    small_disk,
    supervisor_garbage,
    wall_clock,
)
from tests.faults.rig import Rig

SURVIVED = "survived"  # the arm never came to rest
RESTED = "rested, went on"  # it came to rest, held, and a new chunk moved it again
STOPPED = "stopped"  # it came to rest and latched
PATIENT: Mapping[str, Any] = {"hold_s": 20.0}  # long enough for a new policy process


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    inject: Callable[[Rig], int]
    expect: frozenset[str]
    bound: Callable[[RunPlan], Bound] | None = None  # None: only where it always survives
    watch_s: float = 2.0  # after the injection, unless the run ends before
    arm: Mapping[str, Any] = field(default_factory=dict)  # changes of the profile
    short: bool = False  # part of make test
    says: str = ""  # what the line that explains it must name, where the outcome is the only one declared
    skip: Callable[[], str] = lambda: ""
    lasting: bool = False  # it lets some chunks through: the time counts from the last of them
    settle_s: float = 0.0  # of swaying before it
    record: Callable[[Path], AbstractContextManager[Path]] | None = None  # where the flight record goes


def _one(*outcomes: str) -> frozenset[str]:
    return frozenset(outcomes)


# --- the table ----------------------------------------------------------------------------------------------------

_RUNS_OUT, _ASKED = bounds.chunk_runs_out, bounds.servo_asked
_SUPERVISOR, _WATCHDOG = bounds.supervisor_asked, bounds.watchdog
_ANY, _GOES_ON = _one(SURVIVED, RESTED, STOPPED), _one(SURVIVED, RESTED)

FAULTS: tuple[Fault, ...] = (
    Fault("inference stalled 10 ms", engine("stall", 0.010), _one(SURVIVED)),
    Fault("inference stalled 100 ms", engine("stall", 0.100), _one(SURVIVED)),
    Fault("inference stalled 1 s", engine("stall", 1.0), _one(STOPPED, RESTED), _RUNS_OUT),
    Fault("inference stalled 10 s", engine("stall", 10.0), _one(STOPPED), _RUNS_OUT, short=True, says="no answer"),
    Fault(
        "inference stalled 10 s, hold_s 20 s",
        engine("stall", 10.0),
        _one(RESTED),
        _RUNS_OUT,
        6.0,
        PATIENT,
        says="1 policy restarts",
    ),
    Fault("policy killed (SIGKILL)", send("policy", signal.SIGKILL), _ANY, _RUNS_OUT),
    Fault("policy killed, hold_s 20 s", send("policy", signal.SIGKILL), _GOES_ON, _RUNS_OUT, 6.0, PATIENT, short=True),
    Fault("policy stopped (SIGSTOP)", send("policy", signal.SIGSTOP), _one(STOPPED, RESTED), _RUNS_OUT),
    Fault(
        "policy stopped, hold_s 20 s",
        send("policy", signal.SIGSTOP),
        _one(RESTED),
        _RUNS_OUT,
        6.0,
        PATIENT,
        says="1 policy restarts",
    ),
    Fault("one chunk of NaN", engine("nan-once"), _one(SURVIVED), says="1 not_finite"),
    Fault("one chunk of infinity", engine("inf-once"), _one(SURVIVED), says="1 not_finite"),
    Fault("NaN in every chunk", engine("nan"), _one(STOPPED), _RUNS_OUT, short=True, says="not_finite"),
    Fault("infinity in every chunk", engine("inf"), _one(STOPPED), _RUNS_OUT, says="not_finite"),
    Fault("chunks far outside the range", engine("outside", 1e6), _one(SURVIVED)),
    Fault("chunks that jump 0.9 m", engine("jump"), _one(SURVIVED), short=True),
    Fault("forged replies: NaN", forge(lambda count: float("nan")), _ANY, _RUNS_OUT, lasting=True),
    Fault("forged replies: 1e30", forge(lambda count: 1e30 * (-1) ** count), _ANY, _RUNS_OUT, lasting=True),
    Fault("wall clock stepped by a year", wall_clock, _one(SURVIVED), skip=clock.refused),
    Fault("garbage collection storm, policy", engine("gc", 2.0), _ANY, _RUNS_OUT, 3.0, lasting=True),
    Fault("garbage collection storm, supervisor", supervisor_garbage, _one(SURVIVED), watch_s=2.5),
    Fault("both cores loaded", both_cores, _ANY, _RUNS_OUT, 0.5, lasting=True),
    Fault("memory pressure", memory_pressure, _ANY, _RUNS_OUT, 0.5, lasting=True),
    Fault("serial blocked", line("block"), _one(STOPPED), _WATCHDOG, says="no reply from the arm"),
    Fault("serial blocked 0.3 s, then all at once", blocked_for(0.3), _one(STOPPED), _WATCHDOG, says="watchdog"),
    Fault("serial cut", line("cut"), _one(STOPPED), _WATCHDOG, short=True, says="died"),
    Fault(
        "serial noisy, 4 % of the frames", noise_for(3.0, 1e-3, 5e-4), _one(SURVIVED), says="commands lost on the line"
    ),
    Fault(
        "serial noisy, every frame", noise_for(1.0, 0.3, 0.1), _one(STOPPED), _WATCHDOG, says="no reply from the arm"
    ),
    Fault(
        "camera frozen (SIGSTOP)", send("camera", signal.SIGSTOP), _one(STOPPED), bounds.old_inputs, says="old_frame"
    ),
    Fault("camera killed (SIGKILL)", send("camera", signal.SIGKILL), _ANY, bounds.old_inputs),
    Fault(
        "recorder's disk full",
        disk_full,
        _one(SURVIVED),
        record=small_disk,
        skip=cannot_mount,
        settle_s=1.5,
        says="No space left",
    ),
    Fault("recorder stopped (SIGSTOP)", send("recorder", signal.SIGSTOP), _one(SURVIVED), settle_s=1.5),
    Fault("recorder killed (SIGKILL)", send("recorder", signal.SIGKILL), _one(SURVIVED), settle_s=1.5),
    Fault("SIGTERM to the supervisor", send("host", signal.SIGTERM), _one(STOPPED), _SUPERVISOR, says="stop asked for"),
    Fault("SIGINT to the supervisor", send("host", signal.SIGINT), _one(STOPPED), _SUPERVISOR, says="stop asked for"),
    Fault("SIGHUP to the supervisor", send("host", signal.SIGHUP), _one(STOPPED), _SUPERVISOR, says="stop asked for"),
    Fault("SIGUSR1 to the supervisor", send("host", signal.SIGUSR1), _one(STOPPED), _SUPERVISOR, says="stop asked for"),
    Fault(
        "a storm of SIGTERM to the supervisor",
        send("host", signal.SIGTERM, times=200),
        _one(STOPPED),
        _SUPERVISOR,
        says="stop asked for",
    ),
    Fault(
        "supervisor killed (SIGKILL)",
        send("host", signal.SIGKILL),
        _one(STOPPED),
        _SUPERVISOR,
        short=True,
        says="stop asked for",
    ),
    Fault("SIGTERM to the servo", send("servo", signal.SIGTERM), _one(STOPPED), _ASKED, says="stop asked for"),
    Fault(
        "a storm of SIGTERM to the servo",
        send("servo", signal.SIGTERM, times=200),
        _one(STOPPED),
        _ASKED,
        says="stop asked for",
    ),
    Fault(
        "SIGINT, SIGHUP, SIGUSR1 to the servo",
        send("servo", signal.SIGINT, signal.SIGHUP, signal.SIGUSR1),
        _one(SURVIVED),
    ),
    Fault("servo killed (SIGKILL)", send("servo", signal.SIGKILL), _one(STOPPED), _WATCHDOG, says="exit code -9"),
    Fault(
        "watchdog starvation: servo stopped",
        send("servo", signal.SIGSTOP),
        _one(STOPPED),
        _WATCHDOG,
        short=True,
        says="it hung",
    ),
    Fault(
        "shared memory poked: requests", poke("servo", "edgevla-slots", only="smallest"), _ANY, _RUNS_OUT, lasting=True
    ),
    Fault(
        "shared memory poked: replies",
        poke("servo", "edgevla-slots", only="largest"),
        _ANY,
        _RUNS_OUT,
        short=True,
        lasting=True,
    ),
    Fault("shared memory poked: orders", poke("servo", "edgevla-orders"), _one(SURVIVED)),
    Fault("shared memory poked: words", poke("policy", "edgevla-words"), _one(SURVIVED)),
    Fault("shared memory poked: camera", poke("policy", "edgevla-camera"), _ANY, bounds.old_inputs, lasting=True),
    Fault("shared memory poked: ticks", poke("servo", "edgevla-rows"), _one(SURVIVED)),
    Fault("shared memory poked: inferences", poke("policy", "edgevla-rows"), _one(SURVIVED)),
    Fault("shared memory poked: tape", poke("policy", "edgevla-tape"), _one(SURVIVED)),
)
