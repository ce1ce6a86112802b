"""Signed releases of the scenario, built by the real `edgevla bundle build` for the machine that stands in."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle import open_bundle
from tests.stand_in.arm import PROFILE as ARM
from tests.stand_in.bundles import write_policy
from tests.stand_in.steps import REPO, Broken

HERE = Path(__file__).parent
TARGETS = {"arm64": HERE / "emulated.toml", "amd64": HERE / "emulated_x86.toml"}
NAMES = {"arm64": "generic-aarch64", "amd64": "host"}
_BUILD_LIMIT_S = 600


@dataclass(frozen=True)
class Done:
    """What `edgevla` printed with --json, and its exit code."""

    code: int
    said: dict[str, Any]
    err: str


@dataclass(frozen=True)
class Releases:
    """In the order of their counters. `wrong`: its golden vectors are what no machine answers."""

    target: str
    key: Path
    fingerprint: str
    first: Path
    second: Path
    wrong: Path
    third: Path


def edgevla(*words: object, home: Path, limit_s: float = 300) -> Done:
    """The command line as it is typed, with its own home. Raises Broken when it prints no JSON or does not end."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "HOME": str(home)}
    environment.pop("XDG_CONFIG_HOME", None)
    command = [sys.executable, "-m", "edgevla.cli.main", *map(str, words), "--json"]
    try:
        done = subprocess.run(
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"edgevla {words[0]} did not end within {limit_s:g} s") from None
    return Done(done.returncode, _last_object(done.stdout), done.stderr)


def build(arch: str, work: Path) -> Releases:
    """Raises Broken with what `bundle build` said."""
    work.mkdir(parents=True, exist_ok=True)
    key = work / "release.key"
    made = _must(edgevla("bundle", "keygen", key, home=work))
    built = {}
    for counter, name in enumerate(("first", "second", "wrong", "third"), start=1):
        policy = write_policy(work / f"{name}.bundle", name)
        if name == "wrong":
            answer_something_else(policy)
        built[name] = work / f"{name}.tar.zst"
        options = ["--target", TARGETS[arch], "--arm", ARM, "--counter", counter, "--key", key, "--no-opencv"]
        _must(edgevla("bundle", "build", policy, *options, "-o", built[name], home=work, limit_s=_BUILD_LIMIT_S))
    return Releases(NAMES[arch], key.with_suffix(".pub"), str(made.said["fingerprint"]), **built)


def answer_something_else(policy: Path) -> None:
    """Golden vectors that no machine answers: what a release looks like that computes wrong on the robot."""
    bundle = open_bundle(policy)
    (name, golden), *_ = bundle.golden.items()
    changed = dataclasses.replace(golden, chunk=golden.chunk + np.float32(0.5))
    _rewrite(policy, {name: changed.to_bytes()})


def _rewrite(policy: Path, files: Mapping[str, bytes]) -> None:
    """The bundle again with other bytes in those files, by the one writer there is."""
    from edgevla.bundle import write_bundle

    manifest = json.loads((policy / "manifest.json").read_bytes())
    kept = {name: (policy / name).read_bytes() for name in manifest.pop("files")}
    manifest.pop("schema")
    shutil.rmtree(policy)
    write_bundle(policy, manifest, {**kept, **files})


def _must(done: Done) -> Done:
    if done.code:
        raise Broken(f"edgevla ended with {done.code}: {done.err[-1500:]}")
    return done


def _last_object(out: str) -> dict[str, Any]:
    """The last JSON object: the whole of it, or the last line."""
    for text in (out, *reversed(out.splitlines())):
        try:
            said = json.loads(text)
        except ValueError:
            continue
        if isinstance(said, dict):
            return said
    return {}
