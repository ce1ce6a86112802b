"""`edgevla eval --real`: trials on the real arm, in an order that the operator does not know, until they decide.

Each trial runs the command on a folder of one neutral name and its output goes to a log: nothing on the terminal tells
the two policies apart before the end. Needs neither torch nor a simulator, so it runs on the robot.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from edgevla.bundle import open_bundle
from edgevla.cli.output import say
from edgevla.control.realtime import die_with_parent
from edgevla.errors import BadInput, Refused, Unsound, Usage, explain
from export.eval.journal import Journal
from export.eval.trials import ANSWERS, ROLES, Declaration, Progress, decision_of, progress_of, role_of
from export.evidence.paired import Design, pairs_needed

NEUTRAL = "policy.bundle"  # the name of both, while they run
MARK = "{bundle}"
_LIKELY_DISCORDANCE = 0.2  # for the one figure that is printed beforehand
Ask = Callable[[str], str]


class Session:
    """One declared comparison in a folder of its own; made again from its journal after any interruption."""

    def __init__(self, folder: Path, bundles: tuple[Path, Path], command: str, design: Design, seed: str = "") -> None:
        require_command(command)
        hashes = tuple(_manifest_sha256(path) for path in bundles)
        self.folder, self.names = folder, tuple(str(path) for path in bundles)
        self.journal = Journal(folder)
        try:
            wanted = Declaration(seed or secrets.token_hex(8), (hashes[0], hashes[1]), command, design)
            self.declaration = _declared(self.journal, wanted, bool(seed))
            self._store = [folder / ".store" / _hidden(self.declaration.seed, role) for role in ROLES]
            for path, kept, sha256 in zip(bundles, self._store, hashes, strict=True):
                _keep(path, kept, sha256)
        except BaseException:
            self.journal.close()
            raise

    @property
    def progress(self) -> Progress:
        try:
            return progress_of(self.journal.lines[1:])
        except (ValueError, KeyError, TypeError) as error:
            todo = "start another session with --session DIR"
            raise BadInput(explain(f"{self.journal.path}", "trials in their order", error, todo)) from error

    def run(self, ask: Ask = input) -> str:
        """Trials until they decide; returns how. Raises Unsound where the operator leaves before that."""
        self._greet()
        while (decision := decision_of(self.declaration, self.progress.answers)) == "continue":
            try:
                self._trial(ask)
            except EOFError as error:
                done = len(self.progress.answers)
                got = f"{done} trials answered, of at most {2 * self.declaration.design.looks[-1]}"
                todo = "type the same command again to go on"
                raise Unsound(explain("the comparison is not decided yet", "trials up to a look", got, todo)) from error
        return decision

    def _greet(self) -> None:
        design, answered = self.declaration.design, len(self.progress.answers)
        most = 2 * design.looks[-1]
        say(f"blinded comparison, at most {most} trials; looks after {_list(design.looks)} pairs", "bold")
        say(
            f"margin {100 * design.margin:g} points, one-sided alpha {design.alpha:g}, declared and fixed. If "
            f"{100 * _LIKELY_DISCORDANCE:.0f} % of pairs disagree, one look would need "
            f"{pairs_needed(_LIKELY_DISCORDANCE, design.margin, design.alpha)} pairs (80 % power)."
        )
        say("Two trials in a row use the same scene. Answer y, n or void (it did not count: run again), and a note.")
        if answered:
            say(f"going on after {answered} answered trials")

    def _trial(self, ask: Ask) -> None:
        state = self.progress
        trial = state.next_trial
        if state.unanswered != trial:
            pair, second = divmod(trial - 1, 2)
            place = "the same scene again" if second else "a new scene"
            ask(f"trial {trial} · scene {pair + 1}, {place} · Enter starts it, Ctrl-D stops for now: ")
            self._play(trial, state.attempts.get(trial, 0) + 1)
        answer, note = _answer(trial, ask)
        self.journal.append({"event": "answer", "trial": trial, "answer": answer, "note": note, "at": _now()})
        if answer == "void":
            say(f"trial {trial} is run again")
            return
        looked = trial % 2 == 0 and trial // 2 in self.declaration.design.looks
        if looked and decision_of(self.declaration, self.progress.answers) == "continue":
            say(f"look after {trial // 2} pairs: not decided, going on", "bold")

    def _play(self, trial: int, attempt: int) -> None:
        """Runs the command once; Ctrl-C meanwhile reaches the command, which stops the arm, and not this session."""
        log = self.folder / "logs" / f"trial-{trial:03d}-{attempt}.log"
        log.parent.mkdir(exist_ok=True)
        kept = self._store[ROLES.index(role_of(self.declaration.seed, trial))]
        self.journal.append({"event": "start", "trial": trial, "attempt": attempt, "at": _now()})
        started = time.monotonic()
        with _named_neutrally(kept, self.folder / NEUTRAL) as bundle, log.open("wb") as output, _deaf_to_ctrl_c():
            command = [part.replace(MARK, str(bundle.resolve())) for part in shlex.split(self.declaration.command)]
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGINT),  # no arm moves on without its session
            ).returncode
        wall_s = round(time.monotonic() - started, 3)
        self.journal.append({"event": "end", "trial": trial, "attempt": attempt, "exit_code": code, "wall_s": wall_s})
        if code:
            say(f"the command ended with exit code {code}; its log can be read when the session is over", "bold")


def require_command(command: str) -> None:
    """The template can be run. Raises Usage."""
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise Usage(explain("--command", "a command line", f"{command!r}: {error}", "close its quotes")) from error
    if not any(MARK in part for part in parts):
        todo = f"write {MARK} where the bundle belongs"
        raise Usage(explain("--command", f"a command line with {MARK}", repr(command), todo))
    if shutil.which(parts[0]) is None:
        raise Usage(explain("--command", "a program that can be run", parts[0], "check its path"))


def _manifest_sha256(path: Path) -> str:
    """Of the manifest of a bundle whose every file was verified."""
    return hashlib.sha256((open_bundle(path).path / "manifest.json").read_bytes()).hexdigest()


def _declared(journal: Journal, wanted: Declaration, seed_given: bool) -> Declaration:
    """What the journal's first line declares; `wanted`, written there first, where it is new.

    Raises:
        Refused: it declares something else: what was declared before the first trial cannot be changed.
    """
    if not journal.lines:
        journal.append(wanted.as_dict())
        return wanted
    before, now = journal.lines[0], wanted.as_dict()
    if not seed_given:
        now["seed"] = before.get("seed")
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            # Which of the two bundles differs is no secret, but hashes and seeds on a terminal would be.
            got = "another one" if key in ("bundles", "seed") else f"{now.get(key)!r}, declared {before.get(key)!r}"
            todo = "type the command as it was, or start another session with --session DIR"
            raise Refused(explain(f"{key} of the session", "as declared before the first trial", got, todo))
    return Declaration(str(now["seed"]), wanted.bundles, wanted.command, wanted.design)


def _hidden(seed: str, role: str) -> str:
    return hashlib.sha256(f"{seed}/{role}".encode()).hexdigest()[:8]


def _keep(bundle: Path, kept: Path, sha256: str) -> None:
    """A copy of the bundle in the session: what happens to the original no longer matters."""
    if not kept.exists():
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = kept.with_suffix(".part")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(bundle, temporary)
        os.replace(temporary, kept)
    if _manifest_sha256(kept) != sha256:
        raise BadInput(explain("the session's copy of a bundle", "as declared", "altered", "start another session"))


@contextmanager
def _named_neutrally(kept: Path, path: Path) -> Iterator[Path]:
    """The kept bundle under the neutral name: hard links, as a bundle of symbolic links is refused."""
    shutil.rmtree(path, ignore_errors=True)  # of a trial that was killed
    shutil.copytree(kept, path, copy_function=os.link)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A handler and not SIG_IGN, which the command would inherit."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(trial: int, ask: Ask) -> tuple[str, str]:
    while True:
        word, _, note = ask(f"trial {trial} · success? y / n / void, and a note: ").strip().partition(" ")
        if word.lower() in ANSWERS:
            return word.lower(), note.strip()
        say(f"answer {' or '.join(ANSWERS)}, then a note if you like")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _list(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))
