"""Are the gradients those of the loss? Central differences against the backward pass, tensor by tensor."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cllm_lab.model.parameters import Parameters
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream

STEP = 1e-4
DIRECTIONS = 2
FLOOR = 1e-3


@runtime_checkable
class Differentiable(Protocol):
    """What the check asks of what it checks: a `Transformer` has it, and so has a trainer."""

    @property
    def params(self) -> Parameters:
        """The parameters, live."""
        ...

    def astype(self, dtype: DTypeLike) -> Any:
        """The same with numbers of another kind, in memory of its own."""
        ...

    def loss(self, tokens: ArrayLike, targets: ArrayLike) -> float:
        """The loss of a batch (B, T)."""
        ...

    def gradients(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[float, Parameters]:
        """The loss, and the gradient that is said to be its own."""
        ...


def gradient_check(
    model: Differentiable,
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

    ``model`` may be a trainer, so that the loss which it reports, penalties and all, is held against the gradient which
    it follows. Its loss is taken without dropout.

    Returns name -> error; healthy machines stay below 1e-6. The model is left as it was, bit for bit.
    Raises TypeError for a model without ``params``, ``astype``, ``loss`` and ``gradients``, and for a ``dropout_seed``
    with any but a `Transformer`; for a batch as ``model.gradients`` does.
    """
    if not isinstance(model, Differentiable):
        raise TypeError(
            "model must be a Transformer or a trainer, with params, astype, loss and gradients; "
            f"got {type(model).__name__}"
        )
    if dropout_seed is not None and not isinstance(model, Transformer):
        raise TypeError(
            f"dropout_seed={dropout_seed!r} belongs to a Transformer; the loss of a {type(model).__name__} "
            "is taken without dropout"
        )
    twin = model.astype("float64")
    batch = (tokens, targets) if dropout_seed is None else (tokens, targets, dropout_seed)
    twin.params.flat[:] = random_point(twin.params, seed).flat
    _, grads = twin.gradients(*batch)
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
                losses.append(twin.loss(*batch))
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
