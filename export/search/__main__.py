"""Search on the FP32 graphs of any bundle, as `edgevla compress` does on those of a fresh student.

python -m export.search BUNDLE --data DIR -o out/search
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from edgevla.bundle.reader import open_bundle
from edgevla.cli.output import print_error, print_table, say
from edgevla.errors import EdgevlaError, Usage, explain
from export.budget import parse_duration_s
from export.data.load import open_dataset
from export.search.error import parse_budget
from export.search.frames import FRAMES, bundle_frames, float_graphs
from export.search.plot import front_svg
from export.search.report import COLUMNS, LAYER_COLUMNS, evidence, layer_table, table
from export.search.search import Choice, search


def main() -> int:
    """Command line; the exit codes of edgevla."""
    try:
        return _run(_arguments())
    except EdgevlaError as error:
        print_error(str(error))
        return error.exit_code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/search"), help="search.json, front.svg, cache")
    parser.add_argument("--error-budget", default="", help="such as x=0.005,flips=0.01; p99, units of the channels")
    parser.add_argument("--search-budget", help="time, such as 5m; default: every layer both ways")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _run(asked: argparse.Namespace) -> int:
    try:
        seconds = None if asked.search_budget is None else parse_duration_s(asked.search_budget)
    except ValueError as error:
        raise Usage(explain("--search-budget", "a duration such as 5m", asked.search_budget, "add its unit")) from error
    bundle = open_bundle(asked.bundle)
    graphs, fixed, times = float_graphs(bundle)
    channels, work = bundle.manifest.channels, asked.out / "cache"
    budget = parse_budget(asked.error_budget, channels)
    frames = bundle_frames(bundle, open_dataset(asked.data, work / "data"), asked.frames, seed=asked.seed)
    say(frames.note)
    choice = search(
        graphs, frames.judged, frames.calibration, channels, budget, fixed=fixed, times=times,
        work=work, search_budget_s=seconds, rounds=asked.rounds, seed=asked.seed, progress=True,
    )  # fmt: skip
    show(choice)
    write(choice, asked.out)
    say(f"{asked.out}/search.json, front.svg")
    return 0


def show(choice: Choice) -> None:
    """Both tables, the sentences and the notes."""
    print_table("layers, the dearest first", LAYER_COLUMNS, layer_table(choice))
    print_table("candidates, the fastest first", COLUMNS, table(choice))
    for note in (*choice.notes, choice.others):
        if note:
            say(note)
    say(choice.sentence, "green")


def write(choice: Choice, folder: Path) -> None:
    """search.json and front.svg, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = evidence(choice)
    for name, text in (("search.json", json.dumps(found, indent=1) + "\n"), ("front.svg", front_svg(found))):
        part = folder / f".{name}.part"
        part.write_text(text)
        os.replace(part, folder / name)


if __name__ == "__main__":
    sys.exit(main())
