"""Made once: the reference student, random weights, as narrow as int8 still takes it, exported as it always is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.onnx.stages import StageSpec, export_stage
from export.students.onepass import OnePassStudent, StudentConfig
from tests.export.quantize.tools import random_feeds

NARROW = StudentConfig(vocabulary=20, picture_height=32, picture_width=32, width=128, heads=4, head_mlp_ratio=2)


@pytest.fixture(scope="session")
def stages() -> dict[str, bytes]:
    """vision and head."""
    return {spec.name: export_stage(spec) for spec in _specs() if spec.name != "text"}


@pytest.fixture(scope="session")
def text_stage() -> bytes:
    return export_stage(_specs()[0])


def _specs() -> list[StageSpec]:
    torch.manual_seed(0)
    return OnePassStudent(NARROW).eval().stages()


@pytest.fixture(scope="session")
def feeds(stages: dict[str, bytes]) -> dict[str, list[dict[str, np.ndarray]]]:
    """Six calibration frames of each stage."""
    return {name: random_feeds(graph, 6) for name, graph in stages.items()}
