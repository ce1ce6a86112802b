"""``python -m bench.report out/demo/report.json -o out/demo/report.html``: make the HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import build_report, print_figures, read_report
from edgevla.errors import EdgevlaError


def main(argv: Sequence[str] | None = None) -> int:
    """Build the report; returns the exit code (0 done, 4 bad input)."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("report", type=Path, help="report.json; .npy files it names are read from its folder")
    parser.add_argument("-o", "--out", type=Path, help="HTML file to write (default: beside the JSON)")
    parser.add_argument("--figures", action="store_true", help="also print the figures to the terminal")
    args = parser.parse_args(argv)
    try:
        report = read_report(args.report)
        out = build_report(report, args.out or args.report.with_suffix(".html"), args.report.parent)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if args.figures:
        print_figures(report)
    print(f"{out}  ({out.stat().st_size / 1e3:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
