"""The instruction gate: what it counts, when it turns red, and what it says where nothing can be counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.counts import budget as budgets
from bench.counts import tools
from bench.counts.callgrind import dump, per_call
from bench.counts.command import document, require_kept
from bench.counts.count import count
from edgevla.errors import BadInput, Refused, Unsound

KEY = "cpython-3.11"
DUMP = "version: 1\n\ndesc: Trigger: Client Request: 3 60\n\npositions: line\nevents: Ir\nsummary: 5\n\ntotals: 6655\n"


@pytest.fixture(scope="session")
def counted() -> dict[str, dict[str, float]]:
    """Two runs: the paths as they are, and with work planted in one of them."""
    if why := tools.why_not():
        pytest.skip(why)
    return {name: count(f"tests.bench.counted.{name}") for name in ("plain", "planted")}


def test_another_run_counts_the_same_within_a_thousandth(counted: dict[str, dict[str, float]]) -> None:
    assert list(counted["plain"])[:2] == ["tests/sum", "tests/sorted"]
    assert "tests/not counted" not in counted["plain"]
    assert counted["planted"]["tests/sorted"] == pytest.approx(counted["plain"]["tests/sorted"], rel=1e-3)


def test_the_c_firmware_is_counted_too(counted: dict[str, dict[str, float]]) -> None:
    assert counted["plain"]["firmware/limiter, 7 channels, 100 times"] > 100 * 7 * 100


def test_planted_work_turns_the_gate_red_and_names_the_path(counted: dict[str, dict[str, float]]) -> None:
    written = budgets.Budget(0.03, {KEY: {"made_with": "x", "instructions": counted["plain"]}}).of(KEY)
    require_kept(budgets.judge(counted["plain"], written, 0.03), Path("counts.toml"), "x", "x")
    with pytest.raises(Refused, match=r"tests/sum .*\(\+") as caught:
        require_kept(budgets.judge(counted["planted"], written, 0.03), Path("counts.toml"), "x", "y")
    assert "firmware" not in str(caught.value)
    assert "tests/sorted" not in str(caught.value)
    assert "counted with x, this is y" in str(caught.value)


@pytest.mark.parametrize(("counts", "kept"), [(1030.0, True), (1031.0, False), (500.0, True)])
def test_the_tolerance_is_where_it_is_said_to_be(counts: float, kept: bool) -> None:
    (verdict,) = budgets.judge({"a": counts}, {"a": 1000.0}, 0.03)
    assert verdict.kept is kept
    assert verdict.saved is (counts == 500.0)


@pytest.mark.parametrize(
    ("counted", "written"), [({"a": 1.0, "b": 1.0}, {"a": 1.0}), ({"a": 1.0}, {"a": 1.0, "b": 1.0})]
)
def test_a_path_without_a_budget_or_a_budget_without_a_path_is_not_judged(
    counted: dict[str, float], written: dict[str, float]
) -> None:
    verdicts = budgets.judge(counted, written, 0.03)
    assert [v.kept for v in verdicts] == [True, None]
    assert document(verdicts, budgets.Budget(0.03, {}), KEY, "here")["kept"] is False
    with pytest.raises(Unsound, match="b"):
        require_kept(verdicts, Path("counts.toml"), "", "")


def test_another_interpreter_has_no_budget_until_it_is_counted_there() -> None:
    with pytest.raises(Unsound, match=r"cpython-3.99"):
        budgets.Budget(0.03, {KEY: {"instructions": {}}}).of("cpython-3.99")


def test_what_is_written_is_read_again_and_other_interpreters_stay(tmp_path: Path) -> None:
    path = tmp_path / "counts.toml"
    for key, value in {KEY: 10.4, "cpython-3.10": 11.0, "cpython-3.12": 12.0}.items():
        path.write_text(budgets.text(budgets.read(path), key, {"bus/a: b": value}, f"Python of {key}"))
    path.write_text(budgets.text(budgets.read(path), KEY, {"bus/a: b": 20.0}, "new"))
    found = budgets.read(path)
    assert [found.of(key)["bus/a: b"] for key in sorted(found.tables)] == [11, 20, 12]
    assert (found.made_with(KEY), found.tolerance) == ("new", budgets.TOLERANCE)


@pytest.mark.parametrize(
    "text", ["x", "tolerance = 2.0", "[cpython]\nmade_with = ''", "tolerance = 0.1\n[a.instructions]\nb = -1"]
)
def test_a_budget_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.toml").write_text(text)
    with pytest.raises(BadInput, match="no budget"):
        budgets.read(tmp_path / "counts.toml")


def test_the_committed_budget_is_of_this_interpreter_and_covers_every_pure_path() -> None:
    from bench.suites.paths import all_paths

    table = budgets.read().of(KEY)
    assert {path.name for path in all_paths() if path.pure} <= set(table)
    assert {name for name in table if not name.startswith("firmware/")} <= {path.name for path in all_paths()}


def test_a_dump_is_read_and_the_program_s_end_is_none() -> None:
    assert dump(DUMP) == (3, 60, 6655)
    assert dump(DUMP.replace("Client Request: 3 60", "Program termination")) is None
    assert per_call(["a"], [(0, 10, 1500), (0, 60, 6500)]) == {"a": 100.0}


@pytest.mark.parametrize("dumps", [[], [(0, 10, 5)], [(0, 10, 9), (0, 60, 9)]])
def test_a_path_that_was_not_counted_twice_is_no_figure(dumps: list[tuple[int, int, int]]) -> None:
    with pytest.raises(Unsound, match="a was not counted"):
        per_call(["a"], dumps)


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsound, match="apt install valgrind"):
        count()
