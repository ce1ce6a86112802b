"""Tables in int8: small, nearly the same rows, and only where a table is nothing but looked up."""

import numpy as np
import onnx
import torch
from torch import nn

from edgevla.policy.engine import open_session
from export.onnx.stages import StageSpec, export_stage
from export.quantize.tables import quantize_tables


class Table(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.table = nn.Embedding(rows, 32)
        with torch.no_grad():
            self.table.weight *= torch.linspace(0.01, 10, rows)[:, None]  # rows of very different size
            self.table.weight[3] = 0

    def forward(self, tokens):
        return self.table(tokens) * 2


class Tied(Table):
    """The table is also the last layer."""

    def forward(self, tokens):
        return self.table(tokens) @ self.table.weight.T


TOKENS = torch.tensor([[0, 3, 5, 999]])


def graph_of(module):
    return export_stage(StageSpec("words", module.eval(), {"tokens": TOKENS}, ("words",)))


def answer(graph):
    return open_session(graph, "words").run(None, {"tokens": TOKENS.numpy()})[0]


def test_each_row_keeps_its_own_precision():
    graph = graph_of(Table(1024))
    small = quantize_tables(graph)
    assert len(small) < 0.35 * len(graph)
    before, after = answer(graph), answer(small)
    step = np.abs(before).max(axis=-1, keepdims=True) / 127
    assert (np.abs(after - before) <= 0.5001 * step).all()
    assert (after[0, 1] == 0).all()
    onnx.checker.check_model(onnx.load_model_from_string(small), full_check=True)


def test_a_small_table_stays():
    graph = graph_of(Table(1000))
    assert quantize_tables(graph) == graph


def test_a_table_that_is_also_multiplied_stays():
    graph = graph_of(Tied(1024))
    np.testing.assert_allclose(answer(quantize_tables(graph)), answer(graph), rtol=1e-6)
