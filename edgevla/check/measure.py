"""Run both probes at once, as in operation: the policy on its core, the servo on its own, an arm to answer.

Children: a virtual device for each bus of the arm, the servo probe, the inference probe. None outlives this function,
whatever happens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgevla.bundle import Bundle
from edgevla.bundle.arrays import expect, load_npy
from edgevla.control.timing import delay_ticks, servo_period_s
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.policy.engines import runs_on_of
from firmware_bridge.virtual.client import VirtualProcess
from profiles import ArmProfile, Target
from profiles.bridge import joints_of

PACED = 50  # inferences with a pause before each, after those back to back
SERVO_PERIOD_S = 0.002  # s, at most: 10,000 periods of a slow servo would take minutes
_POLL_S = 0.1  # between two looks at the probes
_GRACE_S = 5.0  # s, for a child to end after SIGTERM


@dataclass(frozen=True)
class Measured:
    """Samples in seconds, and what the kernel did not grant."""

    inference_s: NDArray[np.float64]  # back to back
    paced_s: NDArray[np.float64]  # with a pause before each
    host_s: NDArray[np.float64]  # deadline -> write returned
    cpu_share: float  # of its time back to back in which the inference probe had the processor
    servo_period_s: float  # at which host_s was measured
    missing: tuple[str, ...]  # asked of the kernel and not granted


def measure(
    bundle: Bundle, target: Target, arm: ArmProfile, target_arm: str, samples: int, timeout_s: float = 540.0
) -> Measured:
    """`samples` of each probe. `target_arm`: name or path of the arm profile, for the child.

    Raises DeviceFault, Unsound, BadInput: whatever a child reports.
    """
    timing = bundle.manifest.timing
    period_s = min(SERVO_PERIOD_S, servo_period_s(timing, target))
    with tempfile.TemporaryDirectory(prefix="edgevla-check-") as folder, _virtual_arm(arm) as port:
        host, inference = Path(folder, "host.npy"), Path(folder, "inference.npy")
        servo_command = [
            "edgevla.check.servo_probe", "--port", port, "--arm", target_arm, "--out", str(host),
            "--samples", str(samples), "--period-us", str(round(period_s * 1e6)),
            "--core", _core(target.servo_core), "--priority", str(target.servo_priority),
        ]  # fmt: skip
        pause_s = target.replan_ticks * timing.period_s
        policy_command = [
            "edgevla.check.inference_probe", "--bundle", str(bundle.path), "--out", str(inference),
            "--samples", str(samples), "--paced", str(PACED), "--pause-s", str(pause_s),
            "--delay", str(delay_ticks(target.latency_budget_s, timing.period_s)),
            "--threads", str(target.policy_threads), "--core", _core(target.policy_core),
            "--runs-on", json.dumps(asdict(runs_on_of(target, bundle.path))),
        ]  # fmt: skip
        servo, policy = _both([servo_command, policy_command], timeout_s)
        inference_s = _samples(inference, samples + PACED)
        return Measured(
            inference_s=inference_s[:samples],
            paced_s=inference_s[samples:],
            host_s=_samples(host, samples),
            cpu_share=policy["cpu_share"],
            servo_period_s=period_s,
            missing=(*servo["granted"]["missing"], *filter(None, [policy["missing"]])),
        )


def _core(core: int | None) -> str:
    return str(-1 if core is None or core >= (os.cpu_count() or 1) else core)


def _samples(path: Path, count: int) -> NDArray[np.float64]:
    return expect(load_npy(path.read_bytes(), path.name), path.name, "float64", (count,))


@contextmanager
def _virtual_arm(arm: ArmProfile) -> Iterator[str]:
    """Virtual devices of every bus of the arm, each a process; yields what `--port` would say."""
    with ExitStack() as stack:
        asked = {"options": dict(arm.options), "watchdog_s": arm.watchdog_s}
        devices = {bus: VirtualProcess(arm.protocol, joints_of(arm, bus), **asked) for bus in arm.buses}
        for device in devices.values():
            stack.enter_context(device)
        yield ",".join(f"{bus}={device.port}" for bus, device in devices.items())


def _both(commands: Sequence[Sequence[str]], timeout_s: float) -> list[dict[str, Any]]:
    """Run the probes side by side; the `measured` event of each. The first that fails ends both."""
    deadline_s = time.monotonic() + timeout_s
    with ExitStack() as stack:
        children = [stack.enter_context(_started([sys.executable, "-m", *command])) for command in commands]
        while not all(child.poll() == 0 for child in children):
            for child in children:
                if child.poll():
                    _result(child)
            if time.monotonic() > deadline_s:
                todo = "measure with fewer --samples, or on an idle host"
                raise Unsound(explain("a probe did not end", f"{timeout_s:g} s at most", "longer", todo))
            time.sleep(_POLL_S)
        return [_result(child) for child in children]


def _output(child: subprocess.Popen[str]) -> IO[str]:
    if child.stdout is None:
        raise ValueError("a child whose output is not a pipe")
    return child.stdout


def _result(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The `measured` event of a child that has ended. Raises what the child reported instead."""
    events = [json.loads(line) for line in _output(child) if line.startswith("{")]
    for event in events:
        if event["event"] == "measured":
            return dict(event)
        if event["event"] == "error":
            raise _error(event)
    todo = "see what it printed above; look for the out-of-memory killer in `dmesg`"
    raise Unsound(explain("a probe died", "its samples", f"exit status {child.returncode}", todo))


def _error(event: dict[str, Any]) -> EdgevlaError:
    kinds: dict[int, type[EdgevlaError]] = {
        kind.exit_code: kind for kind in (Refused, Usage, Unsound, BadInput, DeviceFault)
    }
    return kinds.get(event["exit_code"], DeviceFault)(event["message"])


@contextmanager
def _started(command: Sequence[str], stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A child that is over, one way or the other, when this context is."""
    child = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        if child.stdin is not None:
            child.stdin.close()
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()
