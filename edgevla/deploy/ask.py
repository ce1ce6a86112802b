"""Questions to the person at the terminal. Without one nothing is asked; no secret is ever taken from a flag."""

from __future__ import annotations

import getpass
import sys

import typer

from edgevla.errors import Refused, explain


def on_terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_secret(question: str) -> str | None:
    """A passphrase or password, not echoed; None where nobody can be asked or nothing was said."""
    return (getpass.getpass(question, sys.stderr) or None) if on_terminal() else None


def ask_line(question: str) -> str:
    """What was typed; '' where nobody can be asked."""
    if not on_terminal():
        return ""
    typer.echo(question, nl=False, err=True)
    return sys.stdin.readline().strip()


def require_rest(why: str) -> None:
    """Somebody at the terminal says that the arm is at rest; `why` its torque is not known. Raises Refused."""
    said = ask_line("It is not known whether the arm carries torque. Is it at rest? May it lose power? [y/N] ")
    if said.lower() not in ("y", "yes"):
        raise Refused(explain("torque of the arm", "off", why or "not known", "look at the arm, then pass --yes"))
