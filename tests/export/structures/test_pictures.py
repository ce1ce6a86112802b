"""Pictures of a batch: bytes on their way, numbers where the network is; drawn ahead in the same order."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.distill.feed import fit
from export.structures.pictures import light_of, on_device, shown, stacked
from export.structures.places import mixed
from export.teachers.interface import CameraSpec

SIDE = 8
EXACT, STRETCHED = (CameraSpec("front", SIDE, SIDE, fit=how) for how in ("exact", "stretch"))


def images(side: int = SIDE, count: int = 6, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(256, size=(count, side, side, 3)).astype(np.uint8)


def batch_of(pictures: torch.Tensor, light: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"image": pictures.unflatten(0, light.shape[:2]), "light": light}


def test_bytes_become_what_the_robot_sees() -> None:
    plain = light_of(3, 2, 0.0, 0.0, np.random.default_rng(0))
    seen = shown(batch_of(stacked([images()], (EXACT,)), plain))
    assert set(seen) == {"image"}
    assert torch.equal(seen["image"].flatten(0, 2), torch.from_numpy(fit(images(), EXACT)))


def test_light_is_one_for_a_row_and_another_for_the_next() -> None:
    light = light_of(3, 2, 0.2, 0.0, np.random.default_rng(0))
    assert len(light[:, 0].unique(dim=0)) == 3
    assert torch.equal(light[:, 0], light[:, 1])
    pictures = torch.from_numpy(fit(images(), EXACT)).reshape(3, 2, 1, SIDE, SIDE, 3)
    seen = shown({"image": pictures.clone(), "light": light})["image"]
    factor, offset = light[1, 0].tolist()
    assert 0.8 <= factor <= 1.2
    assert -0.2 <= offset <= 0.2
    torch.testing.assert_close(seen[1], (pictures[1] * factor + offset).clamp(-1, 1))


def test_dark_pictures_are_black_whatever_the_light() -> None:
    light = light_of(400, 3, 0.2, 0.5, np.random.default_rng(0))
    pictures = stacked([images(2, 1200)], (CameraSpec("front", 2, 2),))
    seen = shown(batch_of(pictures, light))["image"]
    black = (seen == -1).flatten(2).all(-1)
    assert 0.45 < float(black.float().mean()) < 0.55
    assert (black[:, 0] != black[:, 1]).any()


def test_a_camera_of_another_size_is_fitted_and_so_is_the_one_beside_it() -> None:
    assert stacked([images()], (EXACT,)).dtype == torch.uint8
    both = stacked([images(), images(16)], (EXACT, STRETCHED))
    assert both.dtype == torch.float32
    assert torch.equal(both[:, 0], torch.from_numpy(fit(images(), EXACT)))
    assert torch.equal(both[:, 1], torch.from_numpy(fit(images(16), STRETCHED)))
    with pytest.raises(BadInput, match="pictures of camera front"):
        stacked([images(16)], (EXACT,))


@pytest.mark.parametrize(("mine", "theirs"), [(SIDE, SIDE), (SIDE, 16), (16, SIDE)])
def test_demonstrations_and_stills_of_other_sizes_make_one_batch(mine: int, theirs: int) -> None:
    plain = light_of(6, 1, 0.0, 0.0, np.random.default_rng(0))
    first, second = (batch_of(stacked([images(side)], (STRETCHED,)), plain) for side in (mine, theirs))
    seen = shown(mixed(first, second))["image"].flatten(0, 2)
    wanted = np.concatenate([fit(images(side), STRETCHED) for side in (mine, theirs)])
    assert torch.equal(seen, torch.from_numpy(wanted))


class Counting:
    """Draws batches that are numbered; waits before each."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.drawn, self.fails_at, self.threads = 0, fails_at, set[int]()

    def __call__(self) -> dict[str, torch.Tensor]:
        time.sleep(0.001)
        self.threads.add(threading.get_ident())
        if self.drawn == self.fails_at:
            raise BadInput("a torn shard")
        self.drawn += 1
        return {"number": torch.tensor(self.drawn - 1)}


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_batches_come_in_the_order_in_which_they_were_drawn(ahead: int) -> None:
    draw = Counting()
    with on_device(draw, "cpu", ahead) as next_batch:
        assert [int(next_batch()["number"]) for _ in range(20)] == list(range(20))
    assert draw.drawn == 20 + ahead
    assert draw.threads.isdisjoint({threading.get_ident()}) is bool(ahead)


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_fails_while_it_is_drawn_is_told_where_the_batch_is_asked_for(ahead: int) -> None:
    with on_device(Counting(fails_at=5), "cpu", ahead) as next_batch:
        assert [int(next_batch()["number"]) for _ in range(5)] == list(range(5))
        with pytest.raises(BadInput, match="a torn shard"):
            next_batch()


def test_nothing_is_drawn_ahead_where_the_same_processor_trains() -> None:
    draw = Counting()
    with on_device(draw, "cpu") as next_batch:
        next_batch()
    assert draw.drawn == 1
