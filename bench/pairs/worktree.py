"""Another version of this repository in a folder of its own, for as long as it is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgevla.errors import Usage, explain

_GIT_S = 300


def commit_of(root: Path, ref: str) -> str:
    """The commit that `ref` names. Raises Usage."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if done.returncode != 0:
        todo = "name a branch, a tag or a commit: make bench-compare BASE=main"
        raise Usage(explain("nothing to compare with", "a version of this repository", ref, todo))
    return done.stdout.strip()


@contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """A work tree of `commit` under out/pairs, removed afterwards. Raises Usage where git makes none."""
    tree = root / "out" / "pairs" / commit[:12]
    _remove(root, tree)  # of a run that was killed
    done = _git(root, "worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)
    if done.returncode != 0:
        got = done.stderr.strip()[-300:]
        raise Usage(explain(f"{commit[:12]} cannot be checked out", "a git work tree", got, "make room under out/"))
    try:
        yield tree
    finally:
        _remove(root, tree)


def _remove(root: Path, tree: Path) -> None:
    if tree.exists():
        _git(root, "worktree", "remove", "--force", str(tree))
    _git(root, "worktree", "prune")


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=_GIT_S)
