"""What a robot's `hello` and `status` mean. Pure."""

from __future__ import annotations

from typing import Any


def is_good(hello: dict[str, Any], release_id: str) -> bool:
    """That release is current and marked good; where its service runs too, nothing is to do."""
    trial = hello.get("trial") or {}
    on_trial = isinstance(trial, dict) and trial.get("id") == release_id
    return hello.get("current") == release_id and not on_trial and release_id in (hello.get("good") or [])


def is_installing(status: dict[str, Any], release_id: str) -> bool:
    """The job at work is an install of that release."""
    lines = [line for line in status.get("deploy") or [] if isinstance(line, dict)]
    begun = bool(lines) and lines[0].get("do") == "install" and lines[0].get("id") == release_id
    return begun and "outcome" not in lines[-1]


def holder_text(status: dict[str, Any]) -> str:
    """Who is at work there."""
    holder = status.get("holder")
    return f"{holder.get('who')}, pid {holder.get('pid')}" if isinstance(holder, dict) else "somebody"


def hello_text(hello: dict[str, Any]) -> str:
    """What a person is told once connected."""
    current = hello.get("current")
    runs = f"runs {current}" if current else "nothing installed"
    return f"installer {hello.get('agent', '?')}, {hello.get('arch', '?')}, {runs}"
