"""The training loop: its schedule in numbers, its state on disk, and a real process killed in the middle."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from edgevla.errors import BadInput
from export.distill import loop
from export.distill.board import Board
from export.distill.loop import Progress, Recipe, Run, learning_rate, spent, train

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 400.0  # a safety net for a busy machine, not a measurement


class Line(nn.Module):
    """Distance of a linear model from y = 2 a - b + 0.5."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return nn.functional.mse_loss(self.model(batch["x"]).float(), batch["y"])


def draw_from(generator):
    x = torch.randn(32, 2, generator=generator)
    return {"x": x, "y": x @ torch.tensor([[2.0], [-1.0]]) + 0.5}


def step(run, batch):
    loop._gradients(run, Line(run.model), batch)
    loop._move(run)


def trained(path, steps=30, resume=False, **recipe):
    """A run of exactly `steps` more steps; the clock of the budget is not what is tested here."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(**{"budget_s": 1e9, "learning_rate": 0.05, "warmup": 1e-18, "bf16": False, **recipe}), path)
    if resume:
        assert run.resume()
    generator, last = torch.Generator().manual_seed(run.progress.step), run.progress.step + steps

    def stop(progress):
        if progress.step >= last:
            progress.elapsed_s = 2e9

    train(run, Line(model), lambda: draw_from(generator), stop)
    return run


@pytest.mark.parametrize(
    ("elapsed_s", "expected"),
    [
        (0.0, 1e-6),  # warm-up starts at a thousandth
        (1.0, 0.5e-3 + 1e-6),  # half-way through a warm-up of 2 % of 100 s
        (2.0, 1e-3),
        (51.0, 1e-3 * (0.01 + 0.99 * 0.5)),  # half-way down the cosine
        (100.0, 1e-5),
        (500.0, 1e-5),
    ],
)
def test_the_learning_rate_follows_the_spent_share_of_the_budget(elapsed_s, expected):
    recipe = Recipe(100.0)
    assert learning_rate(recipe, spent(recipe, Progress(elapsed_s=elapsed_s))) == pytest.approx(expected, rel=1e-9)


def test_with_a_number_of_steps_the_clock_is_not_looked_at():
    recipe = Recipe(100.0, steps=40)
    assert spent(recipe, Progress(step=10, elapsed_s=99.0)) == 0.25
    assert spent(recipe, Progress(step=40, elapsed_s=1.0)) == 1.0


def test_the_learning_rate_never_rises_after_the_warm_up():
    rates = [learning_rate(Recipe(100.0), t / 100) for t in range(2, 101)]
    assert rates == sorted(rates, reverse=True)


def test_the_average_follows_the_weights_as_worked_out_by_hand(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    run = Run(model, Recipe(1.0, ema=0.5), tmp_path / "c.safetensors")
    nn.init.constant_(model.weight, 1.0)
    run.update_average()  # step 0: decay (1 + 0) / (10 + 0) = 0.1
    assert run.average["weight"].item() == pytest.approx(0.9)
    run.progress.step = 1000  # decay min(0.5, 1001 / 1010) = 0.5
    nn.init.constant_(model.weight, 2.0)
    run.update_average()
    assert run.average["weight"].item() == pytest.approx(0.5 * 0.9 + 0.5 * 2.0)


def test_training_ends_with_the_average_as_the_model_s_weights(tmp_path):
    run = trained(tmp_path / "c.safetensors", steps=400, ema=0.9)
    assert (run.model.weight == run.average["weight"]).all()
    assert run.model.weight.flatten().tolist() == pytest.approx([2.0, -1.0], abs=0.1)
    assert not run.model.training


def test_a_step_whose_gradient_is_not_finite_changes_nothing(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(10.0, bf16=False), tmp_path / "c.safetensors")
    before = model.weight.clone()
    batch = {"x": torch.full((4, 2), float("nan")), "y": torch.zeros(4, 1)}
    step(run, batch)
    assert (model.weight == before).all()
    assert not run.optimiser.state


def test_a_resumed_run_has_the_state_of_the_saved_one_to_the_bit(tmp_path):
    path = tmp_path / "c.safetensors"
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(1e9, 0.05, bf16=False), path)
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        step(run, draw_from(generator))
        run.progress.step += 1
    run.save()
    other = nn.Linear(2, 1)
    again = Run(other, Recipe(1e9, 0.05, bf16=False), path)
    assert again.resume()
    assert (other.weight == model.weight).all()
    assert all((again.average[k] == run.average[k]).all() for k in run.average)
    assert again.progress.step == 7
    batch = draw_from(generator)
    for each in (run, again):
        step(each, batch)
    assert (other.weight == model.weight).all()  # so the optimiser's moments are the same too


def test_without_a_checkpoint_nothing_is_resumed(tmp_path):
    run = Run(nn.Linear(2, 1), Recipe(1.0), tmp_path / "none.safetensors")
    assert not run.resume()
    assert vars(run.progress) == pytest.approx(vars(Progress()), nan_ok=True)


def test_a_checkpoint_of_another_model_or_a_truncated_one_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    trained(path, steps=1)
    with pytest.raises(BadInput, match="delete it to start anew"):
        Run(nn.Linear(5, 1), Recipe(1.0), path).resume()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInput, match="delete it to start anew"):
        Run(nn.Linear(2, 1), Recipe(1.0), path).resume()


def test_the_log_holds_a_line_every_fifty_steps(tmp_path):
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(1e9, bf16=False), tmp_path / "c.safetensors")
    generator = torch.Generator().manual_seed(0)

    def stop(progress):
        progress.elapsed_s += 2e9 * (progress.step >= 100)

    log = tmp_path / "stage-0" / "log.jsonl"  # no checkpoint has made this folder yet
    train(run, Line(model), lambda: draw_from(generator), stop, log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100]
    assert lines[1]["samples"] == 3200
    assert all(math.isfinite(line["loss"]) for line in lines)


def start(path, budget_s, launcher=()):
    command = [sys.executable, *launcher, str(HERE / "tiny_training.py"), str(path), str(budget_s)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_killed_training_goes_on_at_the_saved_step_with_the_rest_of_its_budget(tmp_path):
    path = tmp_path / "c.safetensors"
    process = start(path, 3600)
    for line in process.stdout:
        if path.exists() and int(re.search(r"\d+$", line)[0]) > 5:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with safe_open(path, framework="pt") as archive:
        saved = json.loads(archive.metadata()["progress"])
    assert saved["step"] >= 1
    again = start(path, saved["elapsed_s"] + 1.0)
    out, errors = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, errors
    lines = out.splitlines()
    assert lines[0] == f"resumed True at {saved['step']}"
    assert lines[1] == f"step {saved['step'] + 1}"
    assert lines[-1].startswith("end rank 0")
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_two_processes_under_torchrun_train_one_model_on_different_batches(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = start(tmp_path / "c.safetensors", 1.0, launcher)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    ends = dict(re.findall(r"end rank (\d) (step \d+ samples \d+ \[.*\] \[.*\])", out))
    assert set(ends) == {"0", "1"}
    assert ends["0"] == ends["1"]  # same steps, same weights
    steps, samples = map(int, re.match(r"step (\d+) samples (\d+)", ends["0"]).groups())
    assert samples == 2 * 32 * steps
    assert out.count("\nstep ") == steps  # the chief alone reports
    with safe_open(tmp_path / "c.safetensors", framework="pt") as archive:
        assert json.loads(archive.metadata()["progress"])["step"] == steps


def test_the_finish_begins_once_when_its_share_of_the_budget_is_left(tmp_path):
    model, began = nn.Linear(2, 1), []
    run = Run(model, Recipe(1e9, bf16=False, steps=20, finish=0.25), tmp_path / "c.safetensors")
    generator = torch.Generator().manual_seed(0)
    train(
        run,
        Line(model),
        lambda: draw_from(generator),
        lambda progress: None,
        finish=lambda batch: began.append((run.progress.step, len(batch["x"]))),
    )
    assert began == [(15, 32)]


def test_the_board_holds_loss_learning_rate_and_speed(tmp_path):
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(1e9, bf16=False, steps=100), tmp_path / "c.safetensors")
    generator, board = torch.Generator().manual_seed(0), Board(tmp_path / "tensorboard")
    train(run, Line(model), lambda: draw_from(generator), lambda progress: None, board=board)
    board.close()
    raw = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").glob("events.*"))
    assert [raw.count(name) for name in (b"loss", b"learning_rate", b"samples_per_s")] == [2, 2, 2]


def test_without_tensorboardx_training_says_so_once_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as the import system marks what cannot be imported
    board = Board(tmp_path / "tensorboard")
    board.add(1, loss=0.5)
    board.close()
    assert capsys.readouterr().err.count("pip install tensorboardX") == 1
    assert not (tmp_path / "tensorboard").exists()


def test_out_of_memory_is_one_sentence_and_leaves_the_state_of_the_last_whole_step(tmp_path):
    path, generator = tmp_path / "c.safetensors", torch.Generator().manual_seed(0)
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(1e9, bf16=False, steps=20), path)

    def draw():
        if run.progress.step == 7:
            torch.empty(1 << 60)  # an exbibyte: the allocator itself refuses
        return draw_from(generator)

    with pytest.raises(BadInput, match="out of memory while training") as caught:
        train(run, Line(model), draw, lambda progress: None)
    assert "the state of step 7 is kept" in str(caught.value)
    again = Run(nn.Linear(2, 1), Recipe(1e9, bf16=False, steps=20), path)
    assert again.resume()
    assert again.progress.step == 7
    assert (again.model.weight == model.weight).all()


def test_any_other_error_is_passed_on_as_it_is(tmp_path):
    run = Run(nn.Linear(2, 1), Recipe(1e9, bf16=False, steps=2), tmp_path / "c.safetensors")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(run, Line(run.model), lambda: {"x": torch.zeros(4, 3), "y": torch.zeros(4, 1)}, lambda progress: None)
    assert not (tmp_path / "c.safetensors").exists()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from torch import nn
from edgevla.errors import BadInput
from export.distill.loop import Recipe, Run

path = Path(sys.argv[1])
run = Run(nn.Linear(64, 64), Recipe(1.0), path)
run.save()
run.progress.step = 5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # the kernel refuses to write further, as a full disk does
try:
    run.save()
except BadInput as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays_whole(tmp_path):
    path = tmp_path / "c.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot write c.safetensors" in done.stdout
    assert "run the same command again" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    run = Run(nn.Linear(64, 64), Recipe(1.0), path)
    assert run.resume()
    assert run.progress.step == 0
