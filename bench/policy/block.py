"""The block of docs/policy.md, from bench/results/mt10. Pure. An absent result is an empty mapping: *not measured*."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.benchmarks.row import table
from bench.report import text
from bench.report.data import as_number, get, number, rows

NOT_MEASURED = "not measured"
CURVES = "docs/images/robustness.svg"
GALLERY = "docs/images/mt10"  # one moving picture a task, and gallery.json
GROUPS = {"easy": 28, "medium": 11, "hard": 6, "very hard": 5}  # tasks of MT50 in each
MT50_REASON = "no GPU was at hand for its training"
Json = Mapping[str, Any]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What is committed below bench/results/mt10. `gallery`: gallery.json of docs/images/mt10."""

    evaluation: Json = field(default_factory=dict)
    realtime: Json = field(default_factory=dict)
    robustness: Json = field(default_factory=dict)
    ablations: Json = field(default_factory=dict)
    starts: Json = field(default_factory=dict)
    gallery: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A row of table 2 of Shukor et al. 2025 (SmolVLA, arXiv 2506.01844): success of the groups in %, as printed.

    The average that they print is the mean of the four groups, whatever the number of tasks in each.
    """

    policy: str
    parameters: str
    groups: tuple[str, str, str, str]
    average: str
    episodes: str = "500"  # ten trials of each of the 50 tasks

    @property
    def mean_of_tasks(self) -> float:
        """What the groups give when every task counts alike, %."""
        sizes = tuple(GROUPS.values())
        return sum(n * float(share) for n, share in zip(sizes, self.groups, strict=True)) / sum(sizes)


PUBLISHED = (
    Published("Diffusion Policy", "-", ("23.1", "10.7", "1.9", "6.1"), "10.5", "-"),
    Published("TinyVLA", "-", ("77.6", "21.5", "11.4", "15.8"), "31.6", "-"),
    Published("π0", "3.5 B", ("71.8", "48.2", "41.7", "30.0"), "47.9"),
    Published("π0, from PaliGemma alone", "3.5 B", ("80.4", "40.9", "36.7", "44.0"), "50.5"),
    Published("SmolVLA", "0.24 B", ("86.43", "46.36", "35.0", "60.0"), "56.95"),
    Published("SmolVLA", "0.45 B", ("82.5", "41.8", "45.0", "60.0"), "57.3"),
    Published("SmolVLA", "2.25 B", ("87.14", "51.82", "70.0", "64.0"), "68.24"),
)
OURS = (  # key of success{}, row of the table, whose parameters
    ("teacher_fresh", "our teacher, FP32, fresh noise at every inference, in the loop (MT10)", "teacher"),
    ("teacher_fresh_10", "of which the first ten a task (MT10)", "teacher"),
    ("teacher", "our teacher, FP32, one noise, in the loop (MT10)", "teacher"),
    ("student_fp32", "our student, FP32, in the loop (MT10)", "bundle"),
    ("int8", "**our student, int8, in the loop (MT10)**", "bundle"),
    ("int8_10", "**of which the first ten a task (MT10)**", "bundle"),
)
NAMES = {
    "teacher_fresh": "teacher, fresh noise",
    "teacher": "teacher",
    "student_fp32": "student FP32",
    "int8": "student int8",
}


@dataclass(frozen=True)
class Target:
    """What a figure of evaluation.json was to be. `limit` None: the file has it, at `limit_at`."""

    title: str
    at: str
    sense: str  # at_most, at_least
    limit: float | None
    form: Callable[[float | None], str]
    limit_at: str = ""


def _hz(value: float | None) -> str:
    return text.MISSING if value is None else f"{value:,.0f} Hz"


TARGETS = (
    Target("success of int8 in the loop, mean of tasks", "success.int8.mean", "at_least", 0.90, text.percent),
    Target("teacher, parameters", "teacher.parameters", "at_most", 25e6, text.count),
    Target("teacher, bytes of its weights", "teacher.bytes", "at_most", 30e6, text.size),
    Target("student, parameters", "bundle.parameters", "at_most", 12e6, text.count),
    Target("student, bytes of its graphs", "bundle.bytes", "at_most", 15e6, text.size),
    Target("inferences a second, one core", "latency.hz_one_core", "at_least", 50.0, _hz),
    Target("p99 of an inference, against L", "latency.p99_ms", "at_most", None, text.ms, "latency.budget_L_ms"),
)


def policy_of_many_tasks(found: Measured, host: Callable[[Json], str]) -> str:
    """The whole block: ten sections, each with its host."""
    told, live = found.evaluation, found.realtime
    sections = (
        (
            "Beside the published table",
            [_PUBLISHED_WORDS, _MEANS_WORDS, _beside(told), f"Host of our rows: {host(told)}."],
        ),
        ("Size and speed", [_targets(told), _precision(told), _median(told, host)]),
        ("Paired evidence", _paired(told)),
        ("Words", [_HALF_WAY, _halfway(told)]),
        ("Task by task", [_per_task(told)]),
        ("Real time", _measured(live, host, _realtime)),
        ("Robustness", _measured(found.robustness, host, _robustness)),
        ("What mattered", _measured(found.ablations, host, _ablations)),
        ("Where it starts", _measured(found.starts, host, _starts)),
        ("Gallery", _gallery(found.gallery)),
    )
    return "\n\n".join(part for title, parts in sections for part in (f"### {title}", *parts))


def _measured(found: Json, host: Callable[[Json], str], parts: Callable[[Json], list[str]]) -> list[str]:
    """The host and the parts of a result that is there."""
    return [f"Host: {host(found)}.", *parts(found)] if found else [NOT_MEASURED]


# --- beside the published table ---

_PUBLISHED_WORDS = (
    "Published: Meta-World **MT50**, ten trials a task ([Shukor et al. 2025](https://arxiv.org/abs/2506.01844), table "
    "2; its first two rows are quoted from TinyVLA's paper, and their shares are none of ten trials a task). Ours: "
    "**MT10**: ten tasks in place of fifty, none of them very hard, and other training data per task. The rows stand "
    f"side by side and rank nothing. Ours on MT50 was not measured: {MT50_REASON}."
)
_MEANS_WORDS = (
    "The published average is the mean of the four groups, though 28 of the 50 tasks are easy and five very hard; "
    "their mean over tasks is computed here from the groups. Ours is over the groups that MT10 has, and over its tasks."
)


def _beside(told: Json) -> str:
    head = ("policy", "parameters", *GROUPS, "mean of groups", "mean of tasks", "episodes")
    return table(head, [*map(_published_row, PUBLISHED), *(_our_row(told, *row) for row in OURS), _mt50_row()])


def _published_row(row: Published) -> Row:
    shares = (f"{value} %" for value in (*row.groups, row.average))
    return (f"{row.policy} (MT50)", row.parameters, *shares, f"{row.mean_of_tasks:.1f} %", row.episodes)


def _our_row(told: Json, key: str, title: str, whose: str) -> Row:
    parameters = _shown(number(told, f"{whose}.parameters"), text.count)
    shares = _group_shares(get(told, f"success.{key}.by_difficulty"))
    known = [share for share in shares if share is not None]
    groups = ("no task" if known and share is None else _shown(share, text.percent) for share in shares)
    mean_of_groups = sum(known) / len(known) if known else None
    mean, episodes = (number(told, f"success.{key}.{name}") for name in ("mean", "episodes"))
    means = (_shown(value, text.percent) for value in (mean_of_groups, mean))
    return (title, parameters, *groups, *means, _shown(episodes, text.whole))


def _mt50_row() -> Row:
    return ("ours (MT50)", *[NOT_MEASURED] * (len(GROUPS) + 4))


def _group_shares(found: Any) -> list[float | None]:
    """Of each group; None: no task of it was played."""
    named = {str(key).replace("_", " "): as_number(value) for key, value in (found or {}).items()}
    return [named.get(group) for group in GROUPS]


# --- size and speed ---


def _targets(told: Json) -> str:
    return table(("figure", "goal", "measured", ""), [_target(told, target) for target in TARGETS])


def _target(told: Json, target: Target) -> Row:
    limit = number(told, target.limit_at) if target.limit is None else target.limit
    value = number(told, target.at)
    goal = f"{text.SENSE[target.sense]} {'L' if limit is None else target.form(limit)}"
    if value is None or limit is None:
        return target.title, goal, _shown(value, target.form), ""
    kept = {"at_most": operator.le, "at_least": operator.ge}[target.sense](value, limit)
    return target.title, goal, target.form(value), "kept" if kept else "**missed**"


def _median(told: Json, host: Callable[[Json], str]) -> str:
    where = get(told, "latency.host")
    named = f" Host of the times: {host({'host': where})}." if where else ""
    return f"p50 of an inference: {_shown(number(told, 'latency.p50_ms'), text.ms)}.{named}"


def _precision(told: Json) -> str:
    """How much of the compressed student is int8."""
    int8, rest = (_shown(number(told, f"bundle.{key}"), text.count) for key in ("int8_parameters", "float_parameters"))
    return (
        f"Numbers in the student's graphs, scales and the mean picture among them: {int8} int8, {rest} float. Products "
        "of matrices are int8, convolutions stay FP32 ([why](quantization.md)). The goals were set before the "
        "training. The teacher's weights are stored as float16; it plays in FP32."
    )


# --- paired evidence ---


def _paired(told: Json) -> list[str]:
    looks = rows(told, "sequential.looks")
    if not looks:
        return [NOT_MEASURED]
    pair = get(told, "sequential.paired") or {}
    head = ("look, pairs", "loss, points", "loss at most, points (repeated looks)", "non-inferior")
    return [
        _decision(told),
        table(("pairs", "both succeed", "only the teacher", "only int8", "neither"), [_cells(pair)]),
        _loss(pair),
        table(head, [_look(look) for look in looks]),
        *_steps(rows(told, "steps")),
    ]


def _steps(found: Sequence[Json]) -> list[str]:
    """What each step from teacher to int8 costs."""
    if not found:
        return []
    head = ("from", "to", "succeeds before", "after", "loss, points (95 %)")
    return ["Each step of the way, on the same scenes:", table(head, [_step(step) for step in found])]


def _step(step: Json) -> Row:
    names = (NAMES.get(str(step.get(key)), str(step.get(key))) for key in ("reference_policy", "policy"))
    shares = (_shown(number(step, key), text.percent) for key in ("reference", "candidate"))
    loss, low, high = (_points(number(step, key)) for key in ("loss", "loss_low95", "loss_high95"))
    return (*names, *shares, f"{loss} ({low} to {high})")


def _decision(told: Json) -> str:
    found = get(told, "sequential")
    declared = ", ".join(text.whole(as_number(pairs)) for pairs in found.get("declared_looks") or ())
    margin, alpha = _points(number(found, "margin")), _shown(number(found, "alpha"), text.small)
    return (
        f"**{found.get('decision')}** at {margin} points, one-sided alpha {alpha}. The same seeds for the teacher and "
        f"for int8 in the loop; looks declared beforehand, pairs: {declared}."
    )


def _loss(pair: Json) -> str:
    loss, low, high = (_points(number(pair, key)) for key in ("loss", "loss_low95", "loss_high95"))
    teacher, int8 = (_shown(number(pair, key), text.percent) for key in ("reference", "candidate"))
    return (
        f"Teacher {teacher}, int8 {int8}; loss {loss} points ({low} to {high}, 95 %, of one look alone); "
        f"McNemar's p {_shown(number(pair, 'mcnemar_p'), text.small)}."
    )


def _cells(pair: Json) -> Row:
    keys = ("pairs", "both", "only_reference", "only_candidate", "neither")
    return tuple(_shown(number(pair, key), text.whole) for key in keys)


def _look(look: Json) -> Row:
    pairs, loss, upper = (as_number(look.get(key)) for key in ("pairs", "loss", "upper_bound"))
    return _shown(pairs, text.whole), _points(loss), _points(upper), "yes" if look.get("non_inferior") else "not yet"


# --- words and tasks ---

_HALF_WAY = "Half-way scenes, one scene and two instructions: episodes in which the joint moved as the words say."


def _halfway(told: Json) -> str:
    found = rows(told, "halfway")
    if not found:
        return NOT_MEASURED
    body = [
        (
            *(str(row.get(key, "?")) for key in ("scene", "instruction")),
            NAMES.get(str(row.get("model")), str(row.get("model", "?")).replace("_", " ")),
            " of ".join(_shown(as_number(row.get(key)), text.whole) for key in ("right", "episodes")),
        )
        for row in found
    ]
    return table(("scene", "instruction", "model", "the named way"), body)


def _per_task(told: Json) -> str:
    tasks = get(told, "success.int8.per_task")
    if not isinstance(tasks, Mapping) or not tasks:
        return NOT_MEASURED
    shares = {name: get(told, f"success.{name}.per_task") or {} for name in NAMES}
    body = [(task, *(_shown(as_number(of.get(task)), text.percent) for of in shares.values())) for task in tasks]
    return "\n\n".join((table(("task", *NAMES.values()), body), _episodes_each(told, len(tasks))))


def _episodes_each(told: Json, tasks: int) -> str:
    counts = [number(told, f"success.{name}.episodes") for name in NAMES]
    shown = ", ".join(NOT_MEASURED if count is None else text.whole(count / tasks) for count in counts)
    return f"Episodes of each task, column by column: {shown}."


# --- real time, robustness, ablations, pictures ---


def _realtime(live: Json) -> list[str]:
    pair, count = get(live, "paired") or {}, text.whole
    priority = {True: "not granted in every run", False: "granted"}.get(get(live, "best_effort"), NOT_MEASURED)
    told = {
        "late commands": _shown(number(live, "late_commands"), count),
        "runs with one": _shown(number(live, "runs_with_late_commands"), count),
        "servo misses": _shown(number(live, "misses"), count),
        "release misses": _shown(number(live, "release_misses"), count),
        "wake after deadline, p99 / p99.9, us": f"{_whole(live, 'wake_p99_us')} / {_whole(live, 'wake_p999_us')}",
        "stolen by the host": _shown(number(live, "stolen_s"), text.seconds),
        "real-time priority": priority,
    }
    runs, same = (_whole(live, key) for key in ("episodes", "same_outcome"))
    return [
        f"Scenes of the pairs again, int8 by the clock and over the bus, runs: {runs}; ended as in lockstep: {same}.",
        table(("episodes", "both succeed", "only lockstep", "only by the clock", "neither"), [_cells(pair)]),
        table(("control loop", "measured"), list(told.items())),
        _shares(get(live, "per_task"), "success by the clock"),
    ]


def _whole(found: Json, at: str) -> str:
    return _shown(number(found, at), text.whole)


def _shares(found: Any, title: str) -> str:
    if not isinstance(found, Mapping) or not found:
        return NOT_MEASURED
    return table(("task", title), [(task, _shown(as_number(share), text.percent)) for task, share in found.items()])


_ROBUSTNESS = (
    "The same scenes at every level; both policies start from the bundle's one noise. A sentence with a word that the "
    "policy does not know is refused, and counts as an episode without success."
)


def _robustness(found: Json) -> list[str]:
    picture = f"![Success against each disturbance, teacher and int8]({CURVES.removeprefix('docs/')})"
    head = ("disturbance", "level: teacher / int8, success in %", "episodes a level", "refused")
    return [_ROBUSTNESS, picture, table(head, [_curve(curve) for curve in rows(found, "curves")])]


def _curve(curve: Json) -> Row:
    points = rows(curve, "points")
    name, unit = str(curve.get("name", "?")), curve.get("unit")
    episodes = dict.fromkeys(_whole(point, "episodes") for point in points)
    refused = sum(as_number(point.get("refused")) or 0.0 for point in points)
    shown = "; ".join(_point(point) for point in points) or NOT_MEASURED
    return f"{name} ({unit})" if unit else name, shown, ", ".join(episodes), f"{refused:.0f}" if refused else "-"


def _point(point: Json) -> str:
    return f"{point.get('level', '?')}: {' / '.join(_points(as_number(point.get(key))) for key in ('teacher', 'int8'))}"


def _ablations(found: Json) -> list[str]:
    body = [
        (
            *(str(row.get(key, "?")) for key in ("name", "what")),
            _shown(as_number(row.get("success")), text.percent),
            " to ".join(f"{100 * end:.1f}" for end in row.get("success_ci") or ()) or NOT_MEASURED,
            _shown(as_number(row.get("episodes")), text.whole),
            str(row.get("beside", "?")),
            _points(as_number(row.get("difference"))),
        )
        for row in rows(found, "rows")
    ]
    frames = _shown(number(found, "frames"), text.whole)
    said = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in found.get("conclusions") or () if sentence)
    lines = table(("training", "what is different", "success", "95 %", "episodes", "beside", "points more"), body)
    return [f"Frames a training: {frames}.", lines, said or NOT_MEASURED]


_STARTS = (
    "The teacher from each candidate for z, on scenes that nothing else uses and with sentences of the training: "
    "successes. The best one is in the bundle; its row is the largest of several, which flatters it."
)


def _starts(found: Json) -> list[str]:
    chosen, played = found.get("chosen"), rows(found, "rows")
    tasks = list(dict.fromkeys(task for row in played for task in row.get("per_task") or {}))
    body = []
    for row in played:
        z = "z = 0" if row.get("scale") == 0 else f"drawn from seed {row.get('seed', '?')}"
        mark = " (chosen)" if chosen == {key: row.get(key) for key in ("seed", "scale")} else ""
        whole = f"{_whole(row, 'successes')} of {_whole(row, 'episodes')}"
        body.append((z + mark, whole, *(str((row.get("per_task") or {}).get(task, "?")) for task in tasks)))
    return [_STARTS, table(("z", "all", *(task.removesuffix("-v3") for task in tasks)), body)]


def _gallery(found: Json) -> list[str]:
    """Two pictures a line, each with what was said and how it ended."""
    folder = GALLERY.removeprefix("docs/")
    cells = []
    for row in rows(found, "episodes"):
        task, file, caption = (str(row.get(key, "?")) for key in ("task", "file", "caption"))
        cells.append(f"![{task}]({folder}/{file})<br>{task}: {caption}")
    if not cells:
        return [NOT_MEASURED]
    body = [(*cells[first : first + 2], "")[:2] for first in range(0, len(cells), 2)]
    return ["int8 in the loop, the first fresh scene of each task, whether it succeeds or not.", table(("", ""), body)]


# --- small words ---


def _shown(value: float | None, form: Callable[[float | None], str]) -> str:
    return NOT_MEASURED if value is None else form(value)


def _points(value: float | None) -> str:
    return _shown(value, lambda share: f"{100 * (share or 0.0):.1f}")
