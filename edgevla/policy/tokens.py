"""Instructions to word ids. The vocabulary travels in the bundle; nothing is ever fetched."""

from __future__ import annotations

import difflib
import textwrap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

PADDING = 0  # word ids start at 1
_AROUND = ".,;:!?\"'()"  # may stand before or after a word; anything else is part of it
_SHOWN_TEXT, _SHOWN_WORDS = 80, 600  # characters of an error


@dataclass(frozen=True)
class Vocabulary:
    """The words a policy was trained with, and the longest instruction in words."""

    words: tuple[str, ...]
    max_tokens: int

    def encode(self, instruction: str) -> npt.NDArray[np.int64]:
        """Word ids int64 (max_tokens,), zero padded.

        Raises:
            BadInput: the instruction is empty, too long, or holds a word outside the vocabulary. Nothing between
                two blanks is passed over but the punctuation around a word: a "not" in any script must not be lost.
        """
        stripped = (word.strip(_AROUND) for word in instruction.lower().split())
        words = [word for word in stripped if word]
        if not words or len(words) > self.max_tokens:
            raise BadInput(
                explain(
                    "instruction length",
                    f"1 to {self.max_tokens} words",
                    f"{len(words)} words in {_shown(instruction)}",
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
            near = difflib.get_close_matches(word, self.words, n=3, cutoff=0.7)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            known = "known words: " + textwrap.shorten(" ".join(self.words), _SHOWN_WORDS, placeholder=" ...")
            got = f"{_shown(word)} in {_shown(instruction)}"
            raise BadInput(explain("instruction outside the vocabulary", "known words", got, meant + known)) from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "...")
