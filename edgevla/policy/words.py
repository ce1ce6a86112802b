"""Instructions to what the graphs take, whichever way a bundle says it: known words, known tokens, or a tokenizer."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgevla.bundle.parts import KnownTokens
from edgevla.bundle.reader import Bundle
from edgevla.errors import BadInput, explain
from edgevla.policy.tokens import Vocabulary

Tokens = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
_SHOWN = 5  # known instructions in an error


def encoder_of(bundle: Bundle) -> Callable[[str], Tokens]:
    """Instruction -> token ids int64 (L,) and their mask float32 (L,).

    The function raises BadInput for what the policy cannot hear. Raises BadInput: the bundle has a tokenizer that
    cannot be loaded.
    """
    words, most = bundle.words, bundle.manifest.text.max_tokens
    if isinstance(words, KnownTokens):
        cut = None if words.tokenizer is None else tokenizer(words.tokenizer)
        return lambda text: padded(_ids(text, words, most, cut), most, words.pad)
    vocabulary = Vocabulary(words.tokens, words.max_tokens)
    return lambda text: _with_mask(vocabulary.encode(text))


def padded(ids: list[int], most: int, pad: int) -> Tokens:
    """Ids int64 (most,) and mask float32 (most,), the padding on the right."""
    tokens, mask = np.full(most, pad, np.int64), np.zeros(most, np.float32)
    tokens[: len(ids)], mask[: len(ids)] = ids, 1.0
    return tokens, mask


def tokenizer(raw: bytes) -> Callable[[str], list[int]]:
    """The function of a tokenizer.json. Raises BadInput: no such library here, or not such a file."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        todo = "pip install 'edgevla[tokenizer]', or give one of the bundle's known instructions"
        raise BadInput(explain("the bundle's tokenizer", "the library `tokenizers`", error, todo)) from error
    try:
        loaded = Tokenizer.from_str(raw.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise BadInput(explain("text/tokenizer.json", "a tokenizer", error, "export the bundle again")) from error
    loaded.no_padding()
    loaded.no_truncation()
    return lambda text: list(loaded.encode(text).ids)


def _with_mask(ids: npt.NDArray[np.int64]) -> Tokens:
    return ids, (ids != 0).astype(np.float32)


def _ids(text: str, words: KnownTokens, most: int, cut: Callable[[str], list[int]] | None) -> list[int]:
    if text in words.known:
        return list(words.known[text])
    if cut is None:
        near = difflib.get_close_matches(text, words.known, n=3, cutoff=0.5) or list(words.known)[:_SHOWN]
        expected = f"one of {len(words.known)} known instructions, such as {near}"
        todo = "use its words exactly, or export with --tokenizer"
        raise BadInput(explain("instruction outside the bundle", expected, repr(text[:200]), todo))
    ids = cut(text + words.suffix)
    if not text.strip() or len(ids) > most:
        got = f"{len(ids)} tokens in {text[:80]!r}"
        raise BadInput(explain("instruction length", f"text of 1 to {most} tokens", got, "say it in other words"))
    return ids
