"""A training process small enough to be killed: a line is fitted by the real loop. Run by test_loop.py.

    python tiny_training.py CHECKPOINT BUDGET_S

Saves five times a second, prints each step; under torchrun it runs data-parallel.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from export.distill import loop
from export.distill.loop import Recipe, Run, train
from export.distill.parallel import join, leave


class Line(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return nn.functional.mse_loss(self.model(batch["x"]).float(), batch["y"])


def batches(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        x = torch.randn(32, 2, generator=generator)
        return {"x": x, "y": x @ torch.tensor([[2.0], [-1.0]]) + 0.5}

    return draw


def say(line):
    """One write a line: two processes share the pipe, and their lines must not mix."""
    os.write(1, f"{line}\n".encode())


def main(path, budget_s):
    loop.CHECKPOINT_S = 0.2
    place = join()
    torch.manual_seed(0)  # the same start for all, as the real callers do
    model = nn.Linear(2, 1)
    run = Run(model, Recipe(budget_s, learning_rate=0.05, ema=0.95, bf16=False), path)
    say(f"resumed {run.resume()} at {run.progress.step}")
    train(run, Line(model), batches(place.rank), lambda p: say(f"step {p.step}"))
    weight, bias = model.weight.flatten().tolist(), model.bias.tolist()
    say(f"end rank {place.rank} step {run.progress.step} samples {run.progress.samples} {weight} {bias}")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
