"""Instructions to word ids. The vocabulary travels in the bundle; nothing is ever fetched."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

PADDING = 0  # word ids start at 1


@dataclass(frozen=True)
class Vocabulary:
    """The words a policy was trained with, and the longest instruction in words."""

    words: tuple[str, ...]
    max_tokens: int

    def encode(self, instruction: str) -> npt.NDArray[np.int64]:
        """Word ids int64 (max_tokens,), zero padded.

        Raises:
            BadInput: the instruction is empty, too long, or holds a word outside the vocabulary.
        """
        words = re.findall(r"[a-z0-9']+", instruction.lower())
        if not words or len(words) > self.max_tokens:
            raise BadInput(
                explain(
                    "instruction length",
                    f"1 to {self.max_tokens} words",
                    f"{len(words)} words in {instruction!r}",
                    "say it in other words",
                )
            )
        ids = np.full(self.max_tokens, PADDING, np.int64)
        for place, word in enumerate(words):
            ids[place] = self._id(word, instruction)
        return ids

    def _id(self, word: str, instruction: str) -> int:
        try:
            return self.words.index(word) + 1
        except ValueError:
            near = difflib.get_close_matches(word, self.words, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known words: {' '.join(self.words)}"
            raise BadInput(
                explain("instruction outside the vocabulary", "known words", f"{word!r} in {instruction!r}", hint)
            ) from None
