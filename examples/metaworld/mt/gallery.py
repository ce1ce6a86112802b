r"""One small animated picture a task: int8 in the loop, in the first fresh scene, whether it succeeds or not.

    python -m examples.metaworld.mt.gallery --bundle out/mt10/student.bundle

Nothing is chosen: the scene is the first one that `evaluate` plays. TASK.gif and gallery.json, which says how each
episode ended, go to out/mt10/gallery. What was commanded is played once more and drawn larger: the policy itself saw
the pictures of its own camera.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.files import write_json
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode, Loop, Outcome, Plant, Policy, Runner, play
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import View
from examples.ended import ended
from examples.metaworld.mt.command import out_of, parser_of, require_given
from examples.metaworld.mt.disturb import Around
from examples.metaworld.mt.episodes import fresh
from export.distill.progress import Reporter
from export.evidence.rollouts import loop_of

SCHEMA = "edgevla.mt.gallery/1"
SIZE_PX = 160
MOST_BYTES = 150_000  # of one picture
LAST_FRAME_MS = 1_200
EVERY = 4  # ticks from picture to picture
SIZES = (
    (1, 128),
    (2, 96),
    (2, 48),
    (4, 64),
    (4, 32),
    (8, 32),
    (16, 16),
)  # every n-th of them, colours: first that fits
Pictures = list[npt.NDArray[np.uint8]]


class Commanded(Around):
    """The plant, which also keeps its set-points."""

    def __init__(self, plant: Plant) -> None:
        super().__init__(plant)
        self.setpoints: list[npt.NDArray[np.floating[Any]]] = []

    def step(self, setpoint: npt.NDArray[np.floating[Any]]) -> object:
        self.setpoints.append(np.array(setpoint))
        return super().step(setpoint)


@dataclass(frozen=True)
class Film:
    """An episode and its pictures, every EVERY ticks from its start on, and the last one."""

    episode: Episode
    outcome: Outcome
    pictures: Pictures


def filmed(policy: Policy, episode: Episode, loop: Loop) -> Film:
    """Plays the episode, and its set-points once more in front of the larger camera."""
    made: list[Commanded] = []

    def run(policy: Policy, plant: Plant, loop: Loop) -> Runner:
        made.append(Commanded(plant))
        return Runner(policy, made[0], loop)

    outcome, plant = play(policy, episode, loop, None, run)
    plant.close()
    return Film(episode, outcome, _drawn(episode, made[0].setpoints, replace(loop.view, size_px=SIZE_PX)))


def _drawn(episode: Episode, setpoints: Sequence[npt.NDArray[np.floating[Any]]], view: View) -> Pictures:
    plant = MetaworldPlant(episode.task, episode.seed, view=view)
    pictures = [plant.render()]
    for tick, setpoint in enumerate(setpoints, 1):
        plant.step(setpoint)
        if tick % EVERY == 0 or tick == len(setpoints):
            pictures.append(plant.render())
    plant.close()
    return pictures


def animated(pictures: Pictures, period_s: float) -> bytes:
    """A GIF in the pace of the robot, the last picture for longer. Raises BadInput: none that is small enough."""
    for every, colours in SIZES:
        raw = _gif([*pictures[:-1:every], pictures[-1]], round(1e3 * period_s * EVERY * every), colours)
        if len(raw) <= MOST_BYTES:
            return raw
    got, todo = f"{len(raw)} bytes of {len(pictures)} pictures", "lower SIZE_PX"
    raise BadInput(explain("animated picture", f"{MOST_BYTES} bytes at most", got, todo))


def _gif(pictures: Pictures, frame_ms: int, colours: int) -> bytes:
    """One palette for all frames, so that only what moves changes."""
    palette = Image.fromarray(np.hstack([pictures[0], pictures[len(pictures) // 2], pictures[-1]])).quantize(colours)
    frames = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    shown_ms, file = [frame_ms] * (len(frames) - 1) + [LAST_FRAME_MS], io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=shown_ms, loop=0, optimize=True)
    return file.getvalue()


def gallery(episodes: Sequence[Episode], bundle: Path, out: Path) -> dict[str, Any]:
    """Draws every episode; gallery.json."""
    opened, loop = open_bundle(bundle), loop_of(bundle)
    engine, told = PolicyEngine(opened), []
    reporter = Reporter("pictures", len(episodes))
    out.mkdir(parents=True, exist_ok=True)
    for number, episode in enumerate(episodes, 1):
        film, file = filmed(engine, episode, loop), f"{episode.task.removesuffix('-v3')}.gif"
        (out / file).write_bytes(animated(film.pictures, loop.period_s))
        told.append(_entry(film, file))
        reporter.show(number, told[-1]["caption"])
    reporter.close()
    return {"schema": SCHEMA, "bundle": opened.sha256, "episodes": told}


def _entry(film: Film, file: str) -> dict[str, Any]:
    episode, outcome = film.episode, film.outcome
    end = f"success after {outcome.ticks} ticks" if outcome.success else f"no success in {outcome.ticks} ticks"
    return {
        "task": episode.task,
        "file": file,
        "success": outcome.success,
        "ticks": outcome.ticks,
        "seed": episode.seed,
        "instruction": episode.instruction,
        "caption": f'"{episode.instruction}": {end}',
    }


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return ended(_work, parser_of(__doc__, "gallery"), given)


def _work(asked: argparse.Namespace) -> None:
    require_given(asked, "bundle")
    out = out_of(asked, "gallery")
    found = gallery(fresh(asked.set, 1), asked.bundle, out)
    write_json(out / "gallery.json", found)
    for entry in found["episodes"]:
        print(f"{entry['file']:28} {entry['caption']}")
    print(f"wrote {out / 'gallery.json'}")


if __name__ == "__main__":
    raise SystemExit(main())
