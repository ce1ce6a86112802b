"""One training loop for teacher and student: time budget, weight averaging, resume, progress.

The learning rate follows the share of the budget that is spent, so a run ends on time on any machine. The whole state
is written every `CHECKPOINT_S` seconds as safetensors (no pickle), first beside and then over the old one: a kill, a
full disk or an allocation that fails loses at most that much. Under `torchrun` or `accelerate launch` the same loop
runs data-parallel on the gloo backend.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.distill.board import Board
from export.distill.failures import is_out_of_memory, out_of_memory, writing
from export.shards import files_of, load_shards, save_shards

CHECKPOINT_S = 30.0
LOG_EVERY = 50  # steps
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """Optimiser settings; `budget_s` is training time on this machine. With `steps` it is not looked at: for runs
    that are compared at equal steps on a machine that others use too."""

    budget_s: float
    learning_rate: float = 1e-3
    warmup: float = 0.02  # share of the budget
    final: float = 0.01  # share of the peak learning rate at the end
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = True
    steps: int | None = None
    pause: int | None = None  # step at which to stop before the budget is spent
    most_s: float | None = None  # seconds of one run, after which to stop likewise
    finish: float = 0.0  # share of the budget, at its end, for which `train` calls its `finish`


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0
    loss: float = float("nan")


def spent(recipe: Recipe, progress: Progress) -> float:
    """Share of the budget behind us, 0 to 1."""
    share = progress.step / recipe.steps if recipe.steps else progress.elapsed_s / recipe.budget_s
    return min(1.0, share)


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up, then cosine, over the spent share of the budget."""
    if share < recipe.warmup:
        return recipe.learning_rate * (share / recipe.warmup + 1e-3)
    rest = (share - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * rest)))


class Run:
    """A model in training: parameters, averaged parameters, optimiser and progress, saved and resumed as one.

    Args:
        model, recipe: what is trained, and how.
        path: of the state, a safetensors file.
        most_bytes: of a file; where it is more, the state lies in several (`export.shards`).
    """

    def __init__(self, model: nn.Module, recipe: Recipe, path: Path, most_bytes: int | None = None) -> None:
        self.model, self.recipe, self.path, self.most_bytes = model, recipe, path, most_bytes
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        self.progress = Progress()
        self.names: dict[Tensor, str] = {p: name for name, p in self.trained.items()}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(iter(self.trained.values())).device

    def save(self) -> None:
        """Writes the whole state atomically.

        Raises:
            BadInput: the disk is full; the state written before is still whole.
        """
        tensors = {f"model.{k}": v.detach() for k, v in self.trained.items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for parameter, state in self.optimiser.state.items():
            name = self.names[parameter]
            tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
        with writing(self.path):
            save_shards(tensors, self.path, {"progress": json.dumps(vars(self.progress))}, self.most_bytes)

    def resume(self) -> bool:
        """Continues from what was saved, if anything was."""
        try:
            if not files_of(self.path):
                return False
            tensors, told = load_shards(self.path)
            self.progress = Progress(**json.loads(told["progress"]))
            self._load(tensors)
        except Exception as error:
            raise BadInput(
                explain(
                    "checkpoint",
                    f"a state of this model in {self.path.name}",
                    str(error),
                    "delete it to start anew",
                )
            ) from error
        return True

    @torch.no_grad()
    def _load(self, tensors: dict[str, Tensor]) -> None:
        for parameter, name in self.names.items():
            parameter.copy_(tensors[f"model.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            if f"first.{name}" in tensors:
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.progress.step)),
                    "exp_avg": tensors[f"first.{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device),
                }

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the averaged weights; early on faster, so that the start is forgotten."""
        decay = min(self.recipe.ema, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - decay)

    def use_average(self) -> None:
        """Replaces the model's weights by their average."""
        self.model.load_state_dict(self.average, strict=False)


def train(
    run: Run,
    objective: nn.Module,
    draw: Callable[[], Batch],
    report: Callable[[Progress], None],
    log: Path | None = None,
    board: Board | None = None,
    finish: Callable[[Batch], None] | None = None,
) -> Progress:
    """Trains until the budget is spent.

    Args:
        run: the model with its optimiser; resumed by the caller if wanted.
        objective: holds `run.model`; its `forward(batch)` returns the loss.
        draw: the next batch of this process.
        report: called after every step.
        log: JSON lines, one every `LOG_EVERY` steps.
        board: the same figures for TensorBoard.
        finish: called once, with a batch, when the last `recipe.finish` of the budget begins.

    Raises:
        BadInput: out of memory, disk full; the checkpoint is whole.
    """
    parallel = dist.is_available() and dist.is_initialized()
    module = _data_parallel(objective) if parallel else objective
    chief = not parallel or dist.get_rank() == 0
    world = dist.get_world_size() if parallel else 1
    progress, saved, last = run.progress, time.monotonic(), time.monotonic()
    run.model.train()
    progress.elapsed_s, _ = _agree(progress.elapsed_s, 0.0, parallel)
    until_s = _agree(progress.elapsed_s + (run.recipe.most_s or 0.0), 0.0, parallel)[0] if run.recipe.most_s else None
    while True:
        share = spent(run.recipe, progress)
        if share >= 1.0 or progress.step == run.recipe.pause or (until_s is not None and progress.elapsed_s >= until_s):
            break
        try:
            batch = {key: value.to(run.device) for key, value in draw().items()}
            if finish is not None and share >= 1.0 - run.recipe.finish:
                finish(batch)
                finish = None
            value = _gradients(run, module, batch)
        except (RuntimeError, MemoryError) as error:
            raise _stopped(run, chief, error) from error
        _move(run)
        now = time.monotonic()
        progress.elapsed_s, value = _agree(progress.elapsed_s + now - last, value, parallel)
        last = now
        count = len(next(iter(batch.values()))) * world
        progress.step, progress.samples = progress.step + 1, progress.samples + count
        progress.loss = value if math.isnan(progress.loss) else progress.loss + 0.02 * (value - progress.loss)
        if not chief:
            continue
        report(progress)
        if progress.step % LOG_EVERY == 0:
            _log(run, log, board)
        if now - saved > CHECKPOINT_S:
            run.save()
            saved = now
    if chief:
        run.save()
    run.use_average()
    run.model.eval()
    return progress


def _stopped(run: Run, chief: bool, error: BaseException) -> BaseException:
    """What to raise. Weights are whole: they move only after all gradients are there."""
    if not is_out_of_memory(error):
        return error
    run.optimiser.zero_grad(set_to_none=True)
    if chief:
        run.save()
    return out_of_memory("training", error, f"the state of step {run.progress.step} is kept in {run.path.name}")


def _log(run: Run, log: Path | None, board: Board | None) -> None:
    """One line and one point on each curve."""
    progress = run.progress
    rate = learning_rate(run.recipe, spent(run.recipe, progress))
    speed = progress.samples / max(progress.elapsed_s, 1e-9)
    if log is not None:
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)  # the first line comes before the first checkpoint
            line = {**vars(progress), "learning_rate": rate, "samples_per_s": speed}
            said = {k: float(f"{v:.6g}") if k != "step" else v for k, v in line.items()}
            with log.open("a") as stream:
                stream.write(json.dumps(said) + "\n")
    if board is not None:
        with writing(run.path.parent / "tensorboard"):
            board.add(progress.step, loss=progress.loss, learning_rate=rate, samples_per_s=speed)


def _data_parallel(objective: nn.Module) -> nn.Module:
    """The loss of all processes together. `partly_used`: some of its parameters may bear on nothing."""
    unused = bool(getattr(objective, "partly_used", False))
    return nn.parallel.DistributedDataParallel(objective, gradient_as_bucket_view=True, find_unused_parameters=unused)


def _gradients(run: Run, module: nn.Module, batch: Batch) -> float:
    """The loss of a batch; gradients of all trained parameters."""
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=run.recipe.bf16):
        value = module(batch)
    value.backward()
    return float(value.detach())


def _move(run: Run) -> None:
    """One step of the optimiser and of the average, unless a gradient is not finite."""
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.recipe, spent(run.recipe, run.progress))
    norm = nn.utils.clip_grad_norm_(run.trained.values(), run.recipe.clip)
    if torch.isfinite(norm):
        run.optimiser.step()
        run.update_average()


def _agree(elapsed_s: float, loss: float, parallel: bool) -> tuple[float, float]:
    """The chief's clock and the mean loss of all processes.

    One clock counts for all: they end together, and one learning rate keeps their weights equal.
    """
    if not parallel:
        return elapsed_s, loss
    mine = elapsed_s if dist.get_rank() == 0 else 0.0
    both = torch.tensor([mine, loss / dist.get_world_size()], dtype=torch.float64)
    dist.all_reduce(both)
    clock, mean = both.tolist()
    return clock, mean
