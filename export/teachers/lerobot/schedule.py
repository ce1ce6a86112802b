"""How noise is taken away step by step: DDIM (Song et al. 2020, eq. 12) and DDPM (Ho et al. 2020, eq. 6, 7).

DDIM is deterministic: the chunk is a function of observation and starting noise. DDPM draws fresh noise at every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edgevla.errors import BadInput, explain
from export.teachers.lerobot.folder import PolicyFolder


@dataclass(frozen=True)
class Schedule:
    """What of the signal is left at each time of training, and the times that inference visits, falling."""

    kept: Tensor  # float32 (training steps,), product of alphas up to and with time t
    kept_next: Tensor  # float32 (training steps,), the same one inference step later; 1 past the end
    times: tuple[int, ...]
    predicts: str  # epsilon: the network answers the noise | sample: the clean chunk
    clip: float | None  # bound of the clean chunk, normalised

    def clean_and_noise(self, x: Tensor, answer: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The clean chunk, clipped, and the noise, both as the network sees them in x (B, rows, A)."""
        if self.predicts == "epsilon":
            clean, noise = (x - (1 - kept).sqrt() * answer) / kept.sqrt(), answer
        else:
            clean, noise = answer, (x - kept.sqrt() * answer) / (1 - kept).sqrt()
        return (clean if self.clip is None else clean.clamp(-self.clip, self.clip)), noise

    def ddim(self, x: Tensor, answer: Tensor, kept: Tensor, kept_next: Tensor) -> Tensor:
        """x one step less noisy."""
        clean, noise = self.clean_and_noise(x, answer, kept)
        return kept_next.sqrt() * clean + (1 - kept_next).sqrt() * noise

    def ddpm(self, x: Tensor, answer: Tensor, time: int, fresh: Tensor) -> Tensor:
        """x one step less noisy, with `fresh` noise put back, except after the last step."""
        kept, kept_next = self.kept[time], self.kept_next[time]
        clean, _ = self.clean_and_noise(x, answer, kept)
        alpha = kept / kept_next
        mean = kept_next.sqrt() * (1 - alpha) / (1 - kept) * clean + alpha.sqrt() * (1 - kept_next) / (1 - kept) * x
        if time == 0:
            return mean
        variance = (1 - kept_next) / (1 - kept) * (1 - alpha)
        return mean + variance.clamp(min=1e-20).sqrt() * fresh


def schedule_of(folder: PolicyFolder, steps: int | None) -> Schedule:
    """The schedule of a diffusion policy.

    Args:
        folder: its config counts.
        steps: of inference; None: as many as the config says.

    Raises:
        BadInput: a schedule or prediction that we do not know, or more steps than it was trained with.
    """
    trained = folder.setting("num_train_timesteps", 100)
    wanted = folder.config.get("num_inference_steps") or trained if steps is None else steps
    predicts, clips = folder.setting("prediction_type", "epsilon"), folder.setting("clip_sample", True)
    if predicts not in ("epsilon", "sample") or not 1 <= wanted <= trained:
        expected = f"prediction_type epsilon or sample, 1 to {trained} steps"
        raise BadInput(explain("schedule of diffusion", expected, f"{predicts}, {wanted} steps", "check config.json"))
    stride = trained // wanted
    kept = torch.cumprod(1 - _betas(folder, trained), dim=0)
    kept_next = torch.cat([torch.ones(stride), kept])[:trained]
    times = tuple(range((wanted - 1) * stride, -1, -stride))
    clip = folder.setting("clip_sample_range", 1.0) if clips else None
    return Schedule(kept, kept_next, times, predicts, clip)


def _betas(folder: PolicyFolder, count: int) -> Tensor:
    """Share of noise that training adds at each time, float32 (count,)."""
    name = folder.setting("beta_schedule", "squaredcos_cap_v2")
    start, end = folder.setting("beta_start", 0.0001), folder.setting("beta_end", 0.02)
    if name == "linear":
        return torch.linspace(start, end, count)
    if name == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count) ** 2
    if name == "squaredcos_cap_v2":
        left = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
        return torch.tensor([min(1 - left[i + 1] / left[i], 0.999) for i in range(count)])
    expected = "linear, scaled_linear or squaredcos_cap_v2"
    raise BadInput(explain("beta_schedule of diffusion", expected, name, "check config.json"))
