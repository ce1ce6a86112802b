"""A blinded A/B on the real arm: who runs in which trial, and when the answers decide. Pure.

Trials 2 i - 1 and 2 i are pair i: the same scene, once with each policy. Who comes first is drawn in blocks of
`BLOCK_PAIRS` pairs, each policy first in half of them, from the seed of the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export.evidence.paired import Design, PairCounts, Verdict, count_pairs, loss_z, sequential_verdict

SCHEMA = "edgevla.real-eval/1"
ROLES = ("reference", "candidate")
BLOCK_PAIRS = 4
ANSWERS = ("y", "n", "void")
HOPELESS = "cannot be shown any more"  # by the declared looks, even if every pair to come went for the candidate


@dataclass(frozen=True)
class Declaration:
    """Said before the first trial, and the first line of the journal.

    bundles: sha256 of the manifest of the reference and of the candidate; a manifest covers every file.
    """

    seed: str
    bundles: tuple[str, str]
    command: str
    design: Design

    def as_dict(self) -> dict[str, Any]:
        d = self.design
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "bundles": dict(zip(ROLES, self.bundles, strict=True)),
            "command": self.command,
            "margin": d.margin,
            "alpha": d.alpha,
            "looks": list(d.looks),
            "block_pairs": BLOCK_PAIRS,
        }


def role_of(seed: str, trial: int) -> str:
    """'reference' or 'candidate' of a trial, counted from 1."""
    pair, second = divmod(trial - 1, 2)
    block, place = divmod(pair, BLOCK_PAIRS)
    drawn = sorted(range(BLOCK_PAIRS), key=lambda i: _draw(seed, block, i))
    candidate_first = drawn.index(place) < BLOCK_PAIRS // 2
    return ROLES[int(candidate_first != bool(second))]


def _draw(seed: str, block: int, place: int) -> bytes:
    """A hash, as generators of libraries may change between versions and the order of a session may not."""
    return hashlib.sha256(f"{seed}/{block}/{place}".encode()).digest()


@dataclass(frozen=True)
class Progress:
    """What the journal of a session says so far."""

    answers: Mapping[int, bool]  # trial -> success; voids are not in it
    voids: Mapping[int, int]  # trial -> how often it was void
    attempts: Mapping[int, int]  # trial -> how often it was started
    unanswered: int | None  # trial whose command ended and whose answer is missing

    @property
    def next_trial(self) -> int:
        return len(self.answers) + 1


def progress_of(events: Sequence[Mapping[str, Any]]) -> Progress:
    """From the lines after the declaration, in their order.

    Raises:
        ValueError: an answer to a trial that is not the next one, or one that is none.
    """
    answers: dict[int, bool] = {}
    voids: dict[int, int] = {}
    attempts: dict[int, int] = {}
    ended: int | None = None
    for event in events:
        kind, trial = event["event"], int(event["trial"])
        if trial != len(answers) + 1:
            raise ValueError(f"trial {trial} where trial {len(answers) + 1} is next")
        if kind == "start":
            attempts[trial], ended = attempts.get(trial, 0) + 1, None
        elif kind == "end":
            ended = trial
        elif kind == "answer" and event["answer"] in ANSWERS:
            ended = None
            if event["answer"] == "void":
                voids[trial] = voids.get(trial, 0) + 1
            else:
                answers[trial] = event["answer"] == "y"
        else:
            raise ValueError(f"event {kind!r}, answer {event.get('answer')!r}")
    return Progress(answers, voids, attempts, ended)


def flags_of(seed: str, answers: Mapping[int, bool], pairs: int) -> tuple[list[bool], list[bool]]:
    """Success of reference and candidate in the first `pairs` pairs."""
    flags: dict[str, list[bool]] = {role: [] for role in ROLES}
    for trial in range(1, 2 * pairs + 1):
        flags[role_of(seed, trial)].append(answers[trial])
    return flags["reference"], flags["candidate"]


def verdict_of(declaration: Declaration, answers: Mapping[int, bool]) -> Verdict | None:
    """The verdict at the looks that the whole pairs reach; None before the first."""
    design = declaration.design
    reached = [n for n in design.looks if n <= len(answers) // 2]
    counts = [count_pairs(*flags_of(declaration.seed, answers, n)) for n in reached]
    return sequential_verdict(design, counts) if counts else None


def decision_of(declaration: Declaration, answers: Mapping[int, bool]) -> str:
    """non-inferior | not shown | `HOPELESS` | continue."""
    verdict = verdict_of(declaration, answers)
    if verdict is None:
        return "continue"
    if verdict.decision == "continue":
        taken = declaration.design.looks[len(verdict.looks) - 1]
        counts = count_pairs(*flags_of(declaration.seed, answers, taken))
        return HOPELESS if hopeless(declaration.design, counts) else "continue"
    return verdict.decision


def hopeless(design: Design, counts: PairCounts) -> bool:
    """No later look can cross its boundary, even if the candidate alone succeeded in every pair to come.

    Stopping then changes no error rate: the verdict is the one that going on would end with.
    """
    for look, boundary in zip(design.looks, design.boundaries, strict=True):
        more = look - counts.pairs
        if more > 0 and loss_z(counts.only_reference, counts.only_candidate + more, look, design.margin) >= boundary:
            return False
    return True
