"""ACT of the library and ours: the same raw actions on the same raw observation."""

import pytest

from tests_lerobot.build import make_policy
from tests_lerobot.compare import compare

SMALL = {
    "dim_model": 64, "n_heads": 4, "dim_feedforward": 96, "chunk_size": 12, "n_action_steps": 12,
    "pretrained_backbone_weights": None,
}  # fmt: skip
TWO = {"top": (64, 96), "wrist": (64, 96)}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"cameras": TWO},
        {"cameras": TWO, "environment": 3},
        {"cameras": {}, "environment": 7},
        {"cameras": {"top": (75, 101)}},  # sizes that no stride divides
        {"pre_norm": True, "feedforward_activation": "gelu", "n_decoder_layers": 3},
        {"use_vae": False, "n_encoder_layers": 1},
        {"vision_backbone": "resnet34"},
        {"vision_backbone": "resnet50", "replace_final_stride_with_dilation": True},
        {"modes": {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}},
        {"modes": {"VISUAL": "MIN_MAX", "STATE": "QUANTILES", "ACTION": "QUANTILES"}},
        {"modes": {"STATE": "QUANTILE10", "ACTION": "QUANTILE10", "ENV": "MEAN_STD"}, "environment": 3},
        {"modes": {"STATE": "IDENTITY", "ACTION": "IDENTITY"}},
    ],
    ids=str,
)
def test_small_ones_answer_the_same(tmp_path, config):
    made = make_policy("act", tmp_path, **{**SMALL, **config})
    raw = made.observations()
    compare(tmp_path, raw, made.chunk(raw))


def test_the_default_size_answers_the_same(tmp_path):
    made = make_policy(
        "act", tmp_path, cameras={"top": (240, 320)}, state=14, actions=14, pretrained_backbone_weights=None
    )
    assert sum(p.numel() for p in made.policy.parameters()) > 50e6
    raw = made.observations()
    compare(tmp_path, raw, made.chunk(raw))
