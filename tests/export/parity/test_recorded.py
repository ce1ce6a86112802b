"""Frames of a recorded dataset as a bundle is fed: by hand, as the engine sees them, and refused where they cannot."""

import numpy as np
import pytest

from edgevla.bundle import open_bundle, write_bundle
from edgevla.bundle.parts import tokens_bytes
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import fitted
from export.data.interface import Camera, held_out
from export.data.load import open_dataset
from export.data.writer import Episode, Layout, LeRobotWriter
from export.parity.recorded import bundle_feeds, golden_feeds, split_ticks
from tests.export.data.counted import layout as counted_layout
from tests.export.data.counted import write as write_counted
from tests.rich_bundle import KNOWN, NOISE, STATS, rich_files, rich_manifest, write_rich_bundle
from tests.tiny_bundle import write_tiny_bundle

EPISODES, TICKS = 12, 5
SENTENCES = ("open", "pick the cube")
STATE = np.random.default_rng(1).normal(size=(EPISODES * TICKS, 2)).astype(np.float32)
FRONT = np.random.default_rng(2).integers(0, 256, (EPISODES * TICKS, 16, 16, 3), dtype=np.uint8)
HAND = np.random.default_rng(3).integers(0, 256, (EPISODES * TICKS, 16, 32, 3), dtype=np.uint8)


def record(folder, episodes=EPISODES, cameras=("front", "hand")):
    """Two joints and two cameras, the pictures without loss; sentences take turns."""
    sizes = {"front": (16, 16), "hand": (16, 32)}
    layout = Layout(fps=30, state_names=("shoulder.pos", "elbow.pos"), action_names=("shoulder.pos", "elbow.pos"),
                    cameras=tuple(Camera(name, *sizes[name]) for name in cameras), video=False)  # fmt: skip
    pictures = {"front": FRONT, "hand": HAND}
    with LeRobotWriter(folder, layout) as writer:
        for number in range(episodes):
            rows = slice(number * TICKS, (number + 1) * TICKS)
            images = {name: pictures[name][rows] for name in cameras}
            writer.add(Episode(STATE[rows], STATE[rows] + 1, images, SENTENCES[number % 2]))
    return open_dataset(folder, folder, progress=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "made")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Its camera `wrist` is the dataset's `hand`."""
    path = tmp_path_factory.mktemp("rich") / "rich.bundle"
    return write_rich_bundle(path, float_off=0.0, recipe={"camera_sources": {"wrist": "hand"}})


def scaled(image):
    return image.astype(np.float32) / np.float32(127.5) - 1


def test_feeds_are_the_declared_inputs(bundle, data):
    (feeds,) = bundle_feeds(bundle, data, [7])
    declared = {t.name: (t.shape, t.dtype) for stage in bundle.manifest.stages for t in stage.inputs}
    for name in ("image", "camera_mask", "state", "tokens", "token_mask"):
        assert (feeds[name].shape, str(feeds[name].dtype)) == declared[name]
    assert (feeds["noise"] == NOISE[None]).all()
    assert (feeds["prefix"].shape, feeds["prefix_mask"].shape) == ((1, 8, 2), (1, 8, 1))
    assert not feeds["prefix_mask"].any()  # it knows no prefix


def test_pictures_state_and_words_are_those_of_the_tick_and_the_one_before(bundle, data):
    (feeds,) = bundle_feeds(bundle, data, [7])  # of the second episode
    for place, tick in enumerate((6, 7)):
        assert np.allclose(feeds["image"][0, 2 * place], scaled(FRONT[tick]))
        assert np.allclose(feeds["image"][0, 2 * place + 1], fitted(scaled(HAND[tick]), 16, 16, "pad"))
    assert (feeds["camera_mask"] == 1).all()
    assert np.allclose(feeds["state"][0], ((STATE[6:8] - STATS.state_offset) / STATS.state_scale).ravel())
    assert feeds["tokens"][0, :3].tolist() == KNOWN["pick the cube"]


def test_the_first_tick_of_an_episode_stands_for_what_came_before(bundle, data):
    (feeds,) = bundle_feeds(bundle, data, [5])
    assert (feeds["image"][0, :2] == feeds["image"][0, 2:]).all()
    assert (feeds["state"][0, :2] == feeds["state"][0, 2:]).all()


def test_an_episode_s_ticks_are_fed_as_the_engine_sees_them_one_after_the_other(bundle, data):
    engine = PolicyEngine(bundle)
    engine.set_instruction(data.instruction(5))
    for tick, feeds in zip((5, 6, 7), bundle_feeds(bundle, data, [5, 6, 7]), strict=True):
        seen = engine.trace({"front": FRONT[tick], "wrist": HAND[tick]}, STATE[tick], np.zeros((0, 2), np.float32))
        for name, value in feeds.items():
            assert (seen[name] == value).all(), name


def test_a_camera_that_may_be_absent_is_masked(tmp_path, data):
    bundle = write_rich_bundle(tmp_path / "x.bundle", recipe={"camera_sources": {"wrist": "none"}})
    for source in (data, record(tmp_path / "made", 1, ("front",))):
        (feeds,) = bundle_feeds(bundle, source, [0])
        assert feeds["camera_mask"].tolist() == [[1, 0, 1, 0]]
        assert (feeds["image"][0, 1] == -1).all()


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ({"front": "top"}, "a camera top, the bundle's front"),
        ({"front": "none"}, "a camera none, the bundle's front"),
        ({"wrist": "top"}, "a camera top, the bundle's wrist"),
        ({"front": "hand"}, "camera hand of the dataset"),
    ],
)
def test_a_camera_that_is_not_there_or_of_another_size_is_refused(tmp_path, data, sources, told):
    bundle = write_rich_bundle(tmp_path / "x.bundle", recipe={"camera_sources": sources})
    with pytest.raises(BadInput, match=told):
        bundle_feeds(bundle, data, [0])


def test_a_dataset_of_another_robot_is_refused(bundle, tmp_path):
    other = open_dataset(write_counted(tmp_path / "other", video=False), tmp_path, progress=False)
    with pytest.raises(BadInput, match=r"state of the dataset(?s:.*)2 numbers: shoulder\.pos, elbow\.pos"):
        bundle_feeds(bundle, other, [0])


def test_an_instruction_that_the_bundle_does_not_know_is_refused(bundle, tmp_path):
    with LeRobotWriter(tmp_path / "made", Layout(fps=30, state_names=("a", "b"), action_names=("a", "b"),
                       cameras=(Camera("front", 16, 16),), video=False)) as writer:  # fmt: skip
        writer.add(Episode(STATE[:2], STATE[:2], {"front": FRONT[:2]}, "jump"))
    absent = write_rich_bundle(tmp_path / "x.bundle")
    with pytest.raises(BadInput, match="instruction outside the bundle"):
        bundle_feeds(absent, open_dataset(tmp_path / "made", tmp_path, progress=False), [0])


def test_a_tick_that_is_not_there_is_refused(bundle, data):
    with pytest.raises(BadInput, match="0 to 59"):
        bundle_feeds(bundle, data, [-1])


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A robot of the tiny bundle: four numbers each, one camera; action and state say the tick."""
    folder = tmp_path_factory.mktemp("moving") / "made"
    names = ("x", "y", "z", "gripper")
    rows = np.arange(20, dtype=np.float32)[:, None].repeat(4, 1)
    layout = counted_layout(state_names=names, action_names=names, cameras=(Camera("corner", 96, 96),),
                            executed=True, video=False)  # fmt: skip
    with LeRobotWriter(folder, layout) as writer:
        writer.add(Episode(rows, rows, {"corner": np.zeros((20, 96, 96, 3), np.uint8)}, "open the drawer", -rows))
    return open_dataset(folder, folder, progress=False)


def test_the_prefix_is_what_was_executed_from_the_tick_on_normalised(tmp_path, moving):
    bundle, depths = write_tiny_bundle(tmp_path / "tiny.bundle"), set()
    for feeds in bundle_feeds(bundle, moving, [4] * 60, seed=2):
        depth = int(feeds["prefix_mask"].sum())
        depths.add(depth)
        expected = -np.arange(4, 4 + depth)[:, None] / np.array([[0.01, 0.01, 0.01, 1.0]])
        assert np.allclose(feeds["prefix"][0, :depth], expected)
        assert not feeds["prefix"][0, depth:].any()
        assert (feeds["prefix_mask"][0, :depth] == 1).all()
    assert depths == set(range(9))  # 0 to d_max


def test_no_prefix_goes_past_the_end_of_its_episode(tmp_path, moving):
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle")
    assert {int(feeds["prefix_mask"].sum()) for feeds in bundle_feeds(bundle, moving, [18] * 40)} == {0, 1, 2}


def test_the_same_seed_gives_the_same_prefixes(tmp_path, moving):
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle")

    def masks(seed):
        return [feeds["prefix_mask"].sum() for feeds in bundle_feeds(bundle, moving, range(10), seed)]

    assert masks(1) == masks(1) != masks(2)


def test_a_policy_that_hears_nothing_is_fed_no_tokens(tmp_path, data):
    manifest = {**rich_manifest(), "text": {"kind": "tokens", "max_tokens": 0}}
    prefix = manifest["stages"][0]
    prefix["inputs"] = [tensor for tensor in prefix["inputs"] if "token" not in tensor["name"]]
    deaf = write_bundle(
        tmp_path / "deaf.bundle", manifest, {**rich_files(), "text/tokens.json": tokens_bytes({"": []})}
    )
    (feeds,) = bundle_feeds(deaf, data, [0])  # "open" is no instruction of this bundle, and nothing asks
    assert not {"tokens", "token_mask"} & set(feeds)


def test_ticks_to_judge_are_of_held_out_episodes_and_ticks_to_calibrate_of_the_others(data):
    split, held = split_ticks(data, 8, 20, seed=1), held_out(data.start)
    assert (len(split.judged), len(split.calibration)) == (8, 20)
    assert held[split.judged].all()
    assert not held[split.calibration].any()
    assert (np.diff(split.judged) > 0).all()
    assert "every 10th episode" in split.note
    assert split_ticks(data, 8, 20, seed=1).judged.tolist() == split.judged.tolist()
    assert split_ticks(data, 8, 20, seed=2).calibration.tolist() != split.calibration.tolist()


def test_few_episodes_are_split_by_ticks_and_that_is_said(tmp_path):
    split = split_ticks(record(tmp_path / "made", episodes=4), 12, 8)
    assert sorted({*split.judged.tolist(), *split.calibration.tolist()}) == list(range(20))
    assert "fewer than 10 episodes" in split.note


@pytest.mark.parametrize(("judged", "calibration"), [(11, 1), (1, 51)])
def test_too_few_ticks_are_refused(data, judged, calibration):
    with pytest.raises(BadInput, match="10 ticks to judge on, 50 to calibrate on"):
        split_ticks(data, judged, calibration)


def test_too_few_ticks_of_few_episodes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="fewer than 10 episodes"):
        split_ticks(record(tmp_path / "made", episodes=1), 4, 8)


def test_golden_feeds_hold_every_input_of_every_stage(bundle, tiny_bundle_path):
    for made in (bundle, open_bundle(tiny_bundle_path)):
        feeds = golden_feeds(made, float_model=True)
        declared = {t.name: t for stage in made.manifest.stages for t in stage.inputs}
        assert {name: feeds[name].shape for name in declared} == {name: t.shape for name, t in declared.items()}
        assert {name: str(feeds[name].dtype) for name in declared} == {n: t.dtype for n, t in declared.items()}
