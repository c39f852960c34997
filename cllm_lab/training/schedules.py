"""Learning rate as a function of the step.

With the step t counted from 1, warm-up w, horizon N = total_steps, peak r = learning_rate, floor m =
min_learning_rate and progress s = (t - w) / (N - w), clipped at 1 beyond the horizon:

    warm-up    r t / w                             while t <= w                Vaswani et al. 2017, section 5.3
    constant   r
    cosine     m + (r - m) (1 + cos(pi s)) / 2                                 Loshchilov & Hutter 2017, eq. 5
    step       r for s <= 1/2, r / 10 for s <= 3/4, r / 100 after, never below m    He et al. 2016, section 4.2
"""

from __future__ import annotations

import math

from cllm_lab.model.config import ConfigError
from cllm_lab.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """The rate of step t >= 1. Raises ConfigError where the schedule needs a horizon and has none."""
    peak, floor, warmup = config.learning_rate, config.min_learning_rate, config.warmup_steps
    if step <= warmup:
        return peak * (step / warmup)
    if config.schedule == "constant":
        return peak
    if total_steps is None:
        raise ConfigError(
            f"schedule={config.schedule!r} needs total_steps, the step at which it ends; "
            "run(epochs=...) and run(steps=...) set it, step() and steps() cannot"
        )
    if total_steps <= warmup:
        raise ConfigError(f"warmup_steps={warmup} must be below the {total_steps} steps of the schedule")
    progress = min(1.0, (step - warmup) / (total_steps - warmup))
    if config.schedule == "cosine":
        return floor + 0.5 * (peak - floor) * (1.0 + math.cos(math.pi * progress))
    if progress <= 0.5:
        return peak
    return max(floor, peak / 10.0 if progress <= 0.75 else peak / 100.0)
