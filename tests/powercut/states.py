"""Which states a power cut may leave behind after each mutating call. Pure.

Of the operations that no barrier has put on the disk, those that do not concern what is visible (everything but the
scratch folders) leave the same visible tree whether they are there or not. Of those that do, these sets are tried: all,
none, all but one, only one, the first k in order, every subset where there are few, and each write cut in half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tests.powercut.model import ROOT, Data, Entry, Image, Move, Operation, passed_over, unsynced
from tests.powercut.trees import Trees

_FEW = 6  # 2 ** 6 subsets


@dataclass(frozen=True)
class State:
    """`lost`: indices of operations that are not there; `torn`: the one whose first half alone is there, -1 none."""

    lost: frozenset[int]
    torn: int = -1


def visible(trees: Trees, found: Image, open_operations: Sequence[int], scratch: frozenset[str]) -> list[int]:
    """Those of the open operations that concern something outside the scratch folders."""
    seen = trees.reachable(found, leave_out=scratch)
    above = {inode: f"{name}/" for name, inode in found.folders.get(ROOT, {}).items()} | {ROOT: ""}
    return [index for index in open_operations if _concerns(trees.disk.operations[index], seen, above, scratch)]


def _concerns(operation: Operation, seen: set[int], above: Mapping[int, str], scratch: frozenset[str]) -> bool:
    """`above`: the path of the top and of each folder in it."""
    if isinstance(operation, Entry):
        inside = above.get(operation.folder)
        return operation.folder in seen and (inside is None or not passed_over(f"{inside}{operation.name}", scratch))
    if isinstance(operation, Move):
        return any(folder in seen for folder, _ in (operation.source, operation.dest))
    return isinstance(operation, Data) and operation.inode in seen


def states(trees: Trees, count: int, scratch: frozenset[str]) -> Iterator[State]:
    """States after the first `count` operations: the one that lost all that it may first. Some may be the same tree."""
    open_operations = unsynced(trees.disk, count)
    concerned = visible(trees, trees.image(count), open_operations, scratch)
    # What a lost entry or rename had hidden is visible in the state without it.
    concerned_too = visible(trees, trees.image(count, frozenset(concerned)), open_operations, scratch)
    loose = sorted({*concerned, *concerned_too})
    for kept in _subsets(loose):
        yield State(frozenset(loose) - frozenset(kept))
    for index in loose:
        operation = trees.disk.operations[index]
        if isinstance(operation, Data) and len(operation.content) > 1:
            yield State(frozenset(), torn=index)


def _subsets(loose: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if len(loose) <= _FEW:
        for size in range(len(loose) + 1):
            yield from combinations(loose, size)
        return
    for count in range(len(loose) + 1):
        yield tuple(loose[:count])
    for index, one in enumerate(loose):
        yield (one,)
        yield (*loose[:index], *loose[index + 1 :])
