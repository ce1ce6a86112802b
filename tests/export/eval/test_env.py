"""A bundle in a simulator: the playing with a policy that knows, the command with a real bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgevla.bundle.reader import open_bundle
from edgevla.cli.main import run_command
from edgevla.errors import BadInput
from export.eval.benchmarks.chains import Chain
from export.eval.benchmarks.play import Actor, Episode, play_chain, play_task
from export.eval.benchmarks.simpler import HELD_STEPS, Bridge, Google, Simpler, _axis_angle
from tests.export.eval.worlds import PLACES, Chains, Reach

WORLDS = Path(__file__).with_name("worlds.py")


def manifest(memory_ticks: int = 0, observations: int = 1) -> Any:
    channels = [SimpleNamespace(scale=0.1, offset=0.0) for _ in range(4)]
    return SimpleNamespace(
        channels=channels,
        timing=SimpleNamespace(horizon=8, memory_ticks=memory_ticks),
        observations=observations,
        cameras=[SimpleNamespace(name="corner", height=8, width=8)],
        state=[SimpleNamespace(name=n) for n in "abcd"],
    )


class Knower:
    """Moves where it was told to; `deaf` to one word."""

    def __init__(self, deaf: str = "") -> None:
        self.told, self.asked, self.deaf = [], 0, deaf

    def set_instruction(self, text: str) -> None:
        self.told.append(text)

    def forget(self) -> None:
        self.before = 0

    def observe(self, images: Any, state: np.ndarray) -> None:
        self.before += 1

    def infer(self, images: Any, state: np.ndarray, prefix: np.ndarray) -> np.ndarray:
        assert prefix.shape == (0, 4)
        assert images["corner"].shape == (8, 8, 3)
        self.asked += 1
        axis, far = PLACES[self.told[-1]]
        chunk = np.zeros((8, 4), np.float32)
        chunk[:, axis] = 0.0 if self.told[-1] == self.deaf else np.sign(far)
        return chunk


def test_a_chain_goes_on_to_the_first_subtask_that_fails() -> None:
    world, subtasks = Chains(manifest()), ("right", "up", "left", "down", "right")
    assert play_chain(Actor(Knower(), manifest(), 1), world, 0, subtasks) == Chain(subtasks, 5)
    assert world.steps == 5 * 10  # one unit at 0.1 a step
    deaf = Knower("left")
    assert play_chain(Actor(deaf, manifest(), 1), Chains(manifest()), 0, subtasks, steps=20) == Chain(subtasks, 2)
    assert deaf.told == ["right", "up", "left"]


def test_rows_of_a_chunk_act_until_the_next_inference_and_none_outlive_their_instruction() -> None:
    knower = Knower()
    play_chain(Actor(knower, manifest(), 4), Chains(manifest()), 0, ("right", "up", "left", "down", "right"))
    assert knower.asked == 5 * 3  # of 10 steps each: after 0, 4, 8
    with pytest.raises(BadInput, match="1 to 8 steps"):
        Actor(knower, manifest(), 9)
    with pytest.raises(BadInput, match="--replan 3"):
        Actor(knower, manifest(memory_ticks=3), 1)


def test_a_policy_of_three_observations_is_shown_the_steps_before() -> None:
    knower = Knower()
    told = manifest(observations=3)
    play_task(Actor(knower, told, 4), Reach(told), Episode("reach", "variants", "near", 0))
    assert knower.before == 2
    assert knower.asked == 3  # ten steps: after 0, 4, 8


def test_an_episode_ends_with_success_or_with_its_steps() -> None:
    near, far = Episode("reach", "variants", "near", 0), Episode("reach", "variants", "far right", 0)
    assert play_task(Actor(Knower(), manifest(), 1), Reach(manifest()), near)
    assert play_task(Actor(Knower(), manifest(), 1), Reach(manifest()), far)  # exactly its 30 steps
    slow = manifest()
    slow.channels[0] = replace_scale(slow.channels[0], 0.05)
    assert not play_task(Actor(Knower(), slow, 1), Reach(manifest()), far)


def replace_scale(channel: SimpleNamespace, scale: float) -> SimpleNamespace:
    return SimpleNamespace(scale=scale, offset=channel.offset)


@pytest.mark.parametrize(
    ("rpy", "expected"),
    [((0.3, 0, 0), (0.3, 0, 0)), ((0, -0.2, 0), (0, -0.2, 0)), ((0, 0, 3.0), (0, 0, 3.0)), ((0, 0, 0), (0, 0, 0))],
)
def test_a_turn_about_one_axis_is_that_angle(rpy: tuple[float, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(_axis_angle(np.array(rpy)), expected, atol=1e-7)


def test_turns_about_three_axes_are_one_turn() -> None:
    r, p, y = 0.4, -0.7, 1.1
    turns = [
        np.array([[1, 0, 0], [0, np.cos(r), -np.sin(r)], [0, np.sin(r), np.cos(r)]]),
        np.array([[np.cos(p), 0, np.sin(p)], [0, 1, 0], [-np.sin(p), 0, np.cos(p)]]),
        np.array([[np.cos(y), -np.sin(y), 0], [np.sin(y), np.cos(y), 0], [0, 0, 1]]),
    ]
    whole = turns[2] @ turns[1] @ turns[0]
    turn = _axis_angle(np.array([r, p, y]))
    angle = np.linalg.norm(turn)
    x, y_, z = turn / angle
    cross = np.array([[0, -z, y_], [z, 0, -x], [-y_, x, 0]])
    np.testing.assert_allclose(
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, whole, atol=1e-9
    )


def run(bundle: Path, *words: str) -> int:
    return run_command(["eval", str(bundle), *words])


def test_the_command_plays_counts_writes_and_goes_on(tiny_bundle_path: Path, tmp_path: Path, capsys: Any) -> None:
    session, report = tmp_path / "session", tmp_path / "env.json"
    words = ["--env", f"{WORLDS}:reach_words", "--count", "2", "--session", str(session), "--report", str(report)]
    assert run(tiny_bundle_path, *words) == 4
    assert "no such function" in capsys.readouterr().err
    words[1] = f"{WORLDS}:reach"
    world_words = tmp_path / "worlds.py"
    sentence = next(iter(open_bundle(tiny_bundle_path).golden.values())).instruction
    world_words.write_text(
        "from tests.export.eval.worlds import *\n"
        "from tests.export.eval import worlds\n"
        f"class Told(worlds.Reach):\n    def sentence(self):\n        return {sentence!r}\n"
        "def made(manifest):\n    return Told(manifest)\n"
    )
    words[1] = f"{world_words}:made"
    assert run(tiny_bundle_path, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"][0]["episodes"] == 4
    assert json.loads(report.read_text())["results"] == found["results"]
    before = (session / "journal.jsonl").read_text()
    assert run(tiny_bundle_path, *words) == 0
    assert (session / "journal.jsonl").read_text() == before  # nothing was played again
    assert "reach" in capsys.readouterr().out
    words[3] = "3"
    assert run(tiny_bundle_path, *words) == 4
    assert "another: count" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--env", "calvin"), 4, "--data FOLDER"),
        (("--env", "simpler"), 4, "--tasks NAME"),
        (("--env", "gym"), 4, "calvin, simpler or FILE.py:FUNCTION"),
        (("--env", f"{WORLDS}:nothing"), 4, "chains() or episodes()"),
        (("--env", f"{WORLDS}:broken"), 4, "the scene lacks a table"),
        (("--env", f"{WORLDS}:lost"), 4, "KeyError: 'no scene of reach' (worlds.py, line"),
        (("--env", f"{WORLDS}:idle"), 4, "one episode or more"),
        (("--env", f"{WORLDS}:idle", "--tasks", "reach"), 2, "with --env simpler"),
        (("--env", f"{WORLDS}:idle", "--data", "somewhere"), 2, "with --env calvin"),
        (("--env", f"{WORLDS}:idle", "--instruction", "go"), 2, "no option of recorded episodes"),
        (("--env", f"{WORLDS}:idle", "--margin", "0.3"), 2, "no option of recorded episodes"),
        (("--count", "3"), 2, "together with --env"),
        (("--env", "simpler", "--replay"), 2, "no option of recorded episodes"),
    ],
)
def test_what_cannot_be_played_says_why(
    tiny_bundle_path: Path, tmp_path: Path, capsys: Any, words: tuple[str, ...], code: int, said: str
) -> None:
    assert run(tiny_bundle_path, *words, "--session", str(tmp_path / "s")) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_simulator_that_is_not_installed_is_named(tmp_path: Path) -> None:
    from export.eval.benchmarks.calvin import Calvin

    seven = manifest()
    seven.channels = [SimpleNamespace(scale=1.0, offset=0.0) for _ in range(7)]
    seven.cameras[0].name = "static"
    with pytest.raises(BadInput, match="install CALVIN"):
        Calvin(tmp_path, seven)
    with pytest.raises(BadInput, match="install SimplerEnv"):
        Simpler(["google_robot_pick_coke_can"], seven)
    with pytest.raises(BadInput, match="7 channels"):
        Calvin(tmp_path, manifest())
    with pytest.raises(BadInput, match="7 channels, one camera"):
        Simpler(["x"], manifest())
    with pytest.raises(BadInput, match="begin with widowx or google_robot"):
        Simpler(["pick_coke_can"], seven)


def test_the_widowx_is_told_its_gripper_at_every_step() -> None:
    gripper = Bridge()
    assert [gripper.tell(wanted) for wanted in (0.7, 0.1, 0.0, -1.0, 0.2)] == [1.0, 1.0, -1.0, -1.0, 1.0]


def test_the_google_robot_is_told_a_change_for_fifteen_steps_and_passes_over_one_meanwhile() -> None:
    gripper = Google()
    assert [gripper.tell(1.0) for _ in range(3)] == [0.0, 0.0, 0.0]  # as it was found
    closing = [gripper.tell(-1.0)] + [gripper.tell(-1.0 if step < 5 else 1.0) for step in range(HELD_STEPS - 1)]
    assert closing == [1.0] * HELD_STEPS  # opened again on the way: passed over
    assert gripper.tell(1.0) == 0.0
    assert [gripper.tell(-1.0), gripper.tell(-1.0)] == [1.0, 1.0]
    for _ in range(HELD_STEPS - 2):
        gripper.tell(-1.0)
    assert gripper.tell(1.0) == -1.0


class Can:
    """SimplerEnv's interface as we read it: lifted at the second step, dropped at the third, over at the fourth."""

    told: ClassVar[list[np.ndarray]] = []

    def reset(self, seed: int, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        assert options == {"obj_init_options": {"episode_id": seed}}
        self.steps = 0
        return {}, {}

    def get_language_instruction(self) -> str:
        return "pick coke can"

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.told.append(action)
        self.steps += 1
        return {}, 0.0, self.steps == 2, self.steps == 4, {}


class Still(Knower):
    """Does nothing."""

    def infer(self, images: Any, state: np.ndarray, prefix: np.ndarray) -> np.ndarray:
        return np.zeros((8, 7), np.float32)


def test_what_was_lifted_and_dropped_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    module, tools = ModuleType("simpler_env"), ModuleType("simpler_env.utils.env.observation_utils")
    module.make = lambda task: Can()  # type: ignore[attr-defined]
    picture = np.zeros((8, 8, 3), np.uint8)
    tools.get_image_from_maniskill2_obs_dict = lambda world, seen: picture  # type: ignore[attr-defined]
    for name in ("simpler_env", "simpler_env.utils", "simpler_env.utils.env", tools.__name__):
        monkeypatch.setitem(sys.modules, name, tools if name == tools.__name__ else module)
    seven = manifest()
    seven.channels = [SimpleNamespace(scale=1.0, offset=0.0) for _ in range(7)]
    world = Simpler(["google_robot_pick_coke_can"], seven)
    (episode,) = world.episodes(1)
    assert play_task(Actor(Still(), seven, 1), world, episode) is False
    assert len(Can.told) == 4
