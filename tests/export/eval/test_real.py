"""A blinded session as an operator has it: a real process on a terminal, real bundles, a real command per trial."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from export.eval.trials import ROLES, role_of
from tests.export.eval.edgevla_eval import edgevla_eval
from tests.export.eval.operator import Operator
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[3]
NAMES = {"reference": "amber-secret", "candidate": "violet-secret"}
# What a trial runs: says loudly which policy it got, which nobody must see, and writes down the truth elsewhere.
ROBOT = """
import json, pathlib, signal, sys, time
bundle, truth = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
name = json.loads((bundle / "manifest.json").read_text())["name"]
assert bundle.name == "policy.bundle" and "secret" not in str(bundle), bundle
print("running", name, bundle, flush=True)
print("running", name, file=sys.stderr, flush=True)
if (truth / "slow").exists():
    def stopped(*_):
        (truth / "stopped").touch()
        sys.exit(7)
    signal.signal(signal.SIGINT, stopped)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal goes away with the session: not what is tested
    (truth / "moving").touch()
    time.sleep(20)
with (truth / "order").open("a") as order:
    order.write(name + "\\n")
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [write_tiny_bundle(folder / f"{NAMES[role]}.bundle", name=NAMES[role]).path for role in ROLES]


@pytest.fixture
def command(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "robot.py").write_text(ROBOT)
    return f"{sys.executable} {tmp_path / 'robot.py'} {{bundle}} {tmp_path / 'truth'}"


@pytest.fixture
def arguments(bundles, command, tmp_path):
    """Two looks of 2 and 4 pairs; at a margin of 50 points 4 pairs that agree are enough and 2 are not."""
    return [
        *("--real", *bundles, "--command", command, "--session", tmp_path / "session"),
        *("--margin", 0.5, "--looks", "2,4", "--seed", "2026"),
    ]


def journal(tmp_path):
    return [json.loads(line) for line in (tmp_path / "session" / "journal.jsonl").read_text().splitlines()]


def order(tmp_path):
    return (tmp_path / "truth" / "order").read_text().split()


def test_the_operator_sees_only_numbers_until_the_trials_decide(arguments, tmp_path):
    operator = Operator(*arguments)
    for number in range(1, 9):
        operator.trial(number, "y it went well" if number == 1 else "y")
        if number == 4:
            operator.wait_for("look after 2 pairs: not decided, going on")
    blind = operator.shown
    assert operator.end() == 0
    assert "secret" not in blind
    assert not any(role in blind for role in ("candidate", "A/B"))
    after = operator.shown[len(blind) :]
    assert NAMES["reference"] in after
    assert "non-inferior at 50 points" in after
    assert order(tmp_path) == [NAMES[role_of("2026", trial)] for trial in range(1, 9)]
    report = json.loads((tmp_path / "session" / "report.json").read_text())
    assert (report["paired"]["pairs"], report["decision"]) == (4, "non-inferior")
    assert [trial["policy"] for trial in report["trials"]] == [role_of("2026", trial) for trial in range(1, 9)]
    assert report["trials"][0]["note"] == "it went well"
    log = (tmp_path / "session" / "logs" / "trial-001-1.log").read_text()
    assert log.count("secret") == 2  # stdout and stderr went there


def test_wrong_answers_are_asked_again_and_a_void_trial_is_run_again(arguments, tmp_path):
    operator = Operator(*arguments)
    operator.trial(1, "maybe")
    for wrong in ("", "yes"):
        operator.wait_for("answer y or n or void.*\n.*success")
        operator.type(wrong)
    operator.wait_for("answer y or n or void")
    operator.type("void the camera fell")
    operator.wait_for("trial 1 is run again")
    operator.trial(1, "Y")
    operator.wait_for("trial 2 · scene 1, the same scene again")
    operator.type("\x04", end="")
    assert operator.end() == 3
    assert "1 trials answered, of at most 8" in operator.shown
    said = [
        (line["trial"], line["answer"], line["note"]) for line in journal(tmp_path) if line.get("event") == "answer"
    ]
    assert said == [(1, "void", "the camera fell"), (1, "y", "")]
    assert order(tmp_path) == [NAMES[role_of("2026", 1)]] * 2


def test_a_kill_at_any_point_loses_no_answer_and_the_same_command_goes_on(arguments, tmp_path):
    truth, path = tmp_path / "truth", tmp_path / "session" / "journal.jsonl"
    first = Operator(*arguments)
    first.trial(1, "y")
    first.trial(2, "n")
    first.wait_for("trial 3 .*Enter starts it")
    (truth / "slow").touch()
    first.type("")
    _until(truth / "moving")
    first.kill()
    _until(truth / "stopped")  # the arm does not move on without its session
    (truth / "slow").unlink()
    with path.open("a") as stream:
        stream.write('{"event": "answer", "tri')  # a line that a kill cut short
    second = Operator(*arguments)
    second.wait_for("going on after 2 answered trials")
    second.wait_for("trial 3 .*Enter starts it")
    second.type("")
    second.wait_for(r"trial 3 · success\?")
    second.kill()  # run, and not yet answered
    third = Operator(*arguments)
    assert "Enter" not in third.wait_for(r"trial 3 · success\?")
    third.type("y")
    for number in range(4, 9):
        third.trial(number, "n" if number == 4 else "y")
    third.end()
    assert "secret" not in first.shown + second.shown
    answers = {line["trial"]: line["answer"] for line in journal(tmp_path) if line.get("event") == "answer"}
    assert [answers[trial] for trial in range(1, 9)] == list("ynynyyyy")
    assert order(tmp_path) == [NAMES[role_of("2026", trial)] for trial in range(1, 9)]
    report = json.loads((tmp_path / "session" / "report.json").read_text())
    assert report["interrupted"] == 1
    assert not (tmp_path / "session" / "policy.bundle").exists()


def test_ctrl_c_stops_the_arm_and_not_the_session(arguments, tmp_path):
    truth = tmp_path / "truth"
    (truth / "slow").touch()
    operator = Operator(*arguments)
    operator.wait_for("trial 1 .*Enter starts it")
    operator.type("")
    _until(truth / "moving")
    operator.type("\x03", end="")
    operator.wait_for(r"exit code 7.*\n.*trial 1 · success\?")
    assert (truth / "stopped").exists()
    assert operator.interrupt() == 130
    assert journal(tmp_path)[-1]["exit_code"] == 7


def test_a_candidate_that_keeps_failing_is_given_up_and_the_exit_code_says_so(arguments):
    operator = Operator(*arguments)
    for number in range(1, 5):
        operator.trial(number, "y" if role_of("2026", number) == "reference" else "n")
    assert operator.end() == 1
    assert "cannot be shown any more at 50 points" in operator.shown
    assert "expected: shown non-inferior at 50 points" in operator.shown


def test_two_bundles_that_are_the_same_say_so_at_the_end(bundles, arguments, tmp_path):
    same = ["--real", bundles[0], bundles[0], *arguments[3:]]
    operator = Operator(*same)
    for number in range(1, 9):
        operator.trial(number, "y")
    assert operator.end() == 0
    assert "both were the same bundle" in operator.shown
    assert order(tmp_path) == [NAMES["reference"]] * 8


@pytest.fixture
def call(monkeypatch, capsys):
    """The command line in this process, with nobody at the terminal."""

    def run(*arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        code = edgevla_eval(*arguments)
        shown = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=shown.out, stderr=shown.err)

    return run


def test_what_was_declared_cannot_be_changed_later(call, bundles, arguments, tmp_path):
    assert call(*arguments).returncode == 3  # nobody answers: declared, and not decided
    before = (tmp_path / "session" / "journal.jsonl").read_bytes()
    for changed, named in (
        ([*arguments, "--margin", 0.9], "margin of the session"),
        ([*arguments, "--looks", "2,4,400"], "looks of the session"),
        ([*arguments, "--alpha", 0.2], "alpha of the session"),
        ([*arguments, "--command", f"{sys.executable} {{bundle}}"], "command of the session"),
        ([*arguments, "--seed", "another"], "seed of the session"),
        (["--real", bundles[1], bundles[0], *arguments[3:]], "bundles of the session"),
    ):
        done = call(*changed)
        assert (done.returncode, named in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "session" / "journal.jsonl").read_bytes() == before
    assert call(*arguments).returncode == 3


def test_the_order_is_drawn_and_recorded_where_no_seed_is_given(call, arguments, tmp_path):
    call(*arguments[:-2])
    seed = journal(tmp_path)[0]["seed"]
    assert len(seed) == 16
    done = call(*arguments[:-2])
    assert journal(tmp_path)[0]["seed"] == seed
    assert seed not in done.stdout + done.stderr


def test_a_session_is_for_one_process_at_a_time(call, arguments):
    operator = Operator(*arguments)
    operator.wait_for("trial 1")
    done = call(*arguments)
    operator.kill()
    assert done.returncode == 1
    assert "another has it open" in done.stderr


def test_a_copy_that_was_altered_is_refused(call, arguments, tmp_path):
    call(*arguments)
    model = next((tmp_path / "session" / ".store").glob("*/model/head.onnx"))
    model.write_bytes(model.read_bytes()[:-1])
    assert call(*arguments).returncode == 4


def test_a_journal_that_is_none_is_refused(call, arguments, tmp_path):
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "journal.jsonl").write_text("[1, 2]\n")
    done = call(*arguments)
    assert done.returncode == 4
    assert "journal.jsonl line 1" in done.stderr


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--command", "true"], "{bundle}"),
        (["--command", "no-such-program {bundle}"], "no-such-program"),
        (["--command", "'open {bundle}"], "quotes"),
        (["--looks", "4,2"], "sequential design"),
        (["--looks", "many"], "--looks"),
        (["--json"], "--json"),
        (["--command", ""], "--instruction"),
    ],
)
def test_a_wrong_call_is_a_usage_error_before_anything_is_declared(call, arguments, tmp_path, change, text):
    done = call(*arguments, *change)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "session").exists()


def test_one_bundle_alone_is_no_comparison(call, arguments):
    done = call(*arguments[:2], *arguments[3:])
    assert done.returncode == 2
    assert "reference and candidate" in done.stderr


def test_the_robot_needs_neither_torch_nor_a_simulator_for_it():
    code = "import sys, export.eval_cli, export.eval.real, export.eval.unblind; print([m for m in "
    code += "('torch', 'onnx', 'metaworld', 'pyarrow', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def _until(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)
