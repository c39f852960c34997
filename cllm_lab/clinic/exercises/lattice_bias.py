"""An exercise on the lattice in attention: back through what a learned strength adds to the scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array


def bias_backward(dbiased: Array, strengths: Array, feature: Array) -> tuple[Array, Array]:
    """(dS, ds) of S'[b, h, i, j] = S[b, h, i, j] + s[h] f[b, i, j], from dS' = ``dbiased`` (B, H, T, T).

    ``strengths`` s (H,), ``feature`` f (B, T, T).   dS = dS' (B, H, T, T);   ds_h = sum_bij dS'[b, h, i, j] f[b, i, j]
    """
    return dbiased.copy(), _sums(dbiased, feature)


def _sums(dbiased: Array, feature: Array) -> Array:
    """sum_bij dS'[b, h, i, j] f[b, i, j], (H,)."""
    return np.einsum("bhij,bij->h", dbiased, feature)


def _points(rng: np.random.Generator) -> Iterator[tuple[Array, ...]]:
    """f[i, j] is not f[j, i], and no row of dS' adds up to 0, so that less is the same by chance."""
    for B, H, T in ((3, 2, 4), (2, 3, 5), (2, 2, 3)):
        yield (
            rng.standard_normal((B, H, T, T)),
            1.0 + rng.random(H),
            rng.standard_normal((B, T, T)),
        )


BIAS_BACKWARD = Exercise(
    name="bias-backward",
    parameters=("dbiased", "strengths", "feature"),
    returns=("dscores", "dstrengths"),
    asked="The gradients of the scores (B, H, T, T) and of the strengths (H,) from that of the biased scores "
    "(B, H, T, T), where strengths[h] times feature (B, T, T) was added to the scores of head h.",
    inputs=_points,
    solution=bias_backward,
    mistakes=(
        Mistake(
            "zero: the strength then stays where it was set",
            lambda dbiased, strengths, feature: {"dstrengths": np.zeros_like(strengths)},
        ),
        Mistake(
            "times the strength: that multiplies the feature; a sum hands its gradient on as it is",
            lambda dbiased, strengths, feature: {
                "dscores": dbiased * strengths[:, None, None],
                "dstrengths": strengths * _sums(dbiased, feature),
            },
        ),
        Mistake(
            "the bias was added once more: what was added forwards does not depend on the scores",
            lambda dbiased, strengths, feature: {
                "dscores": dbiased + strengths[:, None, None] * feature[:, None]
            },
        ),
        Mistake(
            "times the feature: that is the way to the strengths; a sum hands its gradient on as it is",
            lambda dbiased, strengths, feature: {"dscores": dbiased * feature[:, None]},
        ),
        Mistake(
            "the feature is missing: how much a strength moves a score is what it is multiplied with",
            lambda dbiased, strengths, feature: {"dstrengths": dbiased.sum(axis=(0, 2, 3))},
        ),
        Mistake(
            "the feature stands transposed: [i, j] of the gradient belongs to [i, j] of the feature",
            lambda dbiased, strengths, feature: {"dstrengths": _sums(dbiased, feature.swapaxes(1, 2))},
        ),
        Mistake(
            "one sum for all heads: each head has a strength of its own",
            lambda dbiased, strengths, feature: {
                "dstrengths": np.full_like(strengths, _sums(dbiased, feature).sum())
            },
        ),
        Mistake(
            "one number for all heads: each head has a strength of its own",
            lambda dbiased, strengths, feature: {"dstrengths": _sums(dbiased, feature).sum()},
        ),
        Mistake(
            "the last window alone: every window's share must be added",
            lambda dbiased, strengths, feature: {"dstrengths": _sums(dbiased[-1:], feature[-1:])},
        ),
        Mistake(
            "divided by the number of windows: the mean is in the loss already, so sum over them",
            lambda dbiased, strengths, feature: {"dstrengths": _sums(dbiased, feature) / len(feature)},
        ),
        Mistake(
            "a mean over pairs: the mean is in the loss already, so sum over them",
            lambda dbiased, strengths, feature: {"dstrengths": _sums(dbiased, feature) / feature.size},
        ),
        Mistake(
            "multiplied after adding up: the sum of products is not the product of sums",
            lambda dbiased, strengths, feature: {"dstrengths": dbiased.sum(axis=(0, 2, 3)) * feature.sum()},
        ),
    ),
)

EXERCISES = (BIAS_BACKWARD,)
