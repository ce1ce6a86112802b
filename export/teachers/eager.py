"""Any teacher in torch eager, behind the same interface as the run-time engine: observation in, action chunk out."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.bundle.reader import Bundle
from edgevla.errors import BadInput, explain
from edgevla.policy.preprocess import Float32, prefix_tensors
from edgevla.policy.setpoints import integrate
from export.distill.feed import fit
from export.teachers.interface import TeacherPolicy


class EagerPolicy:
    """A teacher with one camera, in the loop of a bundle that was made from it.

    Args:
        teacher: loaded, in evaluation mode.
        bundle: says what its actions mean, and has the noise it starts from.
        replan: ticks between two inferences; observations of a teacher that looks back are so far apart.
        noise: (H, Z), in place of the bundle's.
        fresh_noise: draw the noise anew at every inference, from the words and the first picture of the episode:
            played again, it is the same.

    Raises:
        BadInput: it needs more cameras than one or other moments, or bundle and teacher are not of one policy.
    """

    def __init__(
        self, teacher: TeacherPolicy, bundle: Bundle, replan: int, fresh_noise: bool = False,
        noise: npt.NDArray[np.float32] | None = None,
    ) -> None:  # fmt: skip
        _require_fits(teacher, bundle, replan)
        spec, channels = teacher.spec, bundle.manifest.channels
        self._teacher, self._spec = teacher, spec
        self._delta = np.array([channel.kind == "delta" for channel in channels])
        self._low = np.array([channel.minimum for channel in channels], np.float32)
        self._high = np.array([channel.maximum for channel in channels], np.float32)
        none = np.zeros((spec.horizon, spec.noise), np.float32)
        noise = next((given for given in (noise, bundle.noise) if given is not None), none)
        self._noise = None if fresh_noise and spec.noise else torch.from_numpy(np.array(noise))[None]
        self._scale = float(getattr(teacher, "noise_scale", 1.0))
        self._generator: torch.Generator | None = None
        self._past: deque[tuple[Float32, Float32]] = deque(maxlen=spec.observations)
        self._text, self._words = "", dict[str, Tensor]()

    def set_instruction(self, text: str) -> None:
        """Later inferences act on it; what was observed before counts no more. Raises BadInput: words unheard of."""
        tokens, mask = self._teacher.tokenize(text)
        self._words = {"tokens": torch.from_numpy(tokens)[None], "token_mask": torch.from_numpy(mask)[None]}
        self._text, self._generator = text, None
        self._past.clear()

    @torch.inference_mode()
    def infer(self, image: npt.NDArray[np.uint8] | Mapping[str, Any], state: Float32, prefix: Float32) -> Float32:
        """One chunk float32 (H, A), normalised; the arguments are those of `edgevla.policy.engine.PolicyEngine`."""
        spec = self._spec
        picture = image[spec.cameras[0].name] if isinstance(image, Mapping) else image
        rows, mask = (torch.from_numpy(part) for part in prefix_tensors(prefix, spec.horizon, spec.d_max))
        inputs = {**self._words, **self._observed(picture, state)}
        chunk = self._teacher(inputs, self._draw(picture), rows, mask)
        return np.ascontiguousarray(chunk[0].numpy())

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Absolute set-points (H, A), see `edgevla.policy.setpoints.integrate`."""
        actions = self._spec.action_stats.invert(chunk)
        return integrate(actions, anchor, d, self._delta, self._low, self._high)

    def _observed(self, picture: npt.NDArray[np.uint8], state: Float32) -> dict[str, Tensor]:
        """This observation behind those before it; the first one stands for all that came before."""
        seen = (fit(picture[None], self._spec.cameras[0]), self._spec.state_stats.apply(state))
        self._past.extend([seen] * (1 if self._past else self._spec.observations))
        pictures, states = (np.concatenate(column) for column in zip(*self._past, strict=True))
        return {
            "image": torch.from_numpy(pictures)[None],
            "camera_mask": torch.ones(1, len(pictures)),
            "state": torch.from_numpy(states)[None],
        }

    def _draw(self, picture: npt.NDArray[np.uint8]) -> Tensor:
        if self._noise is not None:
            return self._noise
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(zlib.crc32(self._text.encode() + picture.tobytes()))
        return self._scale * torch.randn((1, self._spec.horizon, self._spec.noise), generator=self._generator)


def _require_fits(teacher: TeacherPolicy, bundle: Bundle, replan: int) -> None:
    """One camera, moments as far apart as inferences, and the bundle's actions and noise. Raises BadInput."""
    spec, channels = teacher.spec, bundle.manifest.channels
    offset, scale = ([getattr(channel, key) for channel in channels] for key in ("offset", "scale"))
    stats = spec.action_stats
    apart = spec.stride if spec.observations > 1 else replan
    shape = None if bundle.noise is None else bundle.noise.shape
    wrong = {
        "cameras of the teacher": (1, len(spec.cameras)),
        "ticks between its observations": (replan, apart),
        "channels": ([channel.name for channel in channels], list(spec.actions)),
        "offset and scale of its actions": (_rounded(offset, scale), _rounded(stats.offset, stats.scale)),
        "shape of its noise": (shape or (spec.horizon, 0), (spec.horizon, spec.noise)),
    }
    for what, (expected, got) in wrong.items():
        if expected != got:
            todo = "play a teacher with the bundle that was made from it"
            raise BadInput(explain(f"{what} in {bundle.path.name}", expected, got, todo))


def _rounded(*rows: Any) -> list[list[float]]:
    """To six digits: the manifest is text."""
    return [[float(f"{float(value):.6g}") for value in row] for row in rows]
