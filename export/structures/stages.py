"""A policy of the family as graphs: one moment at a time, what it remembers as inputs and outputs.

    text       tokens                                              -> words    (1, L, D)      once per instruction
    vision     image (1, P, h, w, 3)                               -> vision   (1, P * N, D)
    read       vision, words, token_mask, state [, its memory]     -> feature  (1, F)         [, its memory, anew]
    history    feature, its memory                                 -> context  (1, M, F), its memory, anew
    head       context [, noise, prefix]                           -> chunk    (1, H, A)

Without a history to remember `head` takes the feature. The memory of `read`, with interleaved moments: tokens of the
pictures and queries of the last W - 1 moments; that of `history`: see `export.structures.history`. Where the language
model says the numbers itself, `head` takes the place of the last three: it reads vision, words and the numbers said so
far, and runs once for each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgevla.bundle.wiring import NEXT
from export.onnx.stages import StageSpec
from export.structures.config import INTERLEAVED, StructureConfig
from export.structures.heads.head import Stepped, committed
from export.structures.policy import StructurePolicy
from export.students.interface import Method

Spec = dict[str, Tensor]


class _Traced(nn.Module):
    """A function of named inputs with the modules it uses, to be traced."""

    def __init__(self, used: nn.Module, run: Callable[[Spec], Tensor | tuple[Tensor, ...]], names: Spec) -> None:
        super().__init__()
        self.used, self._run, self._names = used, run, tuple(names)

    def forward(self, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self._run(dict(zip(self._names, values, strict=True)))


def stages_of(policy: StructurePolicy, max_tokens: int) -> list[StageSpec]:
    """The graphs in the order they run, with example inputs. max_tokens: L."""
    policy = policy.eval()
    config, (height, width) = policy.config, policy.backbone.picture
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, config.pictures, height, width, 3, generator=generator) * 2 - 1
    tokens = torch.randint(1, policy.backbone.vocabulary, (1, max_tokens), generator=generator)
    with torch.no_grad():
        vision, words = policy.look(image), policy.backbone.hear(tokens)
    state = torch.randn(1, config.state, generator=generator)
    heard = {"vision": vision, "words": words, "token_mask": torch.ones(1, max_tokens)}
    heard |= {"state": state} if policy.feels else {}
    first = [
        StageSpec("text", Method(policy.backbone, "hear"), {"tokens": tokens}, ("words",)),
        StageSpec("vision", Method(policy, "look"), {"image": image}, ("vision",)),
    ]
    if policy.head is None:
        return [*first, _spoken(policy, heard, generator)]
    history = [_history(policy)] if policy.history.memory else []
    return [*first, _read(policy, heard), *history, _head(policy, generator)]


def _read(policy: StructurePolicy, heard: Spec) -> StageSpec:
    memory = _read_memory(policy, heard["vision"])
    inputs = {**heard, **memory}

    def run(given: Spec) -> tuple[Tensor, ...]:
        state = given["state"] if policy.feels else torch.zeros(1, policy.config.state)
        now = [given["vision"][:, None], policy.queries(state[:, None]), torch.ones(1, 1)]
        if memory:
            now = [torch.cat([given[name], newest], dim=1) for name, newest in zip(memory, now, strict=True)]
        vision, queries, known = now
        feature = policy.read(vision, given["words"], given["token_mask"], queries, known if memory else None)
        return (feature[:, -1], *(rows[:, 1:] for rows in now if memory))

    return _spec("read", policy, run, inputs, "feature", tuple(memory))


def _read_memory(policy: StructurePolicy, vision: Tensor) -> Spec:
    config = policy.config
    if config.structure != INTERLEAVED or config.window == 1:
        return {}
    before, (tokens, width) = config.window - 1, vision.shape[1:]
    return {
        "pictures_past": torch.zeros(1, before, tokens, width),
        "queries_past": torch.zeros(1, before, policy.asked, width),
        "known_past": torch.zeros(1, before),
    }


def _history(policy: StructurePolicy) -> StageSpec:
    history = policy.history
    memory = {name: torch.zeros(shape) for name, shape in history.memory.items()}

    def run(given: Spec) -> tuple[Tensor, ...]:
        return history.step(*given.values())

    return _spec(
        "history", history, run, {"feature": torch.zeros(1, history.width), **memory}, "context", tuple(memory)
    )


def _head(policy: StructurePolicy, generator: torch.Generator) -> StageSpec:
    config, head, history = policy.config, policy.answering, policy.history
    behind = bool(history.memory)
    shape, name = ((history.tokens, history.out), "context") if behind else ((history.width,), "feature")
    read = {name: torch.randn(1, *shape, generator=generator)}
    committing, chunk = _committing(config, generator)

    def context(given: Spec) -> Tensor:
        return given[name] if behind else history.step(given[name])[0]

    if isinstance(head, Stepped):
        noisy = {"noisy": chunk.clone(), "t": torch.zeros(1)}

        def step(given: Spec) -> Tensor:
            return head.step(context(given), *_prefix(given, chunk), given["noisy"], given["t"])

        stepped = {**read, **committing, **noisy}
        return StageSpec("head", _Traced(policy, step, stepped), stepped, ("chunk",), head.times)

    def answer(given: Spec) -> Tensor:
        return head.answer(context(given), given.get("noise", chunk), *_prefix(given, chunk))

    inputs = {**read, **({"noise": chunk.clone()} if head.noise else {}), **committing}
    return StageSpec("head", _Traced(policy, answer, inputs), inputs, ("chunk",))


def _spoken(policy: StructurePolicy, heard: Spec, generator: torch.Generator) -> StageSpec:
    committing, chunk = _committing(policy.config, generator)
    inputs = {**heard, **committing, "noisy": chunk.clone(), "t": torch.zeros(1)}

    def step(given: Spec) -> Tensor:
        prefix, mask = _prefix(given, chunk)
        said = committed(given["noisy"], prefix, mask)
        scores = policy.say(given["vision"], given["words"], given["token_mask"], given["state"], said)
        return committed(policy.saying.said(said, scores, given["t"]), prefix, mask)

    return StageSpec("head", _Traced(policy, step, inputs), inputs, ("chunk",), policy.saying.times)


def _committing(config: StructureConfig, generator: torch.Generator) -> tuple[Spec, Tensor]:
    """Example prefix with its mask, of a policy that takes one, and a chunk."""
    chunk = torch.randn(1, config.horizon, config.actions, generator=generator)
    mask = (torch.arange(config.horizon) < min(2, config.d_max)).float()[None, :, None]
    return ({"prefix": chunk.clone(), "prefix_mask": mask} if config.d_max else {}), chunk


def _prefix(given: Spec, chunk: Tensor) -> tuple[Tensor, Tensor]:
    """Prefix and mask; of a policy that takes none: nothing is committed."""
    if "prefix" in given:
        return given["prefix"], given["prefix_mask"]
    return torch.zeros_like(chunk), torch.zeros_like(chunk[..., :1])


def _spec(
    name: str, used: nn.Module, run: Callable[[Spec], Tensor | tuple[Tensor, ...]], inputs: Spec, answer: str,
    memory: tuple[str, ...],
) -> StageSpec:  # fmt: skip
    def alone(given: Spec) -> Tensor | tuple[Tensor, ...]:
        found = run(given)
        return found if memory else found[0]

    return StageSpec(name, _Traced(used, alone, inputs), inputs, (answer, *(key + NEXT for key in memory)))
