"""What the stand-ins decide, without starting one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevla.bundle import open_bundle
from tests.stand_in import smoke
from tests.stand_in.binfmt import handles
from tests.stand_in.bundles import write_policy
from tests.stand_in.container import init_of, raises_limits
from tests.stand_in.deploys import deploys_of
from tests.stand_in.disk import Boot
from tests.stand_in.machine import qemu_command
from tests.stand_in.releases import ARM, TARGETS, answer_something_else, edgevla
from tests.stand_in.steps import REPO, Broken, NotHere, Steps

# As the kernel prints an entry of binfmt_misc.
ENTRY = """enabled
interpreter /usr/bin/qemu-aarch64-static
flags: {flags}
offset 0
magic {magic}
mask ffffffffffffff00fffffffffffffffffeffffff
"""
AARCH64, ARM_32 = "7f454c460201010000000000000000000200b700", "7f454c4601010100000000000000000002002800"


def test_only_an_entry_with_every_flag_handles_aarch64() -> None:
    assert handles(ENTRY.format(flags="OCF", magic=AARCH64))
    assert handles(ENTRY.format(flags="POCF", magic=AARCH64))
    assert not handles(ENTRY.format(flags="F", magic=AARCH64))  # setuid programs would not work
    assert not handles(ENTRY.format(flags="OCF", magic=ARM_32))
    assert not handles(ENTRY.format(flags="OCF", magic=AARCH64).replace("enabled", "disabled"))


def test_the_twin_reaches_nothing_and_is_reached_on_loopback_alone(tmp_path: Path) -> None:
    boot = Boot(tmp_path / "vmlinuz", tmp_path / "first.cpio", tmp_path / "root.ext4", tmp_path)
    words = qemu_command(boot, tmp_path / "disk", 2222, tmp_path / "monitor")
    network = words[words.index("-netdev") + 1]
    assert "restrict=on" in network
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in network


def test_a_broken_check_ends_the_proof_and_stands_in_its_result() -> None:
    steps = Steps("proof")
    with pytest.raises(Broken, match="expected 1, got 2"):
        steps.check("a figure", 1, 2, kept=False)
    assert steps.result("broken")["checks"] == [{"what": "a figure", "expected": "1", "got": "2", "kept": "NO"}]


def test_a_log_names_no_path_of_this_machine(tmp_path: Path) -> None:
    steps = Steps("proof")
    steps.say(f"made {REPO}/out/cache")
    steps.note(f"{REPO}/x")
    steps.write("kept", tmp_path / "proof.json")
    log = (tmp_path / "proof.log").read_text()
    assert str(REPO) not in log
    assert "made ./out/cache" in log


def test_smoke_passes_over_a_machine_that_cannot_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real script, with nothing installed and nobody who may install it."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    for name in ("sh", "dirname", "realpath", "basename"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["smoke"])
    assert smoke.main() == 0
    assert "SKIPPED: parity-arm64 failed: qemu-aarch64-static is missing" in capsys.readouterr().out


def test_smoke_tells_an_end_of_the_script_from_a_machine_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "SCRIPT", Path("/bin/false"))
    with pytest.raises(Broken, match="ended with 1"):
        smoke._arm64(Path("a"), Path("b"))
    monkeypatch.setattr(smoke, "_CANNOT", 1)
    with pytest.raises(NotHere):
        smoke._arm64(Path("a"), Path("b"))


def test_a_process_without_a_namespace_of_its_own_is_no_init() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        assert init_of(os.getpid()) is None
        child.kill()


def test_limits_are_raised_by_who_may_have_cap_sys_resource() -> None:
    assert raises_limits("CapBnd:\t000001ffffffffff\n")
    assert not raises_limits("CapEff:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\n")  # bit 24 is not there


def test_profiles_and_policy_of_the_stand_ins_keep_the_timing_contract(tmp_path: Path) -> None:
    """Or `edgevla deploy` would refuse them before anything is shown."""
    policy = write_policy(tmp_path / "tiny.bundle")
    for target in TARGETS.values():
        command = ["check", str(policy), "--target", str(target), "--arm", str(ARM), "--arithmetic-only"]
        done = edgevla(*command, home=tmp_path)
        assert done.code == 0, done.err


def test_a_release_with_wrong_answers_is_a_sound_bundle(tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "wrong.bundle", "wrong")
    before = open_bundle(policy).golden
    answer_something_else(policy)
    after = open_bundle(policy)
    assert after.manifest.name == "wrong"
    assert [abs(after.golden[name].chunk - golden.chunk).max() > 0.4 for name, golden in before.items()] == [True]


def test_seconds_of_a_deploy_are_those_of_its_own_log() -> None:
    def line(boot_s: float, **more: object) -> str:
        return json.dumps({"deploy": "a", "boot_s": boot_s, **more})

    begun = [line(10.0, do="install"), line(10.0, step=1, name="verify"), line(12.5, step=1, name="verify", done=True)]
    cut = [*begun, line(12.5, step=2, name="torque")]
    ended = [*begun, line(12.5, step=2, name="torque"), line(13.0, step=2, name="torque", failed=True)]
    assert deploys_of(cut) == [{"do": "install", "seconds": {"verify": 2.5}, "ended": "cut off in torque"}]
    whole = deploys_of([*ended, line(13.0, outcome={"good": False})])
    assert whole == [{"do": "install", "seconds": {"verify": 2.5, "torque": 0.5}, "ended": "not good"}]


def test_a_log_grows_line_by_line(tmp_path: Path) -> None:
    steps = Steps("proof", grows=tmp_path / "proof.log")
    steps.say("one")
    steps.note("two\nthree")
    assert (tmp_path / "proof.log").read_text().splitlines() == steps.log
    assert len(steps.log) == 3
