"""The two ways of a history give the same numbers: a row at once, and moment after moment with a memory."""

from __future__ import annotations

import pytest
import torch

from export.structures.history import History, Newest, Recurrent, Transformer, Window

WIDTH, WINDOW = 8, 4
MADE = {
    "newest": lambda: Newest(1, WIDTH),
    "window": lambda: Window(WINDOW, WIDTH),
    "transformer": lambda: Transformer(WINDOW, WIDTH, 2, 2),
    "recurrent": lambda: Recurrent(WINDOW, WIDTH, 2),
}


@pytest.fixture(params=MADE)
def history(request: pytest.FixtureRequest) -> History:
    torch.manual_seed(0)
    return MADE[request.param]().eval()


def followed(history: History, features: torch.Tensor) -> torch.Tensor:
    """Contexts (n, M, F) of moments (n, F), one by one from a blank memory."""
    memory = tuple(torch.zeros(shape) for shape in history.memory.values())
    found = []
    for feature in features:
        context, *memory = history.step(feature[None], *memory)
        found.append(context[0])
    return torch.stack(found)


@torch.no_grad()
def test_moment_after_moment_is_the_row_while_the_window_grows(history: History) -> None:
    features = torch.randn(history.window, WIDTH)
    torch.testing.assert_close(followed(history, features), history.over(features[None])[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_later_every_answer_is_that_of_the_last_window_alone(history: History) -> None:
    features = torch.randn(history.window + 5, WIDTH)
    found = followed(history, features)
    for end in range(history.window, len(features) + 1):
        alone = history.over(features[None, end - history.window : end])[0, -1]
        torch.testing.assert_close(found[end - 1], alone, rtol=0, atol=1e-6)


@torch.no_grad()
def test_what_left_the_window_changes_nothing_and_what_is_in_it_does(history: History) -> None:
    features = torch.randn(history.window + 2, WIDTH)
    moved = features.clone()
    moved[0] += torch.randn(WIDTH)
    assert torch.equal(followed(history, features)[-1], followed(history, moved)[-1])
    moved = features.clone()
    moved[-history.window] += torch.randn(WIDTH)
    assert not torch.allclose(followed(history, features)[-1], followed(history, moved)[-1])


@torch.no_grad()
def test_the_recurrent_states_are_those_of_torch_run_over_the_whole_window() -> None:
    torch.manual_seed(0)
    history, features = Recurrent(WINDOW, WIDTH, 3).eval(), torch.randn(11, WIDTH)
    for end, context in enumerate(followed(history, features), 1):
        whole = history.rnn(features[None, max(0, end - WINDOW) : end])[0][0, -1]
        torch.testing.assert_close(context[0], whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["window", "transformer", "recurrent"])
def test_a_window_of_one_remembers_nothing(name: str) -> None:
    torch.manual_seed(0)
    made = {
        "window": Window(1, WIDTH), "transformer": Transformer(1, WIDTH, 2, 2), "recurrent": Recurrent(1, WIDTH, 2)
    }[name].eval()  # fmt: skip
    feature = torch.randn(1, WIDTH)
    with torch.no_grad():
        assert made.memory == {}
        (context,) = made.step(feature)
        torch.testing.assert_close(context, made.over(feature[None])[0], rtol=0, atol=1e-6)


def test_gradients_reach_every_weight_of_a_row(history: History) -> None:
    features = torch.randn(3, history.window, WIDTH, requires_grad=True)
    (history.over(features) * torch.randn(WIDTH)).square().sum().backward()
    lacking = [name for name, p in history.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert lacking == []
