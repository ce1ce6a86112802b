"""Which layers to put back to float, and which candidates are worth timing. Pure.

Two ladders lead from all-int8 to float. Down: layers leave int8 in the order of the error that leaves with them (all
others stay in int8) per microsecond they cost. Up: layers enter int8, the one that adds least error (all others in
float) per saved microsecond first. They meet where layers do not mask each other, and differ where they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from export.search.layers import Group, Key

T = TypeVar("T")
LADDER_KIND = "dynamic-s8"
LEAST_US = 0.01  # a layer that saves nothing measurable goes back to float first
STATIC_RUNGS = 3  # of the ladder down, tried with static activations too


@dataclass(frozen=True)
class Candidate:
    """One artifact: a kind, and the layers that stay in float."""

    kind: str
    keep: frozenset[Key] = field(default_factory=frozenset)

    def keep_in(self, stage: str) -> frozenset[str]:
        return frozenset(node for of, node in self.keep if of == stage)


@dataclass(frozen=True)
class Weighed:
    """A group of layers: what int8 saves there, and what it costs in shares of the error budget.

    alone: of the group in int8 with everything else in float. relief: by how much all-int8 shrinks when it alone is in
    float (below zero where errors cancel); None where it was not asked.
    """

    group: Group
    saved_us: float
    alone: float
    relief: float | None = None

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(layer.key for layer in self.group)


def ladders(weighed: Sequence[Weighed]) -> list[frozenset[Key]]:
    """The sets of layers to keep in float, from none to all but some, without doubles, shortest first."""
    down = sorted(weighed, key=lambda w: _price(w.alone if w.relief is None else w.relief, w.saved_us), reverse=True)
    up = sorted(weighed, key=lambda w: _price(w.alone, w.saved_us), reverse=True)
    sets = [keep for order in (down, up) for keep in _rungs(order)]
    return sorted(dict.fromkeys(sets), key=len)


def _price(error: float, saved_us: float) -> float:
    """Error per microsecond saved. What saves nothing has no business in int8, whatever its error."""
    return float("inf") if saved_us < LEAST_US else error / saved_us


def _rungs(order: Sequence[Weighed]) -> list[frozenset[Key]]:
    """The first 0, 1, 2, 3, 5, 8, ... groups, never all of them: that is the float candidate."""
    return [frozenset[Key]().union(*(w.keys for w in order[:n])) for n in rungs(len(order))]


def rungs(count: int) -> list[int]:
    """0, 1, 2, 3, 5, 8, 13, ... below `count`.

    >>> rungs(10)
    [0, 1, 2, 3, 5, 8]
    """
    steps, following = [0, 1, 2], [3, 5]
    while following[0] < count:
        steps.append(following[0])
        following = [following[1], sum(following)]
    return [step for step in steps if step < count]


def candidates(weighed: Sequence[Weighed], kinds: Iterable[str], ladder_kind: str = LADDER_KIND) -> list[Candidate]:
    """Everything to be judged: both ladders for the first kind, three rungs for static, the others as they are."""
    keeps = ladders(weighed)
    found = []
    for kind in kinds:
        if kind == ladder_kind:
            found += [Candidate(kind, keep) for keep in keeps]
        elif kind == "static-qdq":
            found += [Candidate(kind, keep) for keep in keeps[:STATIC_RUNGS]]
        else:
            found.append(Candidate(kind))
    return found


def estimated_us(candidate: Candidate, saved_us: Mapping[Key, float]) -> float:
    """Microseconds more than with every layer in int8, by the layers alone."""
    return sum(saved_us[key] for key in candidate.keep)


def not_dominated(points: Mapping[T, tuple[float, float]]) -> list[T]:
    """The points (cost, error) that no other beats in one without losing in the other, cheapest first."""
    front: list[T] = []
    for name in sorted(points, key=lambda name: points[name]):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


def shortlist(
    judged: Mapping[Candidate, float], saved_us: Mapping[Key, float], most: int, ladder_kind: str = LADDER_KIND
) -> list[Candidate]:
    """What is timed: the front of the ladder by estimated time and share of the budget, and one of each other kind.

    judged: share of the error budget of each. most: of the ladder; thinned evenly, both ends stay. Of a kind with
    several candidates the one with the least error.
    """
    ladder = {c: (estimated_us(c, saved_us), share) for c, share in judged.items() if c.kind == ladder_kind}
    chosen = thinned(not_dominated(ladder), most)
    for kind in dict.fromkeys(c.kind for c in judged if c.kind != ladder_kind):
        chosen.append(min((c for c in judged if c.kind == kind), key=lambda c: judged[c]))
    return chosen


def thinned(names: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spaced, first and last among them."""
    if len(names) <= most:
        return list(names)
    if most == 1:
        return [names[0]]
    return [names[round(i * (len(names) - 1) / (most - 1))] for i in range(most)]


def names_of(found: Iterable[Candidate]) -> dict[Candidate, str]:
    """A name for each: `dynamic-s8`, `dynamic-s8, 3 in float`, and a letter where that is said twice."""
    names: dict[Candidate, str] = {}
    for candidate in found:
        count = len(candidate.keep)
        name = f"{candidate.kind}, {count} in float" if count else candidate.kind
        twins = sum(c.kind == candidate.kind and len(c.keep) == count for c in names)
        names[candidate] = f"{name} ({chr(ord('a') + twins)})" if twins else name
    return names
