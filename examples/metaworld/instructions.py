"""What people say for each of the six tasks: paraphrases to train on, and others that training never sees.

Every word of a held-out sentence occurs in training; the sentence, and often the verb phrase for that object, does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

_BEFORE = ("", "please", "now", "robot", "could you")
_AFTER = ("", "now", "please", "for me")

_TRAIN_PHRASES: dict[str, tuple[str, ...]] = {
    "drawer-open-v3": ("open the drawer", "pull the drawer open", "pull out the drawer", "get the drawer open",
                       "open the green drawer", "slide open the drawer"),
    "drawer-close-v3": ("close the drawer", "push the drawer closed", "shut the drawer", "get the drawer closed",
                        "close the green drawer", "push in the drawer"),
    "window-open-v3": ("open the window", "slide the window open", "make the window open", "get the window open",
                       "open the small window", "slide open the window"),
    "window-close-v3": ("close the window", "slide the window closed", "make the window closed", "shut the window",
                        "close the small window", "get the window closed"),
    "button-press-v3": ("press the button", "push the button", "push in the button", "press the red button",
                        "get the button pressed", "press in the button"),
    "door-open-v3": ("open the door", "pull the door open", "make the door open", "swing the door open",
                     "open the black door", "swing open the door"),
}  # fmt: skip

_HELD_OUT_PHRASES: dict[str, tuple[str, ...]] = {
    "drawer-open-v3": ("slide the drawer open", "make the drawer open", "make the green drawer open"),
    "drawer-close-v3": ("slide the drawer closed", "make the drawer closed", "shut the green drawer"),
    "window-open-v3": ("pull the window open", "get the small window open", "push the window open"),
    "window-close-v3": ("push the window closed", "shut the small window", "get the small window closed"),
    "button-press-v3": ("push the red button", "make the button pressed", "push in the red button"),
    "door-open-v3": ("get the door open", "get the black door open", "pull open the door"),
}

SHORT: dict[str, str] = {task: phrases[0] for task, phrases in _TRAIN_PHRASES.items()}


@dataclass(frozen=True)
class Wording:
    """The sentences of one task."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def sentences(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """The phrases as people say them: bare, polite, with a word before or after."""
    return tuple(" ".join(part for part in parts if part) for parts in product(_BEFORE, phrases, _AFTER))


WORDINGS: dict[str, Wording] = {
    task: Wording(sentences(_TRAIN_PHRASES[task]), sentences(_HELD_OUT_PHRASES[task])) for task in _TRAIN_PHRASES
}


def vocabulary() -> list[str]:
    """All words of all sentences, sorted: the teacher's vocabulary."""
    return sorted(
        {word for wording in WORDINGS.values() for s in wording.train + wording.held_out for word in s.split()}
    )
