"""Whether a run says anything: what its machine granted, took away, or was set to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.guard.budget import Soundness
from bench.guard.claims import Claim, Measured, unjudged
from bench.guard.drift import Drift
from edgevla.doctor import jetson, thermal
from edgevla.doctor.host import Host, Wanted
from edgevla.telemetry.host import stolen_s
from edgevla.telemetry.stats import samples_needed
from profiles import Target

TAILS = frozenset({"samples", "stolen", "drift"})  # reasons that spoil tails, never half of all samples
_CPU, _HWMON = "sys/devices/system/cpu", "sys/class/hwmon"


@dataclass(frozen=True)
class Reason:
    """One reason why a run is not sound."""

    kind: str  # samples | stolen | drift | throttled | power | real-time | stopped
    text: str


@dataclass(frozen=True)
class Conditions:
    """Counters of the machine that only grow."""

    stolen_s: float
    throttled: Mapping[str, int]


def conditions(host: Host) -> Conditions:
    """As they stand now; counters that this machine does not have are absent."""
    files = {
        f"{cpu} {kind}": f"{_CPU}/{cpu}/thermal_throttle/{kind}_throttle_count"
        for cpu in host.tree.names(_CPU, r"cpu\d+")
        for kind in ("core", "package")
    }
    for chip in host.tree.names(_HWMON, r"hwmon\d+"):
        events = host.tree.names(f"{_HWMON}/{chip}", r"oc\d_event_cnt")
        files |= {f"over-current {event}": f"{_HWMON}/{chip}/{event}" for event in events}
    read = {name: host.tree.number(path) for name, path in files.items()}
    return Conditions(stolen_s(host.tree.path("proc/stat")), {n: v for n, v in read.items() if v is not None})


def of_machine(host: Host, target: Target, before: Conditions, after: Conditions) -> list[Reason]:
    """Throttling between the two looks or now, and a power mode that is not the target's."""
    rose = [n for n, v in after.throttled.items() if v > before.throttled.get(n, v)]
    found = [Reason("throttled", f"throttled while it ran: {', '.join(sorted(rose))}")] if rose else []
    wanted = Wanted(target=target)
    for finding in thermal.examine(host, wanted):
        if finding.name == "thermal throttling now" and finding.level == "fail":
            found.append(Reason("throttled", f"thermal throttling now: {finding.found}"))
    for finding in jetson.examine(host, wanted):
        if finding.name == "power mode" and finding.level != "pass" and target.power_mode:
            found.append(Reason("power", f"power mode {finding.found}, expected {finding.expected}"))
    if target.power_mode and not host.jetson:
        text = f"target {target.name} expects power mode {target.power_mode}; this machine has none"
        found.append(Reason("power", text))
    return found


def of_run(limits: Soundness, stolen: float, wall_s: float, missing: Sequence[str], stopped: str) -> list[Reason]:
    """Stolen time as a share of one core, what the kernel did not grant, and an operator who ended it."""
    found = []
    share = stolen / wall_s if wall_s > 0 else 0.0
    if share > limits.stolen_share:
        text = f"{100 * share:.2f} % of a core was stolen by the hypervisor, at most {100 * limits.stolen_share:g} %"
        found.append(Reason("stolen", text))
    if limits.real_time and missing:
        found.append(Reason("real-time", f"real time not granted: {'; '.join(missing)}"))
    if stopped:
        found.append(Reason("stopped", stopped))
    return found


def of_samples(claims: Sequence[Claim], stages: Mapping[str, Measured], drifts: Mapping[str, Drift]) -> list[Reason]:
    """Limits that the effective samples cannot bound, and drift on which the answer would depend."""
    found = []
    for claim in unjudged(claims):
        needed = samples_needed(claim.quantile or 0.0, claim.confidence or 0.0)
        text = f"{claim.name}: {stages[claim.stage].effective:.0f} effective samples, {needed} bound it"
        found.append(Reason("samples", text))
    for claim in claims:
        drift = drifts.get(claim.stage)
        if claim.kind != "bounded" or not claim.kept or drift is None or not drift.significant or not claim.limit_us:
            continue
        worst_us = max(block["p99_us"] if (claim.quantile or 0) > 0.5 else block["p50_us"] for block in drift.blocks)
        if worst_us > claim.limit_us:
            text = f"{claim.name} drifts (p = {drift.p_value:.1g}): its worst block reached {worst_us:g} us"
            found.append(Reason("drift", text))
    return found


def exit_code(broken: int, reasons: Sequence[Reason], beyond_blame: int) -> int:
    """0 kept, 1 broken, 3 not sound. What is broken in an unsound run is 3, unless it is broken beyond blame."""
    if not reasons:
        return 1 if broken else 0
    only_tails = all(reason.kind in TAILS for reason in reasons)
    return 1 if beyond_blame and only_tails else 3
