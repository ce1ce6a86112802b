"""What compression repeats: a training step of the student, a calibration frame, a graph quantized, a stage exported.

The student is narrow (width 128), as int8 still takes it; torch on one thread.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
BATCH = 32
WIDTH = 128
FRAMES = 4


def student() -> Any:
    """The one-pass student with weights that are always the same."""
    import torch

    from export.students.onepass import OnePassStudent, StudentConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return OnePassStudent(StudentConfig(vocabulary=20, width=WIDTH, heads=4, head_mlp_ratio=2)).eval()


def batch() -> dict[str, Any]:
    """What the objective takes, of random numbers."""
    import torch

    generator = torch.Generator().manual_seed(1)
    depth = torch.arange(BATCH) % 9
    normal = {"state": (BATCH, 4), **dict.fromkeys(("noise", "prefix", "endpoint", "actions"), (BATCH, 32, 4))}
    return {
        **{name: torch.randn(shape, generator=generator) for name, shape in normal.items()},
        "image": torch.rand((BATCH, 1, 96, 96, 3), generator=generator) * 2 - 1,
        "tokens": torch.randint(1, 20, (BATCH, 16), generator=generator),
        "mask": (torch.arange(32)[None] < depth[:, None]).float()[..., None],
        "valid": torch.ones((BATCH, 32, 1)),
    }


@PATHS.add("compress/training step")
def _training(place: Place) -> Made:
    """One step of `export.distill.loop.train`: loss, gradients, AdamW, average. Batch of 32, FP32."""
    from export.distill.loop import Progress, Recipe, Run, train
    from export.distill.losses import DistilObjective

    model, rows = student(), batch()
    objective = DistilObjective(model, "distil", None)
    runs = iter(range(1 << 30))

    def step() -> Progress:
        recipe = Recipe(budget_s=1.0, bf16=False, steps=1)
        run = Run(model, recipe, place.folder / f"run-{next(runs) % 2}.safetensors")
        return train(run, objective, lambda: rows, lambda progress: None)

    return Made(step, lambda progress: isinstance(progress, Progress) and progress.loss == progress.loss)


@lru_cache(maxsize=2)
def graph(name: str) -> bytes:
    """One exported stage."""
    from export.onnx.stages import export_stage

    return export_stage(_spec(name))


def _spec(name: str) -> Any:
    return next(spec for spec in student().stages() if spec.name == name)


def _feeds(name: str) -> list[dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = _spec(name).inputs
    return [{k: rng.normal(size=tuple(v.shape)).astype(np.float32) for k, v in inputs.items()} for _ in range(FRAMES)]


@PATHS.add("compress/calibration pass")
def _calibration(place: Place) -> Made:
    """Statistics of what the head's products read, four frames."""
    from export.quantize.calibrate import collect
    from export.quantize.graph import load, products

    exported, feeds = graph("head"), _feeds("head")
    tensors = sorted({product.activation for product in products(load(exported))})
    return Made(
        lambda: collect(exported, tensors, feeds), lambda stats: isinstance(stats, dict) and len(stats) == len(tensors)
    )


@PATHS.add("compress/quantize the head")
def _quantize(place: Place) -> Made:
    from export.quantize import dynamic

    exported = graph("head")
    return Made(lambda: dynamic.quantize(exported), lambda made: isinstance(made, bytes) and made != exported)


@PATHS.add("compress/scales of the head")
def _scales(place: Place) -> Made:
    from export.quantize.scales import weight_scales

    exported = graph("head")
    return Made(lambda: weight_scales(exported), lambda found: isinstance(found, dict) and len(found) > 0)


@PATHS.add("compress/export the text stage", slow=True)
def _export(place: Place) -> Made:
    from export.onnx.stages import export_stage

    spec = _spec("text")
    return Made(lambda: export_stage(spec), lambda made: isinstance(made, bytes) and len(made) > 0)
