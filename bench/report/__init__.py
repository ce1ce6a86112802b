"""The demo's report: ``build_report`` writes one HTML file, ``print_figures`` the terminal tables.

What goes in is ``report.json``; its keys are described in ``schema.md`` beside this file.
"""

from bench.report.data import read_report
from bench.report.page import build_report
from bench.report.terminal import print_figures

__all__ = ["build_report", "print_figures", "read_report"]
