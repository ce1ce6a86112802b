"""One training loop for teacher and student: time budget, weight averaging, resume, progress.

The learning rate follows the share of the budget that is spent, so a run ends on time on any machine. The whole state
is written every `CHECKPOINT_S` seconds as safetensors (no pickle), first beside and then over the old one: a kill
loses at most that much. Under `torchrun` or `accelerate launch` the same loop runs data-parallel on the gloo backend.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgevla.errors import BadInput, explain

CHECKPOINT_S = 30.0
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """Optimiser settings; `budget_s` is training time on this machine."""

    budget_s: float
    learning_rate: float = 1e-3
    warmup: float = 0.02  # share of the budget
    final: float = 0.01  # share of the peak learning rate at the end
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = True


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0
    loss: float = float("nan")


def learning_rate(recipe: Recipe, elapsed_s: float) -> float:
    """Linear warm-up, then cosine, over the spent share of the budget."""
    share = min(1.0, elapsed_s / recipe.budget_s)
    if share < recipe.warmup:
        return recipe.learning_rate * (share / recipe.warmup + 1e-3)
    rest = (share - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * rest)))


class Run:
    """A model in training: parameters, averaged parameters, optimiser and progress, saved and resumed as one file."""

    def __init__(self, model: nn.Module, recipe: Recipe, path: Path) -> None:
        self.model, self.recipe, self.path = model, recipe, path
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.progress = Progress()
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}

    def save(self) -> None:
        """Writes the whole state atomically."""
        tensors = {f"model.{k}": v.detach().clone() for k, v in self.model.named_parameters()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for parameter, state in self.optimiser.state.items():
            name = self.names[parameter]
            tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"progress": json.dumps(vars(self.progress))})
        os.replace(temporary, self.path)

    def resume(self) -> bool:
        """Continues from the file if there is one."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as archive:
                tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
                self.progress = Progress(**json.loads(archive.metadata()["progress"]))
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
                    "exp_avg": tensors[f"first.{name}"],
                    "exp_avg_sq": tensors[f"second.{name}"],
                }

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the averaged weights; early on faster, so that the start is forgotten."""
        decay = min(self.recipe.ema, (1 + self.progress.step) / (10 + self.progress.step))
        names = list(self.average)
        parameters = dict(self.model.named_parameters())
        torch._foreach_lerp_([self.average[n] for n in names], [parameters[n] for n in names], 1 - decay)

    def use_average(self) -> None:
        """Replaces the model's weights by their average."""
        self.model.load_state_dict(self.average, strict=False)


def train(
    run: Run,
    objective: nn.Module,
    draw: Callable[[], Batch],
    report: Callable[[Progress], None],
    log: Path | None = None,
) -> Progress:
    """Trains until the budget is spent.

    Args:
        run: the model with its optimiser; resumed by the caller if wanted.
        objective: holds `run.model`; its `forward(batch)` returns the loss.
        draw: the next batch of this process.
        report: called after every step.
        log: JSON lines, one every 50 steps.
    """
    parallel = dist.is_available() and dist.is_initialized()
    module = _data_parallel(objective) if parallel else objective
    chief = not parallel or dist.get_rank() == 0
    world = dist.get_world_size() if parallel else 1
    progress, saved, last = run.progress, time.monotonic(), time.monotonic()
    run.model.train()
    while True:
        progress.elapsed_s = _chiefs(progress.elapsed_s, parallel)
        if progress.elapsed_s >= run.recipe.budget_s:
            break
        batch = draw()
        value = _step(run, module, batch)
        now = time.monotonic()
        progress.elapsed_s, last = progress.elapsed_s + now - last, now
        progress.step, progress.samples = (
            progress.step + 1,
            progress.samples + len(next(iter(batch.values()))) * world,
        )
        progress.loss = value if math.isnan(progress.loss) else progress.loss + 0.02 * (value - progress.loss)
        if not chief:
            continue
        report(progress)
        if log and progress.step % 50 == 0:
            with log.open("a") as stream:
                stream.write(json.dumps({k: round(v, 5) for k, v in vars(progress).items()}) + "\n")
        if now - saved > CHECKPOINT_S:
            run.save()
            saved = now
    if chief:
        run.save()
    run.use_average()
    run.model.eval()
    return progress


def _data_parallel(objective: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(objective, gradient_as_bucket_view=True)


def _step(run: Run, module: nn.Module, batch: Batch) -> float:
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.recipe, run.progress.elapsed_s)
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=run.recipe.bf16):
        value = module(batch)
    value.backward()
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
    if torch.isfinite(norm):
        run.optimiser.step()
        run.update_average()
    return float(value.detach())


def _chiefs(elapsed_s: float, parallel: bool) -> float:
    """The chief's clock counts for all: they end together, and one learning rate keeps their weights equal."""
    if not parallel:
        return elapsed_s
    value = torch.tensor([elapsed_s], dtype=torch.float64)
    dist.broadcast(value, src=0)
    return float(value.item())
