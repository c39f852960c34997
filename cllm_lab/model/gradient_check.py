"""Are the gradients those of the loss? Central differences against the backward pass, tensor by tensor."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.model.parameters import Parameters
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream

STEP = 1e-4
DIRECTIONS = 2
FLOOR = 1e-3


def gradient_check(
    model: Transformer,
    tokens: ArrayLike,
    targets: ArrayLike,
    seed: int = 0,
    dropout_seed: int | None = None,
) -> Mapping[str, float]:
    """Worst relative error of each tensor's gradient, in float64, at a random point near the model's own.

    For a tensor with gradient g and random unit directions u,

        numeric = (8 [L(p + h u) - L(p - h u)] - [L(p + 2h u) - L(p - 2h u)]) / 12 h,   analytic = g . u
        error   = |numeric - analytic| / max(|numeric|, |analytic|, 1e-3 |all gradients|)

    (the central difference of fourth order: Abramowitz & Stegun 1964, 25.3.6). The floor in the denominator is
    there because some gradients are 0 by right: a constant added to every key changes no softmax. The point is
    random (gains near but not at 1, biases not 0) because the natural one hides mistakes: at gamma = 1 a layer
    norm whose backward lacks a whole term can pass. ``dropout_seed`` replays the same masks in every evaluation.

    Returns name -> error; healthy machines stay below 1e-6. The model is left as it was.
    """
    twin = model.astype("float64")
    inputs, wanted = twin.require_batch(tokens, targets)
    twin.params.flat[:] = random_point(twin.params, seed).flat
    _, grads = twin.gradients(inputs, wanted, dropout_seed)
    scale = FLOOR * float(np.linalg.norm(grads.flat))
    errors = {}
    for name, view in twin.params.items():
        rng = stream(seed, "check", zlib.crc32(name.encode()))
        home = view.copy()
        worst = 0.0
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(view.shape)
            direction /= np.linalg.norm(direction)

            losses = []
            for steps in (2.0, 1.0, -1.0, -2.0):
                view[...] = home + steps * STEP * direction
                losses.append(twin.loss(inputs, wanted, dropout_seed))
            view[...] = home
            numeric = (8.0 * (losses[1] - losses[2]) - (losses[0] - losses[3])) / (12.0 * STEP)
            analytic = float(np.vdot(grads[name], direction))
            difference = abs(numeric - analytic)
            denominator = max(abs(numeric), abs(analytic), scale)
            error = difference / denominator if denominator > 0.0 else difference
            # A NaN must come out as the worst error, and max() would drop it.
            worst = float(np.maximum(worst, error))
        errors[name] = worst
    return errors


def random_point(params: Parameters, seed: int) -> Parameters:
    """A copy moved off every special value: each number plus N(0, s^2), s = 0.3 for gains, 0.1 otherwise."""
    moved = params.copy()
    for spec in moved.specs:
        rng = stream(seed, "check", 1, zlib.crc32(spec.name.encode()))
        deviation = 0.3 if spec.role == "gain" else 0.1
        moved[spec.name][...] += rng.normal(0.0, deviation, spec.shape)
    return moved
