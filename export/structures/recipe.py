"""How a policy of the family is trained, as a TOML file: the policy, its backbone, and one stage after the other.

schema = "edgevla.recipe/1"
seed = 0
[policy]                   # keys of `StructureConfig`; pictures, state and actions come from the data
structure = "policy-head"
head = "lstm"
window = 8
stride = 8
horizon = 32
d_max = 8
max_tokens = 16            # longest sentence
[backbone]
family = "ours"            # from scratch, with width, heads, layers, patch, stem; or folder = "DIR", pre-trained
picture = [96, 96]         # height, width
freeze = []                # of "vision", "language", "words"
[[stage]]                  # in-domain: one; pre-train, then fine-tune or post-train: several
name = "in-domain"
data = "out/demo/data"
frames = 960000            # encoder frames
batch = 64                 # of them a step, of all processes together
learning_rate = 1e-3
demonstrations = 0         # of each task; 0: all
head_only = false          # of a policy with `told`: each picture is looked at once, and the head is trained
dark = 0.0                 # share of black pictures
foreseen = false           # rows of a chunk count until something else was done than what was wanted
light = 0.0                # largest change of a picture's brightness and contrast, as a share
places = 0.0               # weight of a lesson of where things are, for data that has places; 0: none
stills = "out/mt10/stills" # pictures with places and without actions, for that lesson; left out: none
stills_share = 0.25        # of the rows of a batch
beside = []                # data of other robots: one network, a batch of each robot at every step
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from edgevla.errors import BadInput, explain
from export.structures.config import INTERLEAVED, StructureConfig
from export.structures.families.ours import STEMS, Ours, OwnSizes
from profiles.strict import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "edgevla.recipe/1"
PARTS = ("vision", "language", "words")
_ANY_ROBOT = {"pictures": 1, "state": 1, "actions": 1}
_FROM_DATA = tuple(_ANY_ROBOT)
_NEEDED = ("structure", "head", "window", "stride", "horizon")


class RecipeTable(Table):
    """A table of a recipe; its errors are BadInput."""

    error: ClassVar[type[Exception]] = BadInput
    todo: ClassVar[str] = "correct the recipe; docs/structures.md has one that is right"


@dataclass(frozen=True)
class BackboneAsk:
    """`folder` of a pre-trained model, or sizes of one from scratch. lora_rank: 0 trains what is not frozen."""

    picture: tuple[int, int]
    folder: Path | None
    sizes: Mapping[str, Any]
    freeze: tuple[str, ...]
    lora_rank: int


@dataclass(frozen=True)
class StageAsk:
    """One stretch of training on one data set."""

    name: str
    data: str
    frames: int
    learning_rate: float
    demonstrations: int
    dark: float
    beside: tuple[str, ...] = ()  # data of other robots, learned at the same time; `frames` counts none of theirs
    light: float = 0.0
    places: float = 0.0
    stills: str | None = None
    stills_share: float = 0.0  # `frames` counts them
    batch: int = 64
    foreseen: bool = False
    head_only: bool = False


@dataclass(frozen=True)
class Recipe:
    """The whole file. `policy` lacks what the data says: pictures, state, actions."""

    seed: int
    policy: Mapping[str, Any]
    max_tokens: int
    backbone: BackboneAsk
    stages: tuple[StageAsk, ...]


def read_recipe(path: Path) -> Recipe:
    """Raises BadInput naming the file and the key that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(explain(f"{path}", "a recipe in TOML", error, "check the path")) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(explain(f"{path}", "a recipe in TOML", error, "correct the file")) from None
    table = RecipeTable(str(path), data)
    schema = table.text("schema")
    if schema != SCHEMA:
        table.fail("schema", SCHEMA, schema)
    stages = table.raw("stage", "one [[stage]] or more")
    if not isinstance(stages, list) or not stages:
        table.fail("stage", "one [[stage]] or more", stages)
    policy = table.mapping("policy")
    told = {key: value for key, value in policy.items() if key != "max_tokens"}
    if lacking := [key for key in _NEEDED if key not in told]:
        table.fail("policy", f"{', '.join(_NEEDED)} and max_tokens", f"no {lacking[0]}")
    if given := sorted(set(told) & set(_FROM_DATA)):
        table.fail("policy", f"no {', '.join(_FROM_DATA)}: they come from the data", given[0])
    _require_policy(RecipeTable(f"{path}: [policy]", told))
    recipe = Recipe(
        seed=table.whole("seed", 0, 2**31),
        policy=told,
        max_tokens=RecipeTable(f"{path}: [policy]", policy).whole("max_tokens", 1, 4096),
        backbone=_backbone(RecipeTable(f"{path}: [backbone]", table.raw("backbone", "a table"))),
        stages=tuple(_stage(RecipeTable(f"{path}: [[stage]] {i}", s)) for i, s in enumerate(stages, 1)),
    )
    table.nothing_left()
    if told.get("window", 1) != 1 and any(stage.stills for stage in recipe.stages):
        table.fail("stills", "a policy of window 1: a still has no moments before it", f"window {told['window']}")
    if any(stage.head_only for stage in recipe.stages) and (not told.get("told") or told["structure"] == INTERLEAVED):
        expected = f"a policy that is told where things are (`told`), of another structure than {INTERLEAVED}"
        table.fail("head_only", expected, f"told = {told.get('told', 0)}, structure {told['structure']}")
    if told.get("told") and not all(stage.places or stage.head_only for stage in recipe.stages):
        table.fail("told", "places in every stage: the lesson of what is told", "a stage without")
    return recipe


def _require_policy(table: RecipeTable) -> None:
    """Raises BadInput: a key that is not known, or a policy that cannot be, whatever the data."""
    known = [field.name for field in fields(StructureConfig) if field.name not in _FROM_DATA]
    if unknown := sorted(set(table.names()) - set(known)):
        table.fail(unknown[0], f"only known keys: {', '.join(sorted(known))}", "an unknown key")
    values = {name: table.raw(name, "a value") for name in table.names()}
    _said_of(table, lambda: StructureConfig.from_dict({**values, **_ANY_ROBOT}))


def _said_of(table: RecipeTable, make: Callable[[], object]) -> None:
    """Makes it, for what is wrong with it. Raises BadInput that names the table."""
    try:
        make()
    except BadInput as error:
        raise BadInput(f"{table.where}: {error}") from None


def _backbone(table: RecipeTable) -> BackboneAsk:
    height, width = _picture(table)
    freeze = table.texts("freeze") if table.has("freeze") and table.raw("freeze", "a list") != [] else ()
    if not set(freeze) <= set(PARTS):
        table.fail("freeze", f"a list of {', '.join(PARTS)}", freeze)
    lora = table.whole("lora_rank", 1, 1024) if table.has("lora_rank") else 0
    if lora and "language" in freeze:
        table.fail("lora_rank", "no lora_rank where the language model is frozen: adapters are its training", lora)
    if table.has("folder"):
        folder = Path(table.text("folder"))
        if not (folder / "config.json").is_file():
            table.fail("folder", "a folder that transformers saved, with its config.json", str(folder))
        ask = BackboneAsk((height, width), folder, {}, freeze, lora)
    else:
        if table.text("family") != Ours.family:
            expected = f'"{Ours.family}", from scratch; of any other family folder = "DIR" of a pre-trained model'
            table.fail("family", expected, table.text("family"))
        if lora:
            table.fail("lora_rank", "none: a model from scratch has nothing to adapt", lora)
        names = [name for name in ("patch", "width", "heads", "layers") if table.has(name)]
        sizes: dict[str, Any] = {name: table.whole(name, 1, 8192) for name in names}
        sizes |= {"stem": table.text("stem", STEMS)} if table.has("stem") else {}
        ask = BackboneAsk((height, width), None, sizes, freeze, lora)
        _said_of(table, lambda: OwnSizes(2, ask.picture, **ask.sizes))
    table.nothing_left()
    return ask


def _picture(table: RecipeTable) -> tuple[int, int]:
    sides = table.numbers("picture", 2)
    if not all(side == int(side) and 1 <= side <= 16_384 for side in sides):
        table.fail("picture", "height and width, whole pixels", list(sides))
    return int(sides[0]), int(sides[1])


def _stage(table: RecipeTable) -> StageAsk:
    stage = StageAsk(
        name=table.text("name"),
        data=table.text("data"),
        frames=table.whole("frames", 64, 10**12),
        learning_rate=table.number("learning_rate", 1e-9, 1.0),
        demonstrations=table.whole("demonstrations", 0, 10**9) if table.has("demonstrations") else 0,
        dark=table.number("dark", 0.0, 0.95) if table.has("dark") else 0.0,
        beside=_texts(table, "beside") if table.has("beside") else (),
        batch=table.whole("batch", 1, 1 << 20) if table.has("batch") else StageAsk.batch,
        foreseen=table.truth("foreseen") if table.has("foreseen") else False,
        head_only=table.truth("head_only") if table.has("head_only") else False,
        **_lessons(table),
    )
    if stage.head_only and (stage.places or stage.dark or stage.light or stage.beside):
        table.fail("head_only", "none of places, stills, dark, light, beside: no picture is looked at", "one of them")
    if os.path.normpath(stage.data) in map(os.path.normpath, stage.beside):
        table.fail("beside", "data of other robots", stage.data)
    table.nothing_left()
    return stage


def _lessons(table: RecipeTable) -> dict[str, Any]:
    """What is learned beside the actions, and under which light; the keys that are there."""
    found: dict[str, Any] = {key: table.number(key, 0.0, 1e3) for key in ("places",) if table.has(key)}
    found |= {"light": table.number("light", 0.0, 0.9)} if table.has("light") else {}
    if table.has("stills"):
        if not found.get("places"):
            table.fail("stills", "places, the weight of the lesson that they are for", "no places")
        found |= {"stills": table.text("stills"), "stills_share": table.number("stills_share", 0.01, 0.9)}
    return found


def _texts(table: RecipeTable, key: str) -> tuple[str, ...]:
    values = table.raw(key, "a list of data sets")
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        table.fail(key, "a list of data sets", values)
    return tuple(values)
