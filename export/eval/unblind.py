"""The end of a session with the real arm: which policy was which, and what the answers say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.cli.output import print_table, say
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import wilson_interval
from export.eval.real import Session
from export.eval.trials import ROLES, flags_of, role_of, verdict_of
from export.evidence.paired import compare


def report_of(session: Session, decision: str) -> dict[str, Any]:
    """Everything, unblinded. Called when the session is decided, and not before."""
    declaration, state = session.declaration, session.progress
    verdict = verdict_of(declaration, state.answers)
    if verdict is None:
        raise ValueError("a session without a look has no report")
    pairs = verdict.looks[-1].pairs
    trials = [line for line in session.journal.lines if line.get("event") == "answer"]
    return {
        "schema": "edgevla.eval-real/1",
        "declared": declaration.as_dict(),
        "bundles": dict(zip(ROLES, session.names, strict=True)),
        "same_bundle": declaration.bundles[0] == declaration.bundles[1],
        "decision": decision,
        "sequential": verdict.as_dict(),
        "paired": compare(*flags_of(declaration.seed, state.answers, pairs)).as_dict(),
        "first_of_pair": _place(state.answers, 1, pairs),
        "second_of_pair": _place(state.answers, 0, pairs),
        "voids": {role: _sum(state.voids, declaration.seed, role) for role in ROLES},
        "interrupted": sum(state.attempts.values()) - len(trials),
        "trials": [{**t, "policy": role_of(declaration.seed, t["trial"])} for t in trials],
        "host": describe_host(),
    }


def _place(answers: Mapping[int, bool], odd: int, pairs: int) -> float:
    """Share of successes of the first (odd trials) or second of a pair: scenes wear, operators tire."""
    mine = [answers[t] for t in range(1, 2 * pairs + 1) if t % 2 == odd]
    return sum(mine) / len(mine)


def _sum(voids: Mapping[int, int], seed: str, role: str) -> int:
    return sum(count for trial, count in voids.items() if role_of(seed, trial) == role)


def print_real_report(report: Mapping[str, Any]) -> None:
    """Who was who, and the verdict."""
    paired, voids = report["paired"], report["voids"]
    rows = []
    for role in ROLES:
        wins = round(paired[role] * paired["pairs"])
        low, high = wilson_interval(wins, paired["pairs"])
        interval = f"{100 * low:.0f} to {100 * high:.0f} %"
        rows.append((role, report["bundles"][role], f"{wins} of {paired['pairs']}", interval, voids[role]))
    print_table("unblinded", ["policy", "bundle", "success", "95 % interval", "void"], rows)
    declared = report["declared"]
    print_table(
        "candidate against reference, same scenes",
        ["pairs", "only reference", "only candidate", "loss", "95 % interval", "McNemar p"],
        [
            (
                paired["pairs"],
                paired["only_reference"],
                paired["only_candidate"],
                f"{100 * paired['loss']:.1f} points",
                f"{100 * paired['loss_low95']:.1f} to {100 * paired['loss_high95']:.1f}",
                f"{paired['mcnemar_p']:.3f}",
            )
        ],
    )
    last = report["sequential"]["looks"][-1]
    if report["same_bundle"]:
        say("both were the same bundle")
    say(
        f"{report['decision']} at {100 * declared['margin']:g} points (loss at most {100 * last['upper_bound']:.1f}, "
        f"repeated looks); first of a pair {100 * report['first_of_pair']:.0f} %, "
        f"second {100 * report['second_of_pair']:.0f} %",
        "bold",
    )
