"""What the teacher answers, cached: (observation, noise z, prefix) -> endpoint of its flow or diffusion.

Questions depend only on (dataset, seed, number), so any process can ask any part, and a killed run goes on with the
missing rows (`cache.py`). Pictures are not copied: a row names their ticks.

A teacher trained with a prefix is given what was executed. One that knows none (d_max = 0) gives its own: the prefix
is the head of the chunk that it answers now, or of the one it answered `back` ticks earlier, whose rows are what a
robot would have committed by then. In the second case the target passes from the earlier plan to the new one over
`blend` rows: so a seam is learned that the teacher does not make itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.distill.cache import CachedRows, ShardRows, TargetCache, key_of
from export.distill.failures import is_out_of_memory, out_of_memory
from export.distill.feed import Feed
from export.distill.source import Array, Rows, Source
from export.request import LEAST_EXAMPLES as SHARD
from export.teachers.interface import TeacherPolicy

BATCH = 128  # questions at once, fewer where pictures are large
BYTES = 16_000_000  # of raw pictures at once
ASKED = ("seen", "tick", "sentence", "state", "actions", "depth", "noise", "back")  # what an answer depends on
OBSERVED = ("seen", "sentence", "state")
FORMS = ("tokens", "pooled", "none")  # of the teacher's features that are kept


@dataclass(frozen=True)
class TargetPlan:
    """Which questions to ask. `fixed_share` of them start from the noise that the bundle will carry."""

    shards: int
    seed: int
    fixed_noise: Tensor  # (H, Z)
    d_max: int
    fixed_share: float = 0.5
    noise_scale: float = 1.0  # deviation of the other noises
    earlier_share: float = 0.5  # of the prefixes of a teacher that knows none
    blend: int = 8  # rows after the prefix
    features: str = "tokens"

    def recipe(self) -> dict[str, Any]:
        """What answers depend on beside the questions, JSON."""
        return {"d_max": self.d_max, "blend": self.blend, "features": self.features}


def questions(source: Source, plan: TargetPlan, number: int, knows_prefix: bool, count: int = SHARD) -> Rows:
    """Rows of part `number` with their noise (B, H, Z) and, for a teacher without prefix, `back` ticks (0: none)."""
    seed = plan.seed * 1_000_003 + number
    horizon = len(plan.fixed_noise)
    rows = source.draw(count, seed, horizon, plan.d_max)
    generator = torch.Generator().manual_seed(seed)
    noise = plan.noise_scale * torch.randn((count, *plan.fixed_noise.shape), generator=generator)
    noise[torch.rand(count, generator=generator) < plan.fixed_share] = plan.fixed_noise
    back: Array = np.zeros(count, np.int64)
    if not knows_prefix:
        rng = np.random.default_rng(seed + 1)
        longest = max(1, min(2 * plan.d_max, horizon - plan.d_max - 1))
        drawn = rng.integers(np.minimum(np.maximum(rows["depth"], 1), longest), longest + 1)
        back = np.where((rng.random(count) < plan.earlier_share) & (rows["depth"] > 0), drawn, 0)
    return {**rows, "noise": noise.numpy(), "back": back}


def make_targets(
    teacher: TeacherPolicy, feed: Feed, source: Source, plan: TargetPlan, number: int, cache: TargetCache
) -> int:
    """Asks what part `number` lacks; returns how many rows that were.

    Raises:
        BadInput: the teacher answers with NaN, memory or disk are full; the cache stays good.
    """
    rows = questions(source, plan, number, teacher.spec.d_max > 0)
    keys = row_keys(rows)
    missing = set(cache.missing(keys))
    picked = np.array([i for i, key in enumerate(keys) if key in missing], np.int64)
    if not len(picked):
        return 0
    asked = {name: value[picked] for name, value in rows.items()}
    size = _batch_size(sum(raw.size for raw in source.pictures(asked["seen"][:1])))
    parts = []
    for first in range(0, len(picked), size):
        batch = {name: value[first : first + size] for name, value in asked.items()}
        try:
            parts.append(answer(teacher, feed, source, plan, batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory("asking the teacher", error, f"{len(cache)} cached targets are kept") from error
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    seen = [key_of(**{name: asked[name][i] for name in OBSERVED}) for i in range(len(picked))]
    shared = {name: tensors.pop(name) for name in (*OBSERVED, "features") if name in tensors}
    return cache.add(ShardRows([keys[i] for i in picked], tensors, seen, shared))


def row_keys(rows: Rows) -> list[str]:
    """The key of every question."""
    return [key_of(**{name: rows[name][i] for name in ASKED}) for i in range(len(rows["tick"]))]


def planned_keys(source: Source, plan: TargetPlan, knows_prefix: bool) -> list[str]:
    """The keys of the whole plan."""
    return [key for n in range(plan.shards) for key in row_keys(questions(source, plan, n, knows_prefix))]


def _batch_size(bytes_each: int) -> int:
    return max(1, min(BATCH, BYTES // bytes_each))


@torch.inference_mode()
def answer(teacher: TeacherPolicy, feed: Feed, source: Source, plan: TargetPlan, rows: Rows) -> dict[str, Tensor]:
    """noise, prefix, mask, endpoint, actions, valid and what was observed, of one batch of questions."""
    noise, depth = torch.from_numpy(rows["noise"]), torch.from_numpy(rows["depth"])
    mask = (torch.arange(noise.shape[1]) < depth[:, None]).float()[..., None]
    actions = torch.from_numpy(rows["actions"])
    knows = teacher.spec.d_max > 0
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(getattr(teacher, "bf16_targets", False))):
        context = teacher.encode(_inputs(feed, source, rows))
        given = (actions * mask, mask) if knows else (torch.zeros_like(actions), torch.zeros_like(mask))
        endpoint = teacher.decode(context, noise, *given).float()
        features = teacher.features(context) if plan.features != "none" else None
        if not knows:
            endpoint = _after_earlier(teacher, feed, source, plan, rows, endpoint)
    answers = {"noise": noise, "mask": mask, "endpoint": endpoint, "actions": actions}
    answers["prefix"] = actions * mask if knows else endpoint * mask
    answers |= {name: torch.from_numpy(rows[name]) for name in ("valid", *OBSERVED)}
    if features is not None:
        kept = features.float().mean(1, keepdim=True) if plan.features == "pooled" else features
        answers["features"] = kept.to(torch.float16)
    return {name: value.contiguous() for name, value in answers.items()}


def _inputs(feed: Feed, source: Source, rows: Rows) -> dict[str, Tensor]:
    return feed(source.pictures(rows["seen"]), rows["state"], rows["sentence"])


def _after_earlier(
    teacher: TeacherPolicy, feed: Feed, source: Source, plan: TargetPlan, rows: Rows, fresh: Tensor
) -> Tensor:
    """The chunks, those with an earlier plan joined to it."""
    earlier, moved = source.before(rows, rows["back"])
    # near the start of an episode there is no plan old enough to have committed the whole prefix
    joined = np.flatnonzero((rows["back"] > 0) & (moved >= rows["depth"]) & (moved > 0))
    if not len(joined):
        return fresh
    asked = {name: value[joined] for name, value in earlier.items()}
    noise = torch.from_numpy(asked["noise"])
    empty = torch.zeros(len(joined), fresh.shape[1], 1)
    context = teacher.encode(_inputs(feed, source, asked))
    plans = teacher.decode(context, noise, torch.zeros_like(fresh[joined]), empty).float()
    shifted = shift_rows(plans, torch.from_numpy(moved[joined]))
    out = fresh.clone()
    out[joined] = join_plans(fresh[joined], shifted, torch.from_numpy(asked["depth"]), plan.blend)
    return out


def shift_rows(chunk: Tensor, back: Tensor) -> Tensor:
    """Chunks (B, H, A) asked `back` (B,) ticks ago as seen from now; past their end the last row stays."""
    rows = (torch.arange(chunk.shape[1]) + back[:, None]).clamp_max(chunk.shape[1] - 1)
    return chunk.gather(1, rows[..., None].expand(-1, -1, chunk.shape[2]))


def join_plans(fresh: Tensor, committed: Tensor, depth: Tensor, blend: int) -> Tensor:
    """`committed` (B, H, A) in the first `depth` (B,) rows, then over to `fresh` in `blend` even steps."""
    behind = torch.arange(fresh.shape[1]) - depth[:, None] + 1  # 1 in the first row after the prefix
    share = (1.0 - behind / (blend + 1)).clamp(0.0, 1.0)[..., None]
    return fresh + share * (committed - fresh)


class Targets:
    """Cached rows as training batches with their pictures.

    A batch depends on (seed, step) alone and each of `world` processes takes its part of it: many processes see what
    one with the whole batch sees.
    """

    def __init__(
        self,
        rows: CachedRows,
        source: Source,
        feed: Feed,
        batch: int,
        seed: int,
        place: tuple[int, int] = (0, 1),
        step: int = 0,
    ) -> None:
        self._rows, self._source, self._feed = rows, source, feed
        self._batch, self._seed, self._place, self.step = batch, seed, place, step

    def __len__(self) -> int:
        return len(self._rows)

    def next(self) -> dict[str, Tensor]:
        """This process's part of the next batch: image, state, tokens, noise, prefix, mask, endpoint, actions, ..."""
        rank, world = self._place
        picked = np.random.default_rng((self._seed, self.step)).integers(len(self), size=self._batch * world)
        self.step += 1
        return self.take(picked[rank::world])

    def take(self, picked: Any) -> dict[str, Tensor]:
        """Those rows, with pictures."""
        rows = self._rows.take(picked)
        seen, sentence = rows.pop("seen").numpy(), rows.pop("sentence").numpy()
        return {**rows, **self._feed(self._source.pictures(seen), rows["state"].numpy(), sentence)}


def open_cache(folder: Path, teacher: TeacherPolicy, source: Source, plan: TargetPlan) -> TargetCache:
    """The cache of this teacher on this dataset. Raises BadInput: the folder is of another."""
    return TargetCache(folder, {"teacher": teacher.sha256, "data": source.sha256, **plan.recipe()})
