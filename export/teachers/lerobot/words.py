"""Instructions to token ids by the tokenizer.json of a Hugging Face tokenizer. A policy names it by its id on the hub,
and nothing is ever fetched: it comes with `--tokenizer DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

FILE = "tokenizer.json"


@dataclass(frozen=True)
class Words:
    """A tokenizer, or what to say while there is none.

    `file` is a tokenizer.json; `name` the hub id, for messages; `first` a token that must stand before all others;
    `template` what the sentence stands in, as {}; `marks` whether the tokenizer adds its own first and last token;
    `drop_last`: the last token is left out, whatever it is.
    """

    file: Path | None
    name: str
    max_tokens: int
    vocabulary: int
    first: int | None = None
    template: str = "{}"
    marks: bool = True
    drop_last: bool = False

    def encode(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Token ids (L,), zero padded on the right, and their mask (L,).

        Raises:
            BadInput: no tokenizer, more tokens than the policy takes, an id outside its table of words.
        """
        told = self.template.replace("{}", text.strip()) if self.template != "{}" else text
        ids: list[int] = list(_open(self.file, self.name).encode(told, add_special_tokens=self.marks).ids)
        ids = ids[:-1] if self.drop_last else ids
        if self.first is not None and ids[:1] != [self.first]:
            ids.insert(0, self.first)
        if not 0 < len(ids) <= self.max_tokens:
            expected = f"1 to {self.max_tokens} tokens"
            raise BadInput(explain("instruction length", expected, f"{len(ids)} in {text[:80]!r}", "say it shorter"))
        if max(ids) >= self.vocabulary:
            got = f"{max(ids)} for a table of {self.vocabulary}"
            raise BadInput(explain("token id", f"the tokenizer of {self.name}", got, "give that one by --tokenizer"))
        padded, mask = np.zeros(self.max_tokens, np.int64), np.zeros(self.max_tokens, np.float32)
        padded[: len(ids)], mask[: len(ids)] = ids, 1.0
        return padded, mask


def find_tokenizer(folder: Path | None, name: str) -> Path | None:
    """tokenizer.json in the folder given, else in the folder that the policy names, if that is one on this machine.

    Raises:
        BadInput: a folder was given and holds none.
    """
    if folder is not None:
        if not (folder / FILE).is_file():
            todo = f"download the tokenizer of {name} into it"
            raise BadInput(explain(f"tokenizer folder {folder}", FILE, "no such file", todo))
        return folder / FILE
    return Path(name, FILE) if name and Path(name, FILE).is_file() else None


def _open(file: Path | None, name: str) -> Any:
    if file is None:
        todo = f"download {FILE} of {name} and give its folder by --tokenizer"
        raise BadInput(explain("instruction", "a tokenizer", "none", todo))
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # what the library raises has no class of its own
        raise BadInput(explain("tokenizer", f"a {FILE}", f"{file.name}: {error}", "fetch it again")) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
