"""Where a student starts: cut from the teacher, or compact with its interface and a stem whitened on frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgevla.errors import Refused, Usage, explain
from edgevla.policy.tokens import Vocabulary
from export.distill.feed import Feed, teacher_feed, words_of
from export.distill.source import Source
from export.students.interface import Feeding, Student, teacher_feeding
from export.students.onepass import OnePassStudent, StudentConfig
from export.students.pruned import can_prune, prune, require_prunable
from export.teachers.interface import CameraSpec, TeacherPolicy, TeacherSpec

WHITENING_FRAMES = 512
MOST_FEATURES = 1 << 16  # bytes kept of one observation; a SmolVLA's tokens, 20,000 times, would fill a disk
FORMS = ("auto", "compact", "pruned")
PATCH = 16  # pixels
USUAL_TOKENS = 16  # words
TICKS_PER_TOKEN = 4  # wanted; the nearest divisor of the horizon is taken


@dataclass(frozen=True)
class Wish:
    """What student to make."""

    form: str = "auto"  # pruned where the teacher offers it, else compact
    depth: float | None = None  # of a pruned one; None: the teacher's own choice
    d_max: int | None = None  # None: the teacher's, or a quarter of the horizon for a teacher that knows no prefix
    picture: int = 128  # longest side of the compact one's pictures, pixels
    width: int = 320  # of the compact one, a multiple of 64


def longest_prefix(spec: TeacherSpec, wish: Wish) -> int:
    """d_max of the student.

    Raises:
        Usage: longer than what the teacher was trained with, or too long for the chunk.
    """
    most = spec.d_max or spec.horizon - 1
    if wish.d_max is not None and not 0 < wish.d_max <= most:
        raise Usage(explain("--d-max", f"1 to {most} ticks", str(wish.d_max), "choose a shorter prefix"))
    return wish.d_max or spec.d_max or max(1, spec.horizon // 4)


def form_of(teacher: TeacherPolicy, wish: Wish) -> str:
    """pruned or compact."""
    if wish.form != "auto":
        return wish.form
    return "pruned" if can_prune(teacher) else "compact"


def require_allowed(teacher: TeacherPolicy, wish: Wish, mode: str) -> int:
    """d_max of the student, where this teacher allows one.

    Raises:
        Refused: a teacher without noise, asked for the control without it; one that no student can be cut from.
        Usage: a prefix that is too long, see `longest_prefix`.
    """
    if mode == "without-z" and not teacher.spec.noise:
        todo = "leave this control out: the student has no z either"
        raise Refused(explain("the control without z", "a teacher that takes noise", teacher.spec.name, todo))
    if form_of(teacher, wish) == "pruned":
        require_prunable(teacher)
    elif teacher.spec.observations > 1 and teacher.spec.stride > 1:
        todo = "leave --student out: a student cut from it remembers as it does"
        got = f"{teacher.spec.observations} observations, {teacher.spec.stride} ticks apart"
        raise Refused(explain(f"a compact student of {teacher.spec.name}", "observations a tick apart", got, todo))
    return longest_prefix(teacher.spec, wish)


def make_student(
    teacher: TeacherPolicy, wish: Wish, mode: str, noise: Tensor, sentences: Sequence[str]
) -> tuple[Student, Feeding]:
    """A student and how it is fed.

    Args:
        teacher: the loaded teacher.
        wish: its form.
        mode: `distil`, or a control: `demos-only` gets no weight of the teacher (a policy cut from a pre-trained one
            keeps them: what is compared is the training), `without-z` all but the noise.
        noise: (H, Z), the z that the bundle will carry.
        sentences: of the dataset.

    Raises:
        Refused, Usage: see `require_allowed`.
    """
    d_max = require_allowed(teacher, wish, mode)
    form = form_of(teacher, wish)
    words = _words(teacher, sentences)
    if form == "pruned":
        depth = wish.depth if wish.depth is not None else float(getattr(teacher, "depth", 0.5))
        student = prune(teacher, depth, d_max)
    else:
        student = OnePassStudent(compact_config(teacher.spec, d_max, wish, words, sentences))
    if isinstance(student, OnePassStudent):
        student.config = replace(student.config, noise_input=mode == "distil")
        feeding = Feeding(_cameras(teacher.spec, student), teacher.spec.observations, words, student.config.max_tokens)
    else:
        feeding = teacher_feeding(teacher, teacher.spec.observations)
    if mode == "demos-only" and isinstance(student, OnePassStudent):
        student = OnePassStudent(student.config)
    student.fixed_noise = noise.clone()
    return student, feeding


def _words(teacher: TeacherPolicy, sentences: Sequence[str]) -> tuple[str, ...]:
    """The teacher's own vocabulary, else the words of the dataset; none where the teacher hears nothing."""
    if not teacher.spec.max_tokens:
        return ()
    vocabulary = getattr(teacher, "vocabulary", None)
    return vocabulary.words if isinstance(vocabulary, Vocabulary) else words_of(sentences)


def compact_config(
    spec: TeacherSpec, d_max: int, wish: Wish, words: Sequence[str], sentences: Sequence[str]
) -> StudentConfig:
    """Sizes of a compact student for a teacher of any cameras, state, actions, noise and horizon."""
    height, width = picture_size(spec.cameras, wish.picture)
    longest = max((len(sentence.split()) for sentence in sentences), default=0)
    return StudentConfig(
        vocabulary=len(words) + 1 if words else 0,
        max_tokens=max(USUAL_TOKENS, longest),
        pictures=spec.observations * len(spec.cameras),
        picture_height=height,
        picture_width=width,
        patch=PATCH,
        state=spec.observations * len(spec.state),
        actions=len(spec.actions),
        noise=spec.noise,
        horizon=spec.horizon,
        d_max=d_max,
        ticks_per_token=ticks_per_token(spec.horizon),
        width=wish.width,
        heads=max(1, wish.width // 64),
    )


def picture_size(cameras: Sequence[CameraSpec], longest: int) -> tuple[int, int]:
    """Height and width for all cameras: the largest one's shape, shrunk to `longest`, in whole patches."""
    height, width = max(c.height for c in cameras), max(c.width for c in cameras)
    shrink = min(1.0, longest / max(height, width))
    return tuple(max(PATCH, PATCH * round(side * shrink / PATCH)) for side in (height, width))  # type: ignore[return-value]


def ticks_per_token(horizon: int) -> int:
    """The divisor of the horizon nearest to `TICKS_PER_TOKEN`; of two, the larger."""
    divisors = [n for n in range(1, horizon + 1) if horizon % n == 0]
    return min(divisors, key=lambda n: (abs(n - TICKS_PER_TOKEN), -n))


def _cameras(spec: TeacherSpec, student: OnePassStudent) -> tuple[CameraSpec, ...]:
    """The teacher's, at the size of the student's pictures; a raw picture of that very size is taken as it is."""
    height, width = student.config.picture_height, student.config.picture_width
    made = []
    for camera in spec.cameras:
        same = (camera.height, camera.width) == (height, width)
        fit = camera.fit if same or camera.fit != "exact" else "stretch"
        made.append(replace(camera, height=height, width=width, fit=fit))
    return tuple(made)


def whiten(student: Student, feed: Feed, source: Source, seed: int) -> None:
    """Starts a patch stem from frames of the dataset, unless it has the teacher's already."""
    if not isinstance(student, OnePassStudent) or student.stem.mean.any():
        return
    rows = source.draw(WHITENING_FRAMES, seed, student.horizon, student.d_max)
    inputs = feed(source.pictures(rows["seen"]), rows["state"], rows["sentence"])
    student.stem.whiten(inputs["image"].flatten(0, 1))


@torch.inference_mode()
def matched_features(
    teacher: TeacherPolicy, student: Student, feed: Feed, source: Source
) -> tuple[str, tuple[int, int] | None]:
    """How the teacher's features are kept (see `targets.FORMS`), and the widths of student and teacher."""
    rows = source.draw(2, 0, student.horizon, student.d_max)
    pictures = source.pictures(rows["seen"])
    asked = teacher_feed(teacher, source.sentences, source.present)(pictures, rows["state"], rows["sentence"])
    theirs = teacher.features(teacher.encode(asked))
    chunk = torch.zeros(2, student.horizon, rows["actions"].shape[-1])
    mine = student(
        feed(pictures, rows["state"], rows["sentence"]),
        torch.zeros(2, *student.fixed_noise.shape),
        chunk,
        torch.zeros(2, student.horizon, 1),
    )[1]
    if theirs is None or mine is None:
        return "none", None
    one_by_one = theirs.shape[1] == mine.shape[1] and 2 * theirs[0].numel() <= MOST_FEATURES
    return "tokens" if one_by_one else "pooled", (mine.shape[2], theirs.shape[2])


def bundle_noise(teacher: TeacherPolicy, seed: int) -> tuple[Tensor, float]:
    """The z of the bundle (H, Z), and the deviation of all others: the teacher's own choice, else standard normal."""
    choose: Any = getattr(teacher, "bundle_noise", None)
    if choose is not None:
        noise, scale = choose(seed)
        return torch.from_numpy(noise), float(scale)
    shape = (teacher.spec.horizon, teacher.spec.noise)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)), 1.0
