"""The role of examples/fleet against five robots behind a real sshd: real signed releases, real `edgevla deploy`.

    python -m tests.fleet [--out bench/results/fleet.json]

Installs ansible-core beside this Python where it is missing. Exit code 0 when everything holds, and when this machine
cannot run it, with the reason; 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.telemetry.host import describe_host, host_line
from tests.fleet.playbook import Rolled, provide, roll, version
from tests.fleet.workshop import NAMES, Files, Workshop, workshop
from tests.loopback_sshd import SSHD, WHY_NOT

BATCHES = (1, 2, 2)
THIRD, LATER = NAMES[2], NAMES[3:]


class Proof:
    """Roll-outs, one after the other, and what was found wrong with them."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.rows: list[dict[str, Any]] = []
        self.broken: list[str] = []

    def roll(self, what: str, bundle: Path, *options: str, **values: object) -> Rolled:
        """One roll-out of `bundle`, which is named as it is seen from the working folder."""
        values = {"edgevla_bundle": bundle.name, "edgevla_batches": BATCHES, **values}
        done = roll(self.shop.folder, self.shop.inventory, *options, **values)
        outcomes = {name: done.outcomes.get(name, "untouched") for name in NAMES}
        row = {"what": what, "exit_code": done.exit_code, "batches": done.batches, "seconds": done.seconds}
        self.rows.append({**row, "outcomes": outcomes})
        print(f"{what}: exit code {done.exit_code}, {done.batches} batches, {done.seconds} s, {outcomes}")
        return done

    def check(self, claim: str, expected: object, got: object, output: str = "") -> None:
        """Note it, print it, go on."""
        kept = expected == got
        print(f"  {'kept  ' if kept else 'BROKEN'} {claim}{'' if kept else f': expected {expected}, got {got}'}")
        if not kept:
            self.broken.append(claim)
            print(output)

    def says(self, claim: str, words: Sequence[str], done: Rolled) -> None:
        """Each of `words` stands in the output."""
        lacking = [word for word in words if word not in " ".join(done.output.split())]
        self.check(claim, [], lacking, done.output)

    def files(self) -> dict[str, Files]:
        return {name: self.shop.files(name) for name in NAMES}

    def running(self) -> dict[str, str | None]:
        return {name: self.shop.runs(name) for name in NAMES}


def prove(proof: Proof) -> None:
    """In this order: each begins where the one before ended."""
    bundle, first = proof.shop.bundle(1)
    _new_robots(proof, bundle, first)
    _again(proof, bundle)
    second = proof.shop.bundle(2)
    _check_mode(proof, second[0])
    ahead = _one_is_ahead(proof, second, first)
    _one_fails(proof, ahead, first)
    bundle, last = proof.shop.bundle(5)
    done = proof.roll("a corrected release", bundle)
    proof.check("exit code 0", 0, done.exit_code, done.output)
    proof.check("every robot runs it", dict.fromkeys(NAMES, last), proof.running())
    proof.check("no deploy.toml was written", False, (proof.shop.folder / "config").exists())


def _new_robots(proof: Proof, bundle: Path, release: str) -> None:
    shop = proof.shop
    new = {"edgevla_key": str(shop.public), "edgevla_robot": shop.settings.name, "edgevla_at_rest": True}
    done = proof.roll("no pin, new robots", bundle, **new)
    proof.check("the first ends it", {NAMES[0]: "failed"}, done.outcomes, done.output)
    proof.says("and the output says why", [f"{NAMES[0]}: the key is not pinned"], done)
    proof.check("nothing was written to any", {name: {} for name in NAMES}, proof.files())
    done = proof.roll("first provisioning", bundle, edgevla_pin=shop.fingerprint, **new)
    proof.check("exit code 0", 0, done.exit_code, done.output)
    proof.check("in batches", len(BATCHES), done.batches)
    proof.check("every robot changed", dict.fromkeys(NAMES, "changed"), done.outcomes)
    proof.check("every robot runs it", dict.fromkeys(NAMES, release), proof.running())


def _again(proof: Proof, bundle: Path) -> None:
    before = proof.files()
    done = proof.roll("the same release again", bundle)
    proof.check("exit code 0", 0, done.exit_code, done.output)
    proof.check("no robot changed", dict.fromkeys(NAMES, "unchanged"), done.outcomes)
    proof.check("not a file of theirs", [], _touched(before, proof.files()))


def _check_mode(proof: Proof, bundle: Path) -> None:
    before = proof.files()
    done = proof.roll("a new release with --check", bundle, "--check")
    proof.check("exit code 0", 0, done.exit_code, done.output)
    proof.check("every robot would change", dict.fromkeys(NAMES, "changed"), done.outcomes)
    proof.check("not a file of theirs did", [], _touched(before, proof.files()))


def _one_is_ahead(proof: Proof, release: tuple[Path, str], old: str) -> str:
    """The third robot has a release with a higher counter: it refuses this one. Returns the id of what it has."""
    ahead, of_third = proof.shop.bundle(3)
    done = proof.roll("a release of its own for the third", ahead, "--limit", THIRD)
    proof.check("exit code 0", 0, done.exit_code, done.output)
    before = proof.files()
    why = ["release counter", "expected: above 3"]
    done = proof.roll("an older release with --check", release[0], "--check")
    proof.says("the preflight finds the third out", [f"{THIRD}: preflight of {THIRD}", *why], done)
    proof.check("not a file of theirs changed", [], _touched(before, proof.files()))
    done = proof.roll("a release that the third refuses", release[0])
    _stopped(proof, done, why, {NAMES[0]: release[1], NAMES[1]: release[1], THIRD: of_third}, old)
    proof.check("the third and later robots are untouched", [], _touched(before, proof.files(), (THIRD, *LATER)))
    return of_third


def _one_fails(proof: Proof, before_it: str, old: str) -> None:
    """The health window of the third fails after the switch; it returns to what it ran."""
    bundle, release = proof.shop.bundle(4, {"late": 9, "only": f"/{THIRD}/"})
    before = proof.files()
    done = proof.roll("a release that fails on the third", bundle)
    why = ["woke more than half a period late", f"release {before_it} runs again"]
    _stopped(proof, done, why, {NAMES[0]: release, NAMES[1]: release, THIRD: before_it}, old)
    proof.check("later robots are untouched", [], _touched(before, proof.files(), LATER))


def _stopped(proof: Proof, done: Rolled, why: Sequence[str], running: Mapping[str, str], old: str) -> None:
    proof.check("the exit code is not 0", True, done.exit_code != 0, done.output)
    proof.check("the third failed", "failed", done.outcomes.get(THIRD), done.output)
    proof.check("Ansible came to no later batch", (2, []), (done.batches, [n for n in LATER if n in done.outcomes]))
    proof.says("the output names the robot and says why", [f"{THIRD}: ", *why], done)
    proof.check("each runs a good release", {**running, **dict.fromkeys(LATER, old)}, proof.running())


def _touched(before: Mapping[str, Files], after: Mapping[str, Files], names: Sequence[str] = NAMES) -> list[str]:
    """Files of those robots that are new, gone or changed."""
    pairs = [(before[name], after[name]) for name in names]
    return sorted({path for old, new in pairs for path in old.keys() | new.keys() if old.get(path) != new.get(path)})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if lacking := ("" if SSHD else WHY_NOT) or provide():
        print(f"SKIPPED: {lacking}")
        return 0
    host = describe_host()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # an install syncs its whole file system
    with tempfile.TemporaryDirectory(prefix="edgevla-fleet-", dir=place) as folder, workshop(Path(folder)) as shop:
        proof = Proof(shop)
        prove(proof)
    print(f"ansible-core {version()}, {host_line(host)}")
    print(f"BROKEN: {', '.join(proof.broken)}" if proof.broken else f"{len(proof.rows)} roll-outs, everything kept")
    if asked.out is not None:
        head = {"host": host, "ansible_core": version(), "robots": len(NAMES), "batches": BATCHES}
        write_json(asked.out, {**head, "kept": not proof.broken, "broken": proof.broken, "rollouts": proof.rows})
    return int(bool(proof.broken))


if __name__ == "__main__":
    sys.exit(main())
