"""The autopilot: which layers of a policy become int8, decided by action error and measured latency.

    SmoothQuant folded if it helps -> layers -> what each saves (us) and costs (action error) -> two ladders
        -> candidates judged on real frames -> the front of them beside float, float16 and OpenVINO in one
           interleaved run -> one rule -> Choice

A stopped search goes on: every error is kept in `work` under the hash of graphs, frames and candidate. Latencies are
taken anew, as they belong to one run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgevla.bundle.manifest import ActionChannel
from edgevla.errors import Unsound, explain
from edgevla.telemetry.interleaved import Interleaved
from export.distill.progress import Reporter
from export.quantize.artifact import quantize
from export.search.cache import Cache, key_of
from export.search.engines import Feeds, ort_chain, with_stages
from export.search.error import ActionError, Budget, default_budget
from export.search.front import LADDER_KIND, Candidate, Weighed, candidates, names_of, shortlist
from export.search.layers import Key, Layer, grouped, layers_of
from export.search.measure import ROUNDS, Baseline, available_bytes, baselines, most_at_once, saved_us, time_chains
from export.search.plan import Plan, plan
from export.search.rule import ENGINE, Decision, Row, against_baselines, pick
from export.search.sensitivity import Judge, Quantizer, Smoother, fold, possible, weigh

KINDS = (LADDER_KIND, "static-qdq", "nbits8", "fp16", "fp32")
LEAST_FRAMES = 300
TIMING_SHARE = 0.25  # of a search budget, for the interleaved run


@dataclass(frozen=True)
class Choice:
    """What ships, and everything it was decided on.

    graphs: by stage, those that run once per instruction in float. artifact: kind of the others. `sentence` says why,
    `others` how it stands against other engines. weighed: the groups of layers with their price.
    """

    graphs: Mapping[str, bytes]
    candidate: Candidate
    decision: Decision
    others: str
    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]
    alone: Mapping[Key, ActionError]
    weighed: tuple[Weighed, ...]
    judged: Mapping[str, tuple[float, ActionError]]  # every candidate: share of the budget and error, timed or not
    budget: Budget
    run: Interleaved
    notes: tuple[str, ...] = field(default=())

    @property
    def sentence(self) -> str:
        return self.decision.sentence

    @property
    def artifact(self) -> str:
        return self.candidate.kind


def search(
    graphs: Mapping[str, bytes],
    frames: Sequence[Feeds],
    calibration: Sequence[Feeds],
    channels: Sequence[ActionChannel],
    budget: Budget | None = None,
    *,
    fixed: frozenset[str] = frozenset({"text"}),
    times: tuple[float, ...] = (),
    kinds: Iterable[str] = KINDS,
    quantizer: Quantizer = quantize,
    smoother: Smoother = fold,
    work: Path | None = None,
    search_budget_s: float | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: bool = False,
) -> Choice:
    """Decides what ships.

    Args:
        graphs: FP32 by stage, in the order they run; the last answers `chunk` (1, H, A), normalised.
        frames: feeds of at least LEAST_FRAMES real frames, batch 1, with `prefix_mask`, to judge on.
        calibration: feeds of other real frames, for static activations.
        channels: of the actions. budget: the error allowed; default: `default_budget(channels)`.
        fixed: stages that run once per instruction: they stay in float and are not timed.
        times: of the last stage where it is one step of a flow.
        quantizer, smoother: graph -> artifact, and graph -> the same function with outlier channels folded away.
        search_budget_s: time to keep to; fewer, larger groups of layers are judged where it is short.

    Raises:
        Unsound: fewer frames than LEAST_FRAMES.
        BadInput: a graph that does not load.
    """
    if len(frames) < LEAST_FRAMES:
        raise Unsound(explain("frames to judge on", f"at least {LEAST_FRAMES}", len(frames), "give more data"))
    started, asked = time.monotonic(), _Asked(budget or default_budget(channels), search_budget_s, progress)
    timed = {name: graph for name, graph in graphs.items() if name not in fixed}
    once = {name: graph for name, graph in graphs.items() if name in fixed}
    frames, calibration = with_stages(once, frames), with_stages(once, calibration)
    judge = Judge(timed, frames, calibration, channels, quantizer, times, Cache(work))
    judge, folded = with_smoothing(judge, smoother, asked.budget)
    judged = _judged(judge, layers_of(timed, max(1, len(times))), kinds, asked)
    others, missing = baselines(timed, calibration, times)
    names, rows, run = _measured(judge, judged, others, frames, asked, rounds, seed)
    decision = pick(rows, run.ratio)
    chosen = next(candidate for candidate, name in names.items() if name == decision.name)
    made = timed if chosen.kind == "fp32" else judge.make(chosen)
    return Choice(
        graphs={name: made.get(name, graph) for name, graph in graphs.items()},
        candidate=chosen,
        decision=decision,
        others=against_baselines(rows, decision.name, run.ratio),
        rows=tuple(rows),
        layers=judged.layers,
        alone=judged.alone,
        weighed=judged.weighed,
        judged={names[c]: (asked.budget.share(error), error) for c, error in judged.errors.items()},
        budget=asked.budget,
        run=run,
        notes=(folded, *judged.notes, *missing, f"the search took {time.monotonic() - started:.0f} s"),
    )


def with_smoothing(judge: Judge, smoother: Smoother, budget: Budget) -> tuple[Judge, str]:
    """The judge of the graphs as they are or smoothed, whichever gives all-int8 the smaller error, and a sentence."""
    smoothed = judge.with_graphs({name: smoother(graph, judge.feeds[name]) for name, graph in judge.graphs.items()})
    if smoothed.graphs == judge.graphs:
        return judge, "SmoothQuant found nothing to fold"
    before, after = (budget.share(one.error(Candidate(LADDER_KIND))) for one in (judge, smoothed))
    shares = f"all-int8 takes {after:.2f} of the error budget with it, {before:.2f} without"
    return (smoothed, f"SmoothQuant folded: {shares}") if after < before else (judge, f"no SmoothQuant: {shares}")


@dataclass(frozen=True)
class _Asked:
    budget: Budget
    search_budget_s: float | None
    progress: bool


@dataclass(frozen=True)
class _Judged:
    """What is known before anything is timed as a whole."""

    layers: tuple[Layer, ...]
    saved_us: Mapping[Key, float]
    weighed: tuple[Weighed, ...]
    alone: Mapping[Key, ActionError]
    errors: Mapping[Candidate, ActionError]
    notes: tuple[str, ...]


def _judged(judge: Judge, layers: Sequence[Layer], kinds: Iterable[str], asked: _Asked) -> _Judged:
    """Layers weighed, candidates made of them, and the error of each."""
    gains = saved_us(layers, judge.quantizer)
    weighed, alone = _weigh(judge, layers, gains, asked)
    found, notes = possible(judge, candidates(weighed, kinds))
    errors, bar = {}, Reporter("candidates", len(found), asked.progress)
    try:
        for number, candidate in enumerate(found, 1):
            errors[candidate] = judge.error(candidate)
            bar.show(number)
    finally:
        bar.close()
    return _Judged(tuple(layers), gains, tuple(weighed), alone, errors, tuple(notes))


def _measured(
    judge: Judge,
    judged: _Judged,
    others: Sequence[Baseline],
    frames: Sequence[Feeds],
    asked: _Asked,
    rounds: int,
    seed: int,
) -> tuple[dict[Candidate, str], list[Row], Interleaved]:
    """The shortlist beside the baselines in one run: names of all candidates, rows of the timed ones, the run."""
    shares = {candidate: asked.budget.share(error) for candidate, error in judged.errors.items()}
    most = most_at_once(sum(map(len, judge.graphs.values())), available_bytes())
    names = names_of(judged.errors)
    short = [(names[c], c) for c in shortlist(shares, judged.saved_us, most)]
    chains = {name: ort_chain(judge.make(c), judge.times) for name, c in short}
    chains |= {baseline.name: baseline.chain for baseline in others}
    limit_s = None if asked.search_budget_s is None else TIMING_SHARE * asked.search_budget_s
    run = time_chains(chains, frames, rounds, limit_s, seed)
    return names, _rows(judge, short, judged.errors, others, asked.budget, run), run


def _weigh(
    judge: Judge, layers: Sequence[Layer], gains: Mapping[Key, float], asked: _Asked
) -> tuple[list[Weighed], dict[Key, ActionError]]:
    planned = plan_of(judge, layers, asked.search_budget_s)
    groups = grouped(layers, planned.groups)
    bar = Reporter("layers", len(groups) * (2 if planned.both_ways else 1), asked.progress)
    count = iter(range(1, 10**9))
    try:
        return weigh(judge, layers, groups, gains, asked.budget, planned.both_ways, lambda: bar.show(next(count)))
    finally:
        bar.close()


def plan_of(judge: Judge, layers: Sequence[Layer], search_budget_s: float | None) -> Plan:
    """How finely layers are judged; a search that was stopped keeps its plan, as its results are of those groups."""
    key = key_of("plan/1", judge.identity, len(layers), search_budget_s)
    known = judge.cache.get(key)
    if known is not None:
        return Plan(**known)
    made = plan(len(layers), judge.seconds_each() if search_budget_s is not None else 0.0, search_budget_s)
    judge.cache.put(key, asdict(made))
    return made


def _rows(
    judge: Judge,
    short: Sequence[tuple[str, Candidate]],
    errors: Mapping[Candidate, ActionError],
    others: Sequence[Baseline],
    budget: Budget,
    run: Interleaved,
) -> list[Row]:
    """The table, fastest first."""
    times, rows = run.summary(), []
    for name, c in short:
        size = sum(map(len, judge.make(c).values()))
        p50, p99, error = times[name]["p50_ms"], times[name]["p99_ms"], errors[c]
        rows.append(Row(name, c.kind, ENGINE, size, p50, p99, error, budget.share(error)))
    for other in others:
        p50, p99, error = times[other.name]["p50_ms"], times[other.name]["p99_ms"], judge.error_of(other.chain)
        size = sum(map(len, judge.graphs.values()))
        rows.append(Row(other.name, "baseline", "openvino", size, p50, p99, error, budget.share(error), other.note))
    return sorted(rows, key=lambda row: row.p50_ms)
