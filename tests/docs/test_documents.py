"""Documents stay true: links lead somewhere, and every command line in them is one that exists."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from edgevla.cli.main import build_app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page):
    return str(page.relative_to(ROOT))


def command_lines(page, start):
    """Lines of code blocks, and inline code, that begin with `start`."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks = [line.strip().removeprefix("$ ").split("   #")[0] for line in lines if line.startswith("    ")]
    inline = [code for line in lines if not line.startswith("    ") for code in INLINE.findall(line)]
    return [line for line in (*blocks, *inline) if re.match(rf"{start}\s+[a-z-]", line) and "<" not in line]


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, part = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if part:
            headings = {anchor(h) for h in HEADING.findall(target.read_text(encoding="utf-8"))}
            assert part in headings, f"{name_of(page)} links to {link}"


def parse(line):
    """Parse a command line down to its options and values, as typing it would; nothing is run."""
    arguments = shlex.split(line)[1:]
    command, name, context = typer.main.get_command(build_app(arguments)), "edgevla", None
    while arguments and "--help" not in arguments:
        context = command.make_context(name, list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_edgevla_command_line_parses(page):
    for line in command_lines(page, "edgevla"):
        parse(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edgevla fly", "No such command"),
        ("edgevla bundle peel x", "No such command"),
        ("edgevla run --nonsense", "No such option"),
        ("edgevla run --seed 1", "Missing parameter: bundle"),
        ("edgevla check a b", "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_would_be_found(line, said):
    with pytest.raises(Exception, match=said):
        parse(line)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_module_of_a_command_line_exists(page):
    for line in command_lines(page, "python3? -m"):
        module = line.split()[2]
        assert find_spec(module) is not None, f"{name_of(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in command_lines(page, "make"):
        assert line.split()[1] in targets, f"{name_of(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_document_names_a_path_of_one_machine(page):
    assert not re.search(r"(?<![\w./])/(home|work|root|tmp)/", page.read_text(encoding="utf-8"))


def test_there_are_command_lines_to_check():
    assert sum(len(command_lines(page, "edgevla")) for page in PAGES) > 20
