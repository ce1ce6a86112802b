"""A random part of the paired episodes played again: the same policy, scene and words give the same episode.

Only what can be the same is played: a policy whose files are here with the hash that its rows name, and that draws
nothing while it plays. Everything else is left out by name, with the reason.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevla.sim.lockstep import Outcome
from export.evidence.outcomes import Row, read_rows
from export.evidence.rollouts import PolicySpec, play_all

SHARE = 0.05
DRAWS = ("teacher-noise", "blank")  # kinds that draw noise at each inference: an episode depends on those before it


DISTURBED = ", disturbed"


@dataclass(frozen=True)
class Part:
    """Rows of one file and policy; those of all its disturbances together.

    why_not: empty where they can be played; `spec` is then there.
    """

    name: str
    policy: str
    rows: tuple[Row, ...]
    spec: PolicySpec | None
    why_not: str


def parts(folder: Path, bundles: Sequence[Path], teacher: Path) -> list[Part]:
    """Every file of outcomes, by the name of what was judged and its own."""
    known = identities(bundles, teacher)
    found = []
    for path in sorted((folder / "outcomes").glob("*.parquet")):
        rows: dict[str, list[Row]] = {}
        for row in read_rows(path):
            rows.setdefault(_without_level(row.policy), []).append(row)
        found += [_part(f"{folder.name}/{path.stem}", policy, tuple(mine), known) for policy, mine in rows.items()]
    return found


def _without_level(policy: str) -> str:
    plain, comma, _ = policy.partition(", ")
    return plain + DISTURBED if comma else plain


def identities(bundles: Sequence[Path], teacher: Path) -> dict[str, PolicySpec]:
    """What is here, by the hash that rows name it by."""
    found: dict[str, PolicySpec] = {}
    for bundle in (bundle for bundle in bundles if (bundle / "manifest.json").is_file()):
        specs = [PolicySpec("int8", bundle)]
        if (teacher / "model.safetensors").is_file():
            specs.append(PolicySpec("teacher", bundle, teacher))
        found |= {spec.identity(): spec for spec in reversed(specs)} | found
    return found


def _part(name: str, policy: str, rows: tuple[Row, ...], known: dict[str, PolicySpec]) -> Part:
    kind = policy.split()[0]
    if kind in DRAWS:
        return Part(
            name, policy, rows, None, "draws new noise at every inference: an episode depends on those before it"
        )
    if policy.endswith(DISTURBED):
        return Part(name, policy, rows, None, "disturbed on purpose: the command of the curves plays them")
    if policy in known:
        return Part(name, policy, rows, known[policy], "")
    if " of student " in policy:
        why = (
            "its rows name the student's weights and not the bundle, which was not kept: no file can be shown to be it"
        )
        return Part(name, policy, rows, None, why)
    here = ", ".join(identity for identity in known if identity.split()[0] == kind) or "none"
    return Part(name, policy, rows, None, f"the bundle or teacher with this hash is not here (here: {here})")


def chosen(found: Sequence[Part], seed: str, count: int | None) -> list[tuple[Part, list[Row]]]:
    """`count` episodes of all that can be played, else the SHARE of them; drawn from the seed. Pure."""
    able = [(part, row) for part in found if part.spec is not None for row in part.rows]
    wanted = min(len(able), math.ceil(SHARE * len(able)) if count is None else count)
    drawn = random.Random(seed).sample(range(len(able)), wanted)
    picked = [able[index] for index in sorted(drawn)]
    return [(part, rows) for part in found if (rows := [row for one, row in picked if one is part])]


def replay(
    part: Part, rows: Sequence[Row], workers: int, progress: Callable[[int], None]
) -> tuple[list[str], list[str]]:
    """Plays them; what differs, and what came to the same end by another path, in words."""
    if part.spec is None:
        raise ValueError(f"{part.name}: expected a policy that can be played, got: {part.why_not}")
    outcomes = play_all(part.spec, [row.episode for row in rows], workers, progress)
    return differences(part.name, rows, outcomes), other_paths(part.name, rows, outcomes)


def differences(name: str, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[str]:
    """Success, which every figure counts, must be the same. Pure."""
    return [_both(name, row, got) for row, got in zip(rows, outcomes, strict=True) if row.success != got.success]


def other_paths(name: str, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[str]:
    """Same success in other ticks: another CPU rounds otherwise, and 80 ticks of a scene add that up. Pure."""
    return [
        _both(name, row, got)
        for row, got in zip(rows, outcomes, strict=True)
        if row.success == got.success and (row.ticks, row.inferences) != (got.ticks, got.inferences)
    ]


def _both(name: str, row: Row, outcome: Outcome) -> str:
    was, now = (tuple(getattr(one, key) for key in ("success", "ticks", "inferences")) for one in (row, outcome))
    place = f"{name}: {row.episode.task} seed {row.episode.seed}"
    return f"{place}: (success, ticks, inferences) {was}, played again {now}"
