"""Memory as a reader on another core may see it: every word at any age, in any order. For exhaustive tests.

A word has its versions, one per write that changed it. On a weakly ordered machine (ARM) stores of different words
become visible in any order and loads run in any order; only the versions of ONE word come in their order. So what
a load of a word can give is any version between the one visible when the reader began and the newest one stored.
Choosing for each load alone covers every interleaving with every reordering of stores and of loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgevla.control.shm import Buffer, SlotRing, Store

Word = int  # number of a word in the memory
Result = tuple[int, bytes] | None


def words_of(stores: tuple[Store, ...], grain: int) -> list[Store]:
    """The same stores, cut at the borders of words of `grain` bytes, in their order."""
    parts: list[Store] = []
    for offset, data in stores:
        at = 0
        while at < len(data):
            step = min(grain - (offset + at) % grain, len(data) - at)
            parts.append((offset + at, bytes(data[at : at + step])))
            at += step
    return parts


class History:
    """All that a writer of `payloads` ever stores in a ring: for each word its value after each write."""

    def __init__(self, ring: Callable[[Plain], SlotRing], payloads: list[bytes], first: int, grain: int) -> None:
        memory = Plain(1 << 10)
        writer = ring(memory)
        self.grain, self.size = grain, len(memory.raw)
        self.entries = {first + number: payload for number, payload in enumerate(payloads)}
        self._after = [bytes(memory.raw)]
        for sequence, payload in self.entries.items():
            for offset, data in words_of(writer.stores(sequence, payload), grain):
                memory[offset : offset + len(data)] = data
            self._after.append(bytes(memory.raw))

    def versions(self, word: Word, begun: int, until: int) -> list[bytes]:
        """Values of a word from after `begun` writes to after `until` writes, oldest first, each once in a row."""
        start = word * self.grain
        values: list[bytes] = []
        for raw in self._after[begun : until + 1]:
            value = raw[start : start + self.grain]
            if not values or values[-1] != value:
                values.append(value)
        return values


class Plain:
    """A memory that is just bytes."""

    def __init__(self, size: int) -> None:
        self.raw = bytearray(size)

    def __getitem__(self, key: slice) -> bytes:
        return bytes(self.raw[key])

    def __setitem__(self, key: slice, value: Buffer) -> None:
        self.raw[key] = value


class Choices:
    """Walks a tree of choices depth first, by running the same program again and again."""

    def __init__(self) -> None:
        self._path: list[int] = []
        self._sizes: list[int] = []
        self._depth = 0
        self.made = 0  # choices in all runs

    def __call__(self, size: int) -> int:
        if self._depth == len(self._path):
            self._path.append(0)
            self._sizes.append(size)
        picked = self._path[self._depth]
        self._depth += 1
        self.made += 1
        return picked

    def runs(self) -> Iterator[None]:
        """One turn per leaf of the tree."""
        while True:
            self._depth = 0
            yield
            while self._path and self._path[-1] == self._sizes[-1] - 1:
                self._path.pop()
                self._sizes.pop()
            if not self._path:
                return
            self._path[-1] += 1


class Weak:
    """What a reader sees while the writes `begun` .. `until` - 1 are on their way: each load of a word is a choice."""

    def __init__(self, history: History, begun: int, until: int, choose: Choices) -> None:
        words = range(history.size // history.grain)
        self._grain, self._choose = history.grain, choose
        self._versions = [history.versions(word, begun, until) for word in words]

    def __getitem__(self, key: slice) -> bytes:
        grain = self._grain
        first, last = key.start // grain, -(-key.stop // grain)
        seen = b"".join(self._word(word) for word in range(first, last))
        return seen[key.start - first * grain : key.stop - first * grain]

    def _word(self, word: Word) -> bytes:
        versions = self._versions[word]
        return versions[0] if len(versions) == 1 else versions[self._choose(len(versions))]

    def __setitem__(self, key: slice, value: Buffer) -> None:
        raise AssertionError("a reader never writes")


class Ordered:
    """One core's stores becoming visible in a given order, at given moments between the loads of a reader."""

    def __init__(self, raw: bytes, stores: list[Store], choose: Choices, grain: int) -> None:
        self._raw, self._hidden, self._choose, self._grain = bytearray(raw), list(stores), choose, grain

    def __getitem__(self, key: slice) -> bytes:
        seen = bytearray()
        for start in range(key.start, key.stop, self._grain):
            for _ in range(self._choose(len(self._hidden) + 1) if self._hidden else 0):
                offset, data = self._hidden.pop(0)
                self._raw[offset : offset + len(data)] = data
            seen += self._raw[start : min(start + self._grain, key.stop)]
        return bytes(seen)

    def __setitem__(self, key: slice, value: Buffer) -> None:
        raise AssertionError("a reader never writes")
