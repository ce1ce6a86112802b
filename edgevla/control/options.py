"""What the caller of a run chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgevla.errors import Usage, explain

LONGEST_S = 30 * 86_400.0
RECORD_MB = 2_000


@dataclass(frozen=True)
class RunOptions:
    """Exactly one of `sim` and `port`."""

    instruction: str
    sim: str | None = None  # Meta-World task of the virtual arm
    plant: str = "metaworld"  # of the virtual arm; "integrator" is its kinematic stand-in
    seed: int = 0
    half_way: bool = False
    port: str | None = None  # serial port of a real arm
    cameras: dict[str, str] = field(default_factory=dict)  # name -> source, of the cameras that are real
    camera_fds: dict[str, int] = field(default_factory=dict)  # name -> slot of a camera process outside this run
    duration_s: float = 30.0  # armed; 0: no end
    arm_at_start: bool = True  # False: wait for an explicit order
    stay: bool = False  # a latched arm waits to be armed again
    best_effort: bool = False
    record: Path | None = None  # folder of the flight record
    record_mb: int = RECORD_MB  # the newest that are kept
    audit: str = ""  # see edgevla.control.audit
    called_ns: int = 0  # CLOCK_MONOTONIC, when the command was called; 0: nobody said
    home: str = ""  # the line that moves this arm into its start range, for people; empty: there is none


def check_options(options: RunOptions) -> None:
    """Raises Usage on options that exclude each other or make no run."""
    if (options.sim is None) == (options.port is None):
        raise Usage(
            explain(
                "which arm?",
                "one of --sim TASK and --port PORT",
                "both" if options.sim else "neither",
                "pass --sim for the virtual arm or --port for a real one",
            )
        )
    if not 0.0 <= options.duration_s <= LONGEST_S or (options.duration_s == 0 and options.sim is not None):
        expected = f"0 < --duration-s <= {LONGEST_S:g}, or 0 with --port: no end"
        raise Usage(explain("the duration makes no run", expected, options.duration_s, "pass another"))
    if options.seed < 0:
        raise Usage(explain("the seed makes no scene", "--seed >= 0", options.seed, "pass another"))
    if options.record_mb < 1:
        raise Usage(explain("the record has no room", "--record-mb >= 1", options.record_mb, "pass another"))
