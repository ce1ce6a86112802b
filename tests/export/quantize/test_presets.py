"""Targets start from optimum's presets."""

import pytest

from edgevla.errors import Usage
from export.quantize.presets import TARGETS, for_host, preset


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_signed_weights_per_channel(target):
    found = preset(target)
    assert found.weights == "QInt8"
    assert found.per_channel
    assert found.static == (found.kind != "dynamic-s8")


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "tensorrt"])
def test_no_cpu_target_gets_signed_activations(target):
    assert preset(target).activations == "QUInt8"
    assert preset(target).kind in ("dynamic-s8", "static-qdq")


def test_tensorrt_gets_signed_activations():
    assert (preset("tensorrt").kind, preset("tensorrt").activations) == ("trt", "QInt8")
    assert "Conv" in preset("tensorrt").operators


def test_what_is_overruled_is_said():
    assert any("U8" in reason for reason in preset("x86-avx2").overruled)
    assert all("operators" in preset(target).overruled[0] for target in TARGETS)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ({"arch": "aarch64", "flags": [], "vnni": False}, "arm64"),
        ({"arch": "x86_64", "flags": ["avx512f"], "vnni": True}, "x86-vnni"),
        ({"arch": "x86_64", "flags": ["avx512f"], "vnni": False}, "x86-avx512"),
        ({"arch": "x86_64", "flags": ["avx2"], "vnni": False}, "x86-avx2"),
    ],
)
def test_a_host_gets_the_preset_of_its_instructions(host, target):
    assert for_host(host).target == target


def test_an_unknown_target_is_refused():
    with pytest.raises(Usage, match="x86-vnni"):
        preset("toaster")
