"""What a driver finds wrong in an arm profile: one error, exit code 4, whichever command reads the profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevla.cli.main import run_command
from profiles.loader import _HERE
from tests.tiny_bundle import write_tiny_bundle

NOWHERE = ["--port", "/dev/nowhere"]


@pytest.fixture
def misspelt(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text((_HERE / "arms" / "so101.toml").read_text().replace("p_gain", "p_gian", 1))
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["profiles", "validate", "MINE"],
        ["sim-arm", "MINE"],
        ["arm", "show", "--arm", "MINE", *NOWHERE],
        ["arm", "home", "--arm", "MINE", *NOWHERE],
        ["arm", "calibrate", "--arm", "MINE", *NOWHERE, "-o", "FOLDER/cal.json"],
        ["bus", "monitor", "--arm", "MINE", *NOWHERE],
        ["check", "FOLDER/tiny.bundle", "--arm", "MINE", "--arithmetic-only"],
        [
            "run",
            "--bundle",
            "FOLDER/tiny.bundle",
            "--arm",
            "MINE",
            *NOWHERE,
            "--camera",
            "corner=file:no.png",
            "--instruction",
            "open the drawer",
        ],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_wrong_option_is_bad_input_said_once(
    misspelt: str, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_tiny_bundle(tmp_path / "tiny.bundle")
    given = [word.replace("MINE", misspelt).replace("FOLDER", str(tmp_path)) for word in words]
    assert run_command(given) == 4
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("to do:") == 1
    assert "to do:    did you mean `p_gain`? correct [options]" in said.err
