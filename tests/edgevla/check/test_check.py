"""`edgevla check`: what cannot hold is refused in numbers, what cannot be measured is said to be so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.bundle import open_bundle
from edgevla.check.compatible import compatibility
from edgevla.check.measure import PACED, _both, _virtual_arm, measure
from edgevla.cli.main import run_command
from edgevla.errors import BadInput, DeviceFault
from profiles import load_arm, load_target
from profiles.loader import _HERE
from tests.tiny_bundle import HIGH, LOW, tiny_manifest, write_tiny_bundle


def target_with(tmp_path: Path, **changes: object) -> str:
    """The host profile with other values; its path."""
    lines = []
    for line in (_HERE / "targets" / "host.toml").read_text().splitlines():
        key = line.split(" = ")[0]
        lines.append(f"{key} = {changes[key]}" if key in changes else line)
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    return str(path)


def test_the_reference_configuration_is_proved(tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", str(tiny_bundle_path), "--arithmetic-only", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kept"]
    assert {claim["kind"] for claim in result["claims"]} == {"proved"}
    assert "2 + 3 * 8 = 26 <= 32" in " ".join(claim["text"] for claim in result["claims"])


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"survive_misses": 3}, "2 + 4 * 8 = 34 <= 32"),
        ({"latency_budget_s": 0.1125}, "d <= r: 9 <= 8"),
        ({"latency_budget_s": 0.125, "replan_ticks": 10, "survive_misses": 1}, "d <= d_max: 10 <= 8"),
    ],
)
def test_what_cannot_hold_is_refused_with_the_inequality_in_numbers(
    tiny_bundle_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    numbers: str,
) -> None:
    target = target_with(tmp_path, **changes)
    assert run_command(["check", str(tiny_bundle_path), "--target", target]) == 1, "and nothing was measured"
    assert numbers in capsys.readouterr().err


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("action channels", {"channels": "renamed"}),
        ("limits", {"channels": "wider"}),
        ("state", {"state": [{"name": "hand_x", "unit": "mm"}, *tiny_manifest()["state"][1:]]}),
        ("start range", {"start_low": [0.4, 0.4, 0.05, -1.0], "start_high": HIGH}),
    ],
)
def test_a_bundle_for_another_arm_is_refused_by_what_differs(
    tmp_path: Path, claim: str, changes: dict[str, Any]
) -> None:
    channels = tiny_manifest()["channels"]
    if changes.get("channels") == "renamed":
        channels[0]["name"] = "a"
    if changes.get("channels") == "wider":
        channels[0]["maximum"] = 0.6
    bundle = write_tiny_bundle(tmp_path / "other.bundle", **{**changes, "channels": channels})
    arm = tmp_path / "arm.toml"
    text = (_HERE / "arms" / "metaworld-sawyer.toml").read_text()
    arm.write_text(text.replace("start_high = [0.5,", "start_high = [0.3,"))
    claims = {c.name: c.kept for c in compatibility(bundle.manifest, load_target("host"), load_arm(arm))}
    assert claims.pop(claim) is False
    assert False not in claims.values()


@pytest.mark.parametrize("arm", ["so101", "openarm"])
def test_a_bundle_for_another_arm_names_the_first_differences_and_which_arm_it_was_made_for(
    tiny_bundle_path: Path, arm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(tiny_bundle_path), "--arm", arm, "--accept-no-watchdog", "--arithmetic-only", "--json"]
    assert run_command(words) == 1
    said = capsys.readouterr().err
    channels = load_arm(arm).channels
    three = zip(("x [m]", "y [m]", "z [m]"), channels[:3], strict=True)
    first = "; ".join(f"{name} is {c.name} [{c.unit}]" for name, c in three)
    assert f"4 and {len(channels)} action channels: {first}; and {len(channels) - 3} more" in said
    assert f"take a bundle made for {arm}, or --arm metaworld-sawyer, which this one was made for" in said
    assert "horizon" not in said.partition("to do:")[2]
    assert len(said) < 1_000


def test_what_a_longer_horizon_would_mend_is_told_so_and_a_camera_rate_is_not(
    tiny_bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(tiny_bundle_path), "--arithmetic-only", "--json"]
    assert run_command([*words, "--target", target_with(tmp_path, survive_misses=3)]) == 1
    assert "or export the policy with a longer horizon" in capsys.readouterr().err
    arm = tmp_path / "arm.toml"
    text = (_HERE / "arms" / "metaworld-sawyer.toml").read_text()
    arm.write_text(text.replace("rate_hz = ", "rate_hz = 0.5  # "))
    assert run_command([*words, "--arm", str(arm)]) == 1
    assert capsys.readouterr().err.endswith("to do:    choose another target or arm profile\n")


def test_too_few_samples_are_unsound_before_anything_is_measured(
    tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["check", str(tiny_bundle_path), "--samples", "4602"]) == 3
    assert run_command(["check", str(tiny_bundle_path), "--samples", "-5"]) == 2
    assert "4,603" in capsys.readouterr().err


def test_another_machines_latency_is_never_measured_here(
    tiny_bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = target_with(tmp_path, arch='"riscv128"')
    assert run_command(["check", str(tiny_bundle_path), "--target", target]) == 3
    assert "riscv128" in capsys.readouterr().err


def test_both_probes_measure_on_real_processes_and_a_real_pty(tiny_bundle_path: Path) -> None:
    bundle = open_bundle(tiny_bundle_path)
    measured = measure(bundle, load_target("host"), load_arm("metaworld-sawyer"), "metaworld-sawyer", 200)
    assert measured.inference_s.shape == (200,)
    assert measured.host_s.shape == (200,)
    assert measured.paced_s.shape == (PACED,)
    assert all((x > 0).all() for x in (measured.inference_s, measured.host_s, measured.paced_s))


def test_a_probe_that_finds_no_port_reports_one_device_fault(tmp_path: Path) -> None:
    command = ["edgevla.check.servo_probe", "--port", str(tmp_path / "none"), "--arm", "metaworld-sawyer"]
    rest = ["--out", str(tmp_path / "x.npy"), "--samples", "10", "--period-us", "2000", "--priority", "80"]
    with pytest.raises(DeviceFault, match="none"):
        _both([[*command, *rest]], timeout_s=60)
    assert not (tmp_path / "x.npy").exists()


def test_a_probe_that_is_given_an_altered_bundle_reports_bad_input(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "noise.npy").write_bytes(b"x")
    command = [
        "edgevla.check.inference_probe",
        "--bundle",
        str(bundle_copy),
        "--out",
        str(tmp_path / "x.npy"),
    ]
    with pytest.raises(BadInput, match=r"noise\.npy"):
        _both([[*command, "--samples", "10", "--delay", "2"]], timeout_s=60)


def test_the_virtual_arm_is_gone_after_the_measurement() -> None:
    with _virtual_arm(load_arm("metaworld-sawyer")) as ports:
        _, _, port = ports.partition("=")
        assert Path(port).exists()
    assert not Path(port).exists()


def test_the_constants_of_the_tiny_bundle_are_those_of_the_sawyer() -> None:
    arm = load_arm("metaworld-sawyer")
    assert np.allclose(LOW, [channel.minimum for channel in arm.channels])
    assert np.allclose(HIGH, [channel.maximum for channel in arm.channels])
