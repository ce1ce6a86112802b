"""examples/fleet: files that Ansible can read, a role that knows its variables and calls a command that exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from edgevla.cli.main import build_app

yaml = pytest.importorskip("yaml", reason="no PyYAML here: pip install pyyaml")

FLEET = Path(__file__).parents[2] / "examples" / "fleet"
ROLE = FLEET / "roles" / "edgevla"
FILES = sorted(FLEET.rglob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FLEET)))
def test_every_file_is_yaml_that_a_linter_likes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert read(path)
    assert text.startswith("---\n")
    assert [line for line in text.splitlines() if len(line) > 80 or line != line.rstrip()] == []


def test_a_roll_out_stops_at_the_first_failure_and_goes_in_batches() -> None:
    (play,) = read(FLEET / "rollout.yml")
    assert play["any_errors_fatal"] is True
    assert "edgevla_batches" in play["serial"]
    assert play["roles"] == [{"role": ROLE.name}]


def test_every_variable_of_the_role_is_specified_with_its_default() -> None:
    options = read(ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert options.pop("edgevla_bundle")["required"] is True
    assert {name: option["default"] for name, option in options.items()} == read(ROLE / "defaults" / "main.yml")
    robots = read(FLEET / "inventory.example.yml")["robots"]
    used = {*robots["vars"], *(name for host in robots["hosts"].values() for name in host or ())}
    assert used <= options.keys()


def test_every_option_that_the_role_passes_is_one_of_edgevla_deploy() -> None:
    passed = set(re.findall(r"'(--[a-z-]+)'", (ROLE / "tasks" / "main.yml").read_text(encoding="utf-8")))
    group: Any = typer.main.get_command(build_app(["deploy"]))
    deploy = group.get_command(group.make_context("edgevla", ["deploy"]), "deploy")
    known = {word for option in deploy.commands["install"].params for word in (*option.opts, *option.secondary_opts)}
    assert len(passed) >= 10
    assert passed - known == set()
