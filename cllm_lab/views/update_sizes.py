"""How long the first steps of an optimizer are, as a function of the gradient's size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.model.config import require_count
from cllm_lab.model.parameters import Array
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.optimizers import optimizers
from cllm_lab.views.lines import line_chart
from cllm_lab.views.picture import Picture

MAGNITUDES = np.logspace(-10, 0, 201)


def update_sizes(config: TrainConfig, magnitudes: ArrayLike, steps: int = 1) -> Array:
    """|update| / learning rate of the last of so many steps on a gradient g that stays, for each |g| (n,).

    Taken from the optimizer itself, in float64 from parameters 0, without clipping.
    Raises ConfigError for ``steps`` below 1, ValueError for magnitudes that are not one row above 0 or for a
    learning rate of 0.
    """
    gradients = np.asarray(magnitudes, float)
    if gradients.ndim != 1 or gradients.size == 0 or not np.all(gradients > 0.0):
        raise ValueError("magnitudes must be a row of numbers above 0")
    if config.learning_rate == 0.0:
        raise ValueError("learning_rate must be above 0 to measure an update in its terms")
    optimizer = optimizers("reference")[config.optimizer]
    moments = {name: np.zeros_like(gradients) for name in optimizer.moments}
    params = np.zeros_like(gradients)
    for step in range(1, require_count("steps", steps) + 1):
        before = params.copy()
        optimizer.update(params, gradients, moments, config.learning_rate, step, 1.0, config)
    return np.abs(params - before) / config.learning_rate


def update_size_curves(
    configs: Mapping[str, TrainConfig], steps: int = 1, marks: Mapping[str, float] | None = None
) -> Picture:
    """|update| / learning rate against |g| from 1e-10 to 1, both logarithmic, a line a configuration.

    ``marks``: |g| of vertical reference lines, by name. The words give every line's value at each of them.
    """
    named = dict(marks or {})
    sizes = {name: update_sizes(config, MAGNITUDES, steps) for name, config in configs.items()}
    sentences = []
    for name, config in configs.items():
        at = [f"{update_sizes(config, [g], steps)[0]:.3g} at {label}" for label, g in named.items()]
        sentences.append(f"{name}: " + (", ".join(at) or f"{sizes[name][-1]:.3g} at |g| = 1") + ".")
    return line_chart(
        {name: (MAGNITUDES, values) for name, values in sizes.items()},
        x_label="|g|",
        y_label="|update| / learning rate",
        words=f"Length of step {steps} in units of the learning rate. " + " ".join(sentences),
        marks=named,
        log_x=True,
        log_y=True,
    )
