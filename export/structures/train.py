"""Trains a policy of the family by a recipe; stopped, it goes on when it is called again.

    python -m export.structures.train RECIPE.toml -o out/policy
    torchrun --standalone --nproc_per_node 2 -m export.structures.train RECIPE.toml -o out/policy

Under `torchrun` or `accelerate launch` each process draws its share of a batch. What comes out is a policy folder:
`edgevla compress out/policy --mode direct` packs it as it is, `--mode distil` makes a student of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgevla.errors import BadInput, EdgevlaError, Refused, Usage, explain
from export.data.ours import OurData
from export.data.stills import Stills
from export.distill.alone import alone
from export.distill.feed import words_of
from export.distill.loop import CHECKPOINT_S, Progress, Run, spent, train
from export.distill.loop import Recipe as Settings
from export.distill.opening import open_data
from export.distill.parallel import Place, in_turn, join, leave
from export.distill.progress import Reporter
from export.distill.source import Recorded
from export.shards import MIB
from export.structures.backbone import Backbone, freeze
from export.structures.config import StructureConfig
from export.structures.families import open_backbone
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.lessons import Lessons, Sizes, StillLessons, spec_of
from export.structures.lora import add_lora, merge_lora
from export.structures.objective import StructureObjective
from export.structures.once import Found, find_all, rest
from export.structures.pictures import on_device
from export.structures.places import Places, mixed, require_places
from export.structures.policy import StructurePolicy
from export.structures.recipe import BackboneAsk, Recipe, StageAsk, read_recipe
from export.structures.teacher import StructureTeacher
from export.structures.together import Together, draw, share
from export.teachers.lerobot.words import FILE

DECLARED = "recipe.json"  # beside the checkpoints
STOPPED = 130  # exit status: Ctrl-C
FRAMES_A_STEP = StageAsk.batch  # where nothing else is asked; encoder frames: rows times moments
MEAN = "backbone.model.stem.mean"  # of a backbone from scratch
ALONE = Place(0, 1)


class Paused(Exception):
    """Training stopped in time, before its end: the same command goes on."""

    def __init__(self, stage: str, share: float) -> None:
        super().__init__(f"paused at {100 * share:.0f} % of {stage}: the same command goes on")
        self.stage, self.share = stage, share


@dataclass(frozen=True)
class Robot:
    """A policy for a robot, and what was recorded with it."""

    teacher: StructureTeacher
    data: Recorded


@dataclass(frozen=True)
class Manner:
    """How a recipe is trained.

    place: this process among those that train together.
    device: `cpu`, or of a GPU; the same batches and noise on each.
    most_s: of training, after which to pause.
    half: weights are kept in float16.
    most_bytes: of a file of weights or of a checkpoint, see `export.shards`.
    """

    place: Place = ALONE
    device: str = "cpu"
    most_s: float | None = None
    half: bool = False
    most_bytes: int | None = None


@dataclass(frozen=True)
class Carried:
    """Weights that a stage took over from the one before, and those that it began anew: another robot's shapes."""

    kept: int
    anew: tuple[str, ...]


def run_recipe(
    recipe: Recipe, out: Path, loud: bool = True, decoded: Path | None = None, words: tuple[str, ...] = (),
    how: Manner | None = None,
) -> tuple[StructureTeacher, float]:  # fmt: skip
    """All stages; the policy of the last one, saved in `out`, and the seconds of training, of stopped runs too.

    Args:
        recipe: what to train.
        out: folder; checkpoints and, without `decoded`, the frames of videos lie in its `work`.
        loud: show how far it is.
        decoded: where frames of videos are kept, for several recipes of one data set.
        words: of a policy from scratch; none: those of its data sets.
        how: on what, with whom, how long; None: alone on this processor, to the end.

    Raises:
        Paused: the checkpoint is kept; nothing is saved in `out`.
        BadInput: a data set or backbone is unusable.
        Refused: the folder holds another policy, or another session is at work in it.
    """
    how = how or Manner()
    place = how.place
    work = out / "work"
    if out.exists() and not out.is_dir():
        raise BadInput(explain(f"{out}", "a folder, or nothing there yet", "a file", "pass another -o"))
    if (out / "config.json").exists() and not (work / DECLARED).exists():
        got, todo = "a policy that no recipe of ours made there", "pass another -o"
        raise Refused(explain(f"{out}", "a new folder, or that of this recipe", got, todo))
    named = dict.fromkeys(name for stage in recipe.stages for name in (stage.data, *stage.beside))
    with in_turn(place):
        data = {name: open_data(name, (decoded or work) / f"data-{short(name)}", None, loud) for name in named}
    words = () if recipe.backbone.folder is not None else words or vocabulary(list(data.values()))
    torch.manual_seed(recipe.seed)
    first = new_teacher(recipe, data[recipe.stages[0].data], words)  # what is wrong is said before anything is written
    with alone(work) if place.chief else contextlib.nullcontext():
        with in_turn(place):
            _declare(work / DECLARED, recipe, list(data.values()))
        teacher, train_s = _run_stages(recipe, data, words, first, work, loud, how)
        if place.chief:
            teacher.eval().save(out, how.half, how.most_bytes)
    return teacher, train_s


def _run_stages(
    recipe: Recipe,
    data: Mapping[str, Recorded],
    words: tuple[str, ...],
    first: StructureTeacher,
    work: Path,
    loud: bool,
    how: Manner,
) -> tuple[StructureTeacher, float]:  # fmt: skip
    """See `run_recipe`. first: the policy of the first stage, not trained yet."""
    train_s, teacher, begun = 0.0, first, time.monotonic()
    known: dict[str, StructurePolicy] = {}  # by data set, the one that was trained last at the end
    for number, stage in enumerate(recipe.stages):
        if number:
            torch.manual_seed(recipe.seed)
            teacher = new_teacher(recipe, data[stage.data], words)
        own = Robot(teacher, data[stage.data])
        whiten(own.teacher, own.data, recipe.seed, stage.demonstrations)
        if known:
            mine = [known[stage.data]] if stage.data in known else []
            carried = carry([*mine, list(known.values())[-1]], own.teacher.policy)
            _tell(loud, f"{stage.name}: {carried.kept} tensors go on, anew: {_list(carried.anew)}")
        backbone = own.teacher.policy.backbone
        guests = {name: Robot(new_teacher(recipe, data[name], words, backbone), data[name]) for name in stage.beside}
        for name, guest in guests.items():
            carry([known[name]] if name in known else [], guest.teacher.policy)
            apart = share(own.teacher.policy, guest.teacher.policy)
            robot = f"a robot of {len(guest.data.action_names)} actions"
            _tell(loud, f"{stage.name}: beside it {robot}, its own: {_list(apart)}")
        steps, left_s = max(1, stage.frames // stage.batch), None
        if how.most_s is not None:
            left_s = max(1e-3, how.most_s - (time.monotonic() - begun))
        settings = Settings(0.0, stage.learning_rate, ema=0.998, steps=steps, most_s=left_s)
        robots = (own, *guests.values())
        progress = train_stage(robots, recipe, stage, settings, work / f"stage-{number}", loud, number, how)
        if spent(settings, progress) < 1.0:
            raise Paused(stage.name, spent(settings, progress))
        train_s += progress.elapsed_s
        known = {name: policy for name, policy in known.items() if name != stage.data}
        known |= {name: guest.teacher.policy for name, guest in guests.items()} | {stage.data: own.teacher.policy}
    return teacher, train_s


def require_device(device: str) -> None:
    """Raises BadInput: torch cannot compute there."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:120]
        raise BadInput(explain("--device", "cpu, or one that torch computes on", f"{device}: {said}", "cpu")) from None


def short(name: str) -> str:
    """Of a data set, for the folder of its frames."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _declare(path: Path, recipe: Recipe, data: Sequence[Recorded]) -> None:
    """What the checkpoints beside it are of. Raises BadInput: of another recipe or other data."""
    told = json.loads(json.dumps({**asdict(recipe), "sha256": [one.sha256 for one in data]}, default=str))
    if path.is_file() and json.loads(path.read_text()) != told:
        todo = "pass another -o, or remove its `work` to begin anew"
        raise BadInput(explain(f"{path.parent}", "checkpoints of this recipe and its data", "of another", todo))
    if not path.is_file():
        path.write_text(json.dumps(told, indent=1) + "\n")


def new_teacher(
    recipe: Recipe, data: Recorded, words: tuple[str, ...], backbone: Backbone | None = None
) -> StructureTeacher:
    """A policy for a data set; without `backbone` with its own, as it was before training."""
    ask, told = recipe.backbone, recipe.policy
    backbone = make_backbone(ask, len(words)) if backbone is None else backbone
    window = int(told.get("window", 1))
    spec = spec_of(
        data, "structure", ask.picture, int(told["horizon"]), int(told.get("d_max", 0)), recipe.max_tokens,
        window, int(told["stride"]), noise=False,
    )  # fmt: skip
    dims = {"pictures": len(spec.cameras), "state": len(spec.state), "actions": len(spec.actions)}
    policy = StructurePolicy(StructureConfig.from_dict({**told, **dims}), backbone)
    spec = replace(spec, noise=len(spec.actions) if policy.noisy else 0)
    tokenizer = None if ask.folder is None else ask.folder / FILE
    return StructureTeacher(policy, spec, words, tokenizer)


def make_backbone(ask: BackboneAsk, words: int) -> Backbone:
    """From its folder, or from scratch."""
    if ask.folder is not None:
        return open_backbone(ask.folder, ask.picture)
    sizes = OwnSizes(words + 1, ask.picture, **ask.sizes)
    return Ours(OwnModel(sizes), sizes.picture)


def train_stage(
    robots: Sequence[Robot], recipe: Recipe, stage: StageAsk, settings: Settings, folder: Path, loud: bool,
    number: int = 0, how: Manner | None = None,
) -> Progress:  # fmt: skip
    """Trains in place; a finished stage is read back.

    Args:
        robots: the stage's own first; the others share its network and learn beside it.
        recipe, stage, settings: what to do.
        folder: of the checkpoint.
        loud: show how far it is.
        number: of the stage; each draws batches of its own.
        how: as in `run_recipe`.
    """
    how = how or Manner()
    policy, ask = robots[0].teacher.policy, recipe.backbone
    freeze(policy.backbone, *(part in ask.freeze for part in ("vision", "language", "words")))
    if ask.lora_rank:
        add_lora(policy.backbone, ask.lora_rank)
    if stage.head_only:
        rest(policy)
    places = _places(robots[0], stage)
    trained = [*(robot.teacher.policy for robot in robots), *([] if places is None else [places])]
    model = (nn.ModuleList(trained) if len(trained) > 1 else policy).to(how.device)
    run = Run(model, settings, folder / "checkpoint.safetensors", how.most_bytes)
    run.resume()
    found = None
    if stage.head_only and spent(settings, run.progress) < 1.0:
        found = find_all(robots[0].teacher, robots[0].data, how.place, how.device, loud)
    objective, drawn = _lessons(robots, stage, [recipe.seed, run.progress.step, number], how.place, places, found)
    reporter = Reporter(stage.name, settings.steps or 1, loud)

    def report(progress: Progress) -> None:
        reporter.show(progress.step, f"loss {progress.loss:.4f}")

    with on_device(drawn, how.device) as next_batch:
        progress = train(run, objective.to(how.device), next_batch, report, folder / "log.jsonl")
    reporter.close()
    model.to("cpu")
    if ask.lora_rank:
        merge_lora(policy.backbone)
    policy.requires_grad_(True)
    return progress


def _places(robot: Robot, stage: StageAsk) -> Places | None:
    """The reader of the lesson of places, where the stage has one. Raises BadInput: data without places."""
    if not stage.places:
        return None
    recorded, config = require_places(getattr(robot.data, "places", None), stage.data), robot.teacher.policy.config
    if config.told not in (0, recorded.shape[1]):
        todo = "set `told` to that in the recipe"
        raise BadInput(explain(f"told, with {stage.data}", f"{recorded.shape[1]} numbers", config.told, todo))
    return Places(recorded, config.width, stage.places, config.told)


def _lessons(
    robots: Sequence[Robot],
    stage: StageAsk,
    draw_of: Sequence[int],
    place: Place = ALONE,
    places: Places | None = None,
    found: npt.NDArray[np.float32] | None = None,
) -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """What is minimised, and its next batch as it is drawn (`export.structures.pictures`). The stage's own robot is
    the first; the others show all they have.

    draw_of: seed, step to go on from, number of the stage. found: in place of pictures, see `export.structures.once`.
    """
    seed, step, stage_number = draw_of
    mine = [place.rank] if place.rank else []  # a process alone draws what it always drew
    generator = torch.Generator().manual_seed(seed + step + 1_000_003 * stage_number + 7_919 * place.rank)
    objectives, lessons = [], []
    frames = max(1, stage.batch // place.world)
    still = round(frames * stage.stills_share)
    for number, robot in enumerate(robots):
        teacher, window = robot.teacher, robot.teacher.policy.config.window
        draws = [seed, 1 + step, *([stage_number, number] if stage_number or number or mine else []), *mine]
        sizes, few = Sizes(max(1, (frames - still) // window), window), 0 if number else stage.demonstrations
        told = places if number == 0 else None
        lessons.append((Lessons if found is None else Found)(
            robot.data, teacher.spec, teacher.tokenize, sizes, draws, stage.dark, few, stage.light, told is not None,
            stage.foreseen,
        ))  # fmt: skip
        objectives.append(StructureObjective(teacher.policy, generator, told))
    if isinstance(lessons[0], Found) and found is not None:
        lessons[0].found = found
    if len(robots) > 1:
        return Together(objectives), partial(draw, lessons)
    if stage.stills is None:
        return objectives[0], lessons[0].drawn
    spec, seeds = robots[0].teacher.spec, [seed, 2 + step, stage_number, place.rank]
    stills = StillLessons(Stills(Path(stage.stills)), spec, robots[0].teacher.tokenize, still, seeds, stage.light)
    return objectives[0], lambda: mixed(lessons[0].drawn(), stills.drawn())


def whiten(teacher: StructureTeacher, data: Recorded, seed: int, demonstrations: int = 0) -> None:
    """Tells a backbone from scratch the statistics of the frames: no checkpoint holds its mean picture."""
    if isinstance(teacher.policy.backbone, Ours):
        sizes = Sizes(256, 1)
        lessons = Lessons(data, teacher.spec, teacher.tokenize, sizes, [seed, 0], demonstrations=demonstrations)
        frames = lessons.next()["image"]
        teacher.policy.backbone.model.stem.whiten(frames.flatten(0, 2))


def carry(before: Sequence[StructurePolicy], after: StructurePolicy) -> Carried:
    """Copies every weight whose name and shape are the same, of the last that has it: another robot's state and actions
    begin anew. The mean picture stays that of the stage's own data."""
    new = after.state_dict()
    old = {name: value for policy in before for name, value in policy.state_dict().items()
           if name in new and new[name].shape == value.shape}  # fmt: skip
    kept = {name: value for name, value in old.items() if not name.endswith(MEAN)}
    after.load_state_dict(kept, strict=False)
    return Carried(len(kept), tuple(sorted(set(new) - set(old))))


def vocabulary(data: Sequence[Recorded]) -> tuple[str, ...]:
    """Words of all data sets. That of our own demonstrations first and in its order, as their bundles say it."""
    known: list[str] = []
    for one in data:
        mine = one.demonstrations.meta["vocabulary"] if isinstance(one, OurData) else ()
        told: list[Any] = [*mine, *words_of([text for texts in one.wordings for text in texts])]
        known += [word for word in dict.fromkeys(map(str, told)) if word not in known]
    if not known:
        todo = "record with instructions"
        raise BadInput(explain("words of the data sets", "one or more", "none", todo))
    return tuple(known)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _tell(loud: bool, text: str) -> None:
    if loud:
        print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="policy folder")
    parser.add_argument("--half", action="store_true", help="keep the weights in float16: half the bytes")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="pause after so long: for a machine that is lent in pieces")
    parser.add_argument("--shards", type=int, metavar="MIB", help="weights and checkpoints in files of at most so much")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    place = join() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE
    try:
        require_device(given.device)
        loud = place.chief and not given.json
        most_s = _seconds(given.minutes)
        recipe = read_recipe(given.recipe)
        how = Manner(place, given.device, most_s, given.half, _bytes(given.shards))
        teacher, _ = run_recipe(recipe, given.out, loud, how=how)
    except Paused as paused:
        told = {"paused": paused.stage, "share": paused.share}
        if place.chief:
            print(json.dumps(told) if given.json else paused, flush=True)
        leave()
        return
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print(f"stopped: the same command goes on, {CHECKPOINT_S:g} s of training earlier at most", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    if not place.chief:
        leave()
    told = {"policy": str(given.out), "parameters": teacher.parameters_total, "words": len(teacher.known)}
    print(json.dumps(told) if given.json else f"wrote {given.out}: {teacher.parameters_total:,} parameters")
    leave()


def _seconds(minutes: float | None) -> float | None:
    """Of --minutes. Raises Usage: none."""
    if minutes is not None and not 0.0 < minutes < math.inf:
        raise Usage(explain("--minutes", "more than 0", minutes, "8.5 for a machine that is lent for nine"))
    return None if minutes is None else 60.0 * minutes


def _bytes(shards: int | None) -> int | None:
    """In a file at most, of --shards. Raises Usage: less than one."""
    if shards is not None and shards < 1:
        raise Usage(explain("--shards", "1 or more MiB", shards, "15 for a machine that sends files of 15 MiB"))
    return None if shards is None else shards * MIB


if __name__ == "__main__":
    main()
