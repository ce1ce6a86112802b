"""Joining the processes that `torchrun` or `accelerate launch` started: gloo, one core and one thread each."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Place:
    """This process among its peers."""

    rank: int
    world: int

    @property
    def chief(self) -> bool:
        return self.rank == 0


def join() -> Place:
    """Joins the group if the environment names one, else stands alone; one thread, pinned to a core of its own."""
    torch.set_num_threads(1)
    keep_freed_memory()
    place = Place(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    if place.world > 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place.rank % len(cores)]})
        dist.init_process_group("gloo")
    return place


@contextlib.contextmanager
def in_turn(place: Place) -> Iterator[None]:
    """The chief first, then all others at once: what it leaves on the disk they find."""
    if place.world > 1 and not place.chief:
        dist.barrier()
    yield
    if place.world > 1 and place.chief:
        dist.barrier()


def keep_freed_memory() -> None:
    """Lets glibc reuse freed activations instead of mapping fresh pages at every step: half the run time otherwise."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, bytes: the largest value glibc takes
        mallopt(-1, (2 << 30) - 1)  # M_TRIM_THRESHOLD, bytes


def leave() -> None:
    """Leaves the group and ends this process, which is done then; does nothing for one that stands alone.

    Ended at once: a thread of gloo that outlives the interpreter would abort the process, and fail a finished run.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
