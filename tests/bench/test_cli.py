"""`edgevla bench`: what each command prints and the exit code it ends with."""

import json

import pytest
from typer.testing import CliRunner

from bench.cli import app
from edgevla.errors import Refused, Unsound
from tests.bench.synthetic import synthetic_report

CLI = CliRunner()


@pytest.fixture
def report(tmp_path):
    """Path of a report whose budgets are all kept; ``change`` alters it before it is written."""

    def write(change=lambda found: None):
        found = synthetic_report(ticks=50)
        change(found)
        path = tmp_path / "report.json"
        path.write_text(json.dumps(found))
        return path

    return write


def test_host_prints_json_that_parses():
    assert json.loads(CLI.invoke(app, ["host", "--json"]).stdout)["cores_usable"] >= 1


def test_report_writes_the_page_beside_the_json(report):
    path = report()
    done = CLI.invoke(app, ["report", str(path)])
    assert done.exit_code == 0
    assert path.with_suffix(".html").is_file()


def test_kept_budgets_end_with_0(report):
    assert CLI.invoke(app, ["budgets", str(report())]).exit_code == 0


def test_a_broken_budget_is_refused_by_name(report):
    done = CLI.invoke(app, ["budgets", str(report(lambda r: r["loop"].update(late_commands=1)))])
    assert isinstance(done.exception, Refused)
    assert "Late commands" in str(done.exception)


def test_a_budget_without_its_number_is_unsound_and_not_kept(report):
    done = CLI.invoke(app, ["budgets", "--json", str(report(lambda r: r["loop"].pop("late_commands")))])
    assert isinstance(done.exception, Unsound)
    told = json.loads(done.stdout)
    assert told["kept"] is False
    assert [v["kept"] for v in told["verdicts"]].count(None) == 1
