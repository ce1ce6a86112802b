"""The engine on a bundle of several cameras, tokens, past observations and a flow: fed by name, refused where unfit."""

import copy

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from edgevla.bundle import open_bundle, write_bundle
from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import fitted
from tests.rich_bundle import KNOWN, STATS, answer, rich_files, rich_manifest, write_rich_bundle

RNG = np.random.default_rng(8)
FRONT = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
WRIST = RNG.integers(0, 256, (16, 32, 3), dtype=np.uint8)
STATE = np.array([0.5, 0.25], np.float32)
NO_PREFIX = np.zeros((0, 2), np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_rich_bundle(tmp_path_factory.mktemp("rich") / "rich.bundle").path


@pytest.fixture
def engine(path):
    engine = PolicyEngine(open_bundle(path))
    engine.set_instruction("pick the cube")
    return engine


def scaled(image):
    return image.astype(np.float32) / np.float32(127.5) - 1


def normal(state):
    return list((state - STATS.state_offset) / STATS.state_scale)


def test_a_bundle_with_everything_verifies_itself(path):
    bundle = open_bundle(path)
    assert all(verdict.kept for verdict in [*verify_graphs(bundle), *verify_golden(bundle)])


def test_pictures_states_and_words_arrive_where_the_graphs_take_them(engine):
    frames = np.stack([scaled(FRONT), fitted(scaled(WRIST), 16, 16, "pad")] * 2)
    _, chunk = answer(frames, [1, 1, 1, 1], normal(STATE) * 2, KNOWN["pick the cube"])
    got = engine.infer({"front": FRONT, "wrist": WRIST}, STATE, NO_PREFIX)
    np.testing.assert_allclose(got, chunk[:, :2], rtol=1e-5, atol=1e-5)


def test_the_observation_before_stands_in_front_of_the_newest(engine):
    engine.infer({"front": FRONT}, STATE, NO_PREFIX)
    other, later = np.zeros_like(FRONT), np.array([1.0, 2.0], np.float32)
    blank = np.full((16, 16, 3), -1, np.float32)
    frames = np.stack([scaled(FRONT), blank, scaled(other), blank])
    _, chunk = answer(frames, [1, 0, 1, 0], normal(STATE) + normal(later), KNOWN["pick the cube"])
    np.testing.assert_allclose(engine.infer({"front": other}, later, NO_PREFIX), chunk[:, :2], rtol=1e-5, atol=1e-5)


def test_a_new_instruction_forgets_what_was_seen(engine):
    first = engine.infer({"front": FRONT}, STATE, NO_PREFIX)
    engine.infer({"front": np.zeros_like(FRONT)}, STATE + 1, NO_PREFIX)
    engine.set_instruction("pick the cube")
    assert (engine.infer({"front": FRONT}, STATE, NO_PREFIX) == first).all()


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ({"wrist": WRIST}, "got:      wrist"),
        ({"front": FRONT, "top": FRONT}, "got:      front, top"),
        ({"front": WRIST}, r"image of camera front"),
    ],
)
def test_a_camera_that_is_missing_unknown_or_of_another_size_is_refused(engine, images, told):
    with pytest.raises(BadInput, match=told):
        engine.infer(images, STATE, NO_PREFIX)


def test_absolute_channels_are_scaled_and_shifted_to_their_unit(engine):
    setpoints = engine.to_setpoints(np.full((8, 2), 0.5, np.float32), np.zeros(2, np.float32), 0)
    np.testing.assert_allclose(setpoints, np.tile([0.5, 0.5], (8, 1)))  # 0.5 * 0.5 + 0.25, 0.5 * 2 - 0.5


def test_a_prefix_is_refused_by_a_policy_that_knows_none(engine):
    with pytest.raises(BadInput, match="at most 0 finite rows"):
        engine.infer({"front": FRONT}, STATE, np.zeros((1, 2), np.float32))


def test_an_instruction_without_tokens_is_refused_and_names_a_near_one(engine):
    with pytest.raises(BadInput, match="'pick the cube'"):
        engine.set_instruction("pick the cubes")


def tokenizer():
    words = {"[UNK]": 0, "pick": 5, "the": 6, "ball": 8, "\n": 3}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return made.to_str().encode()


def test_a_tokenizer_in_the_bundle_hears_other_words_but_known_ones_stay_as_trained(tmp_path):
    bundle = write_rich_bundle(tmp_path / "words.bundle", tokenizer())
    engine = PolicyEngine(bundle)
    engine.set_instruction("pick the ball")
    tokens = engine.trace({"front": FRONT}, STATE, NO_PREFIX)["tokens"]
    assert tokens.tolist()[0][:2] == [5, 6]
    engine.set_instruction("open")
    trace = engine.trace({"front": FRONT}, STATE, NO_PREFIX)
    assert trace["tokens"].tolist() == [[9, 1, 1, 1, 1, 1]]
    assert trace["token_mask"].tolist() == [[1, 0, 0, 0, 0, 0]]
    with pytest.raises(BadInput, match="text of 1 to 6 tokens"):
        engine.set_instruction("pick the ball " * 4)


def test_a_tokenizer_that_is_none_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"text/tokenizer\.json"):
        PolicyEngine(write_rich_bundle(tmp_path / "bad.bundle", b"{}"))


def test_fp32_graphs_that_are_not_there_are_refused(path):
    with pytest.raises(BadInput, match="FP32 graphs"):
        PolicyEngine(open_bundle(path), float_model=True)


def test_a_picture_keeps_its_aspect_and_is_padded_at_the_top_and_left():
    image = np.zeros((4, 8, 3), np.float32)
    image[:, 4:] = 1.0
    out = fitted(image, 8, 8, "pad")
    assert (out[:4] == -1).all()
    assert (out[4:, :4] == 0).all()
    assert (out[4:, 4:] == 1).all()
    tall = fitted(np.zeros((8, 4, 3), np.float32), 8, 8, "pad")
    assert (tall[:, :4] == -1).all()
    assert (tall[:, 4:] == 0).all()


def test_resizing_is_bilinear_between_pixel_centres():
    ramp = np.arange(4, dtype=np.float32)[None, :, None].repeat(3, 2).repeat(2, 0)
    assert fitted(ramp, 2, 2, "stretch")[0, :, 0].tolist() == [0.5, 2.5]
    assert fitted(ramp, 2, 8, "stretch")[0, :, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


def rewired(change):
    manifest = copy.deepcopy(rich_manifest())
    change(manifest, *manifest["stages"])
    return manifest


FAULTS = {
    "inputs among": lambda m, prefix, step: prefix["inputs"][0].update(name="picture"),
    "prefix inputs state": lambda m, prefix, step: prefix["inputs"][2].update(shape=[1, 2]),
    "step inputs seen": lambda m, prefix, step: step["inputs"][0].update(shape=[1, 2, 5]),
    "an output of a new name": lambda m, prefix, step: prefix["outputs"][0].update(name="state"),
    "step outputs chunk": lambda m, prefix, step: step["outputs"][0].update(shape=[1, 8, 2]),
    "times on the last stage only": lambda m, prefix, step: prefix.update(times=[0.0]),
    "exactly where d_max is above 0": lambda m, prefix, step: m["timing"].update(d_max=2),
    "cameras of one input size": lambda m, prefix, step: m["cameras"][1].update(input_width=8),
    "noisy": lambda m, prefix, step: step.update(times=[]),
}


@pytest.mark.parametrize("told", FAULTS)
def test_stages_that_do_not_fit_each_other_are_refused(tmp_path, told):
    with pytest.raises(BadInput) as caught:
        write_bundle(tmp_path / "x.bundle", rewired(FAULTS[told]), rich_files())
    assert told in str(caught.value)


@pytest.mark.parametrize("known", [{}, {"open": []}, {"open": [1] * 7}, {"open": [-1]}, {"open": ["a"]}])
def test_tokens_that_cannot_be_used_are_refused(tmp_path, known):
    from edgevla.bundle.parts import json_bytes

    raw = json_bytes({"known": known, "pad": 0, "suffix": ""})
    with pytest.raises(BadInput, match=r"text/tokens\.json"):
        write_bundle(tmp_path / "x.bundle", rich_manifest(), {**rich_files(), "text/tokens.json": raw})
