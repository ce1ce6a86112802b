"""SimplerEnv's count: success in simulation by task and setting, and how well it ranks what real robots did. Pure.

Settings are means of their variants, each variant with the same weight whatever its number of episodes: *visual
matching* (the picture made like the real one) and *variant aggregation* (background, light, distractors, table).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgevla.errors import BadInput, explain


def setting_success(variants: Mapping[str, Sequence[bool]]) -> float:
    """Mean over variants of their share of successes. Raises BadInput: a variant without episodes, or none."""
    empty = [name for name, flags in variants.items() if not len(flags)]
    if empty or not variants:
        got = f"none for {', '.join(empty)}" if empty else "no variant"
        raise BadInput(explain("a setting of SimplerEnv", "episodes of each variant", got, "play them"))
    return float(np.mean([np.mean(flags) for flags in variants.values()]))


def pearson(simulated: Sequence[float], real: Sequence[float]) -> float:
    """Correlation of success over policies; 1 where both are constant alike, 0 where only one is constant."""
    x, y = _pair(simulated, real)
    x, y = x - x.mean(), y - y.mean()
    if np.allclose(x, y):
        return 1.0
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def rank_violation(simulated: Sequence[float], real: Sequence[float]) -> float:
    """Mean maximum rank violation: over policies, the largest real difference to one that simulation ranks wrongly."""
    x, y = _pair(simulated, real)
    wrong = (x[:, None] > x) != (y[:, None] > y)
    return float((wrong * np.abs(y[:, None] - y)).max(axis=1).mean())


def _pair(simulated: Sequence[float], real: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(simulated, float), np.asarray(real, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2 or not np.isfinite([*x, *y]).all():
        expected, got = "success of the same policies, two or more", f"{x.shape} and {y.shape}"
        raise BadInput(explain("agreement of simulation and robot", expected, got, "give both for each policy"))
    return x, y
