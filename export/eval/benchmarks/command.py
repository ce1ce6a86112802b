"""`edgevla eval BUNDLE --env`: a bundle in somebody else's simulator. Every outcome is written down before the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.cli.output import print_table
from edgevla.errors import BadInput, Usage, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.host import describe_host, host_line
from export.distill.opening import from_file, own_code
from export.distill.progress import Reporter
from export.eval.benchmarks.agreement import setting_success
from export.eval.benchmarks.calvin import Calvin
from export.eval.benchmarks.chains import CHAINS, LENGTH, Chain, chain_score
from export.eval.benchmarks.play import Actor, Episode, play_chain, play_task
from export.eval.benchmarks.simpler import Simpler
from export.eval.journal import Journal

SCHEMA = "edgevla.env-eval/1"
ENVIRONMENTS = ("calvin", "simpler")
EPISODES = 24  # of each variant of a task
Line = dict[str, Any]


def evaluate_env(
    path: Path, env: str, data: Path | None, tasks: Sequence[str], count: int | None, replan: int | None,
    session: Path, loud: bool,
) -> dict[str, Any]:  # fmt: skip
    """Plays what is not in the journal of the session yet; the report of all of it.

    Args:
        path: the bundle.
        env: of `ENVIRONMENTS`, or FILE.py:FUNCTION; the function takes the manifest and returns a simulator
            (`export.eval.benchmarks.play.Chained` or `Tasks`).
        data: of CALVIN: the folder of its data set.
        tasks: of SimplerEnv: names.
        count: chains, or episodes of each variant.
        replan: steps between two inferences; None: as far apart as the policy's memory was trained, else 1.
        session: folder of the journal.
        loud: show progress.

    Raises:
        BadInput: a simulator that is not installed or does not fit, code of one's own that fails, or a session of
            something else.
        Usage: an option of another simulator.
    """
    bundle = open_bundle(path)
    world = _opened(env, bundle, data, tasks)
    every = replan or bundle.manifest.timing.memory_ticks or 1
    actor = Actor(PolicyEngine(bundle), bundle.manifest, every)
    chained = hasattr(world, "chains")
    wanted = count or (CHAINS if chained else EPISODES)
    told = {
        "schema": SCHEMA,
        "bundle": bundle.sha256,
        "env": env,
        "tasks": list(tasks),
        "count": wanted,
        "replan": every,
        "world": _identity(env, data),
    }
    journal = Journal(session)
    try:
        _declare(journal, told)
        with own_code(env) if env not in ENVIRONMENTS else nullcontext():
            lines = (_chains if chained else _tasks)(actor, world, wanted, journal, loud)
    finally:
        journal.close()
    if not lines:
        raise BadInput(explain(f"{env}", "one episode or more", "none", "let chains() or episodes() name some"))
    score = _chain_report(lines) if chained else _task_report(lines)
    return {**told, "kind": "chains" if chained else "tasks", **score, "host": describe_host()}


def print_env_report(report: Mapping[str, Any]) -> None:
    """The table, and what stands behind it."""
    if report["kind"] == "chains":
        low, high = report["average_length_ci"]
        rows = [[f"{place + 1} in a row", f"{100 * share:.1f} %"] for place, share in enumerate(report["in_a_row"])]
        rows.append(["average length", f"{report['average_length']:.2f} of {LENGTH} ({low:.2f} to {high:.2f})"])
        print_table(f"{report['env']}: {report['chains']} chains", ("what", "bundle"), rows)
    else:
        rows = [[r["task"], r["setting"], f"{100 * r['success']:.1f} %", f"{r['episodes']}"] for r in report["results"]]
        print_table(f"{report['env']}", ("task", "setting", "success", "episodes"), rows)
    print(host_line(report["host"]))


def _opened(env: str, bundle: Bundle, data: Path | None, tasks: Sequence[str]) -> Any:
    if data is not None and env != "calvin":
        raise Usage(explain("--data", "with --env calvin", f"--env {env}", "leave it out"))
    if tasks and env != "simpler":
        raise Usage(explain("--tasks", "with --env simpler", f"--env {env}", "leave it out"))
    if env == "calvin":
        if data is None:
            raise BadInput(explain("--env calvin", "--data FOLDER of its data set", "none", "pass the folder"))
        return Calvin(data, bundle.manifest)
    if env == "simpler":
        if not tasks:
            todo = "such as --tasks google_robot_pick_coke_can"
            raise BadInput(explain("--env simpler", "--tasks NAME,...", "none", todo))
        return Simpler(tasks, bundle.manifest)
    world = from_file(env, bundle.manifest)
    if world is None:
        expected = f"{', '.join(ENVIRONMENTS)} or FILE.py:FUNCTION"
        raise BadInput(explain("--env", expected, repr(env), "choose one, or write an adapter (docs/eval.md)"))
    if not (hasattr(world, "chains") or hasattr(world, "episodes")):
        got, todo = type(world).__name__, "see export/eval/benchmarks/play.py"
        raise BadInput(explain(f"{env}", "an object with chains() or episodes()", got, todo))
    return world


def _identity(env: str, data: Path | None) -> str:
    """What is simulated: a session of one data set, or of one file, is not gone on with another."""
    file = Path(env.rpartition(":")[0])
    if file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return "" if data is None else str(data.resolve())


def _declare(journal: Journal, told: Line) -> None:
    if not journal.lines:
        journal.append(told)
    elif journal.lines[0] != told:
        differ = ", ".join(key for key in told if journal.lines[0].get(key) != told[key])
        todo = "pass the same options to go on, or another --session"
        raise BadInput(explain(f"session {journal.path.parent}", "the same run", f"another: {differ}", todo))


def _chains(actor: Actor, world: Any, count: int, journal: Journal, loud: bool) -> list[Line]:
    starts = list(world.chains(count))
    reporter = Reporter("chains", len(starts), loud)
    for place in range(len(journal.lines) - 1, len(starts)):
        start, subtasks = starts[place]
        chain = play_chain(actor, world, start, tuple(subtasks))
        journal.append({"subtasks": list(chain.subtasks), "done": chain.done})
        length = sum(line["done"] for line in journal.lines[1:]) / (place + 1)
        reporter.show(place + 1, f"average length {length:.2f}")
    reporter.close()
    return journal.lines[1:]


def _tasks(actor: Actor, world: Any, count: int, journal: Journal, loud: bool) -> list[Line]:
    episodes: list[Episode] = list(world.episodes(count))
    reporter = Reporter("episodes", len(episodes), loud)
    for place in range(len(journal.lines) - 1, len(episodes)):
        success = play_task(actor, world, episodes[place])
        journal.append({**vars(episodes[place]), "success": success})
        won = sum(line["success"] for line in journal.lines[1:])
        reporter.show(place + 1, f"{won} of {place + 1} succeeded")
    reporter.close()
    return journal.lines[1:]


def _chain_report(lines: Sequence[Line]) -> dict[str, Any]:
    return chain_score([Chain(tuple(line["subtasks"]), line["done"]) for line in lines]).as_dict()


def _task_report(lines: Sequence[Line]) -> dict[str, Any]:
    cells: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for line in lines:
        variants = cells.setdefault((line["task"], line["setting"]), {})
        variants.setdefault(line["variant"], []).append(bool(line["success"]))
    rows = [
        {"task": task, "setting": setting, "success": setting_success(variants),
         "episodes": sum(map(len, variants.values())), "variants": len(variants)}
        for (task, setting), variants in cells.items()
    ]  # fmt: skip
    return {"results": rows}
