"""How finely layers are judged in the time there is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LADDER_RUNS = 20  # candidates judged after the layers, about
SHARE = 0.7  # of the time for judging; the rest is for timing and for what is around it
LEAST_GROUPS = 2


@dataclass(frozen=True)
class Plan:
    """At most `groups` groups of layers, judged alone in int8 and, if `both_ways`, alone in float too."""

    groups: int
    both_ways: bool


def plan(layers: int, each_s: float, budget_s: float | None) -> Plan:
    """From the time one judged candidate takes: every layer both ways, every layer one way, or groups of layers."""
    if budget_s is None:
        return Plan(layers, True)
    runs = int(SHARE * budget_s / max(each_s, 1e-6)) - LADDER_RUNS
    if runs >= 2 * layers:
        return Plan(layers, True)
    return Plan(min(layers, max(LEAST_GROUPS, runs)), False)
