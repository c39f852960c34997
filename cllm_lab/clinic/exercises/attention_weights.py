"""An exercise on attention that looks the wrong way: the weights of one causal head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def causal_weights(scores: Array) -> Array:
    """A[i, j] = exp(S[i, j]) / sum over k <= i of exp(S[i, k]) for j <= i, else 0; scores S (T, T).

    The largest visible score of a row is subtracted first: hidden scores decide nothing.
    """
    return _softmax(np.where(_visible(scores), scores, -np.inf))


def _visible(scores: Array) -> Array:
    return np.tri(len(scores), dtype=bool)


def _softmax(scores: Array, axis: int = -1) -> Array:
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def _scores(rng: np.random.Generator) -> Cases:
    """Rows that spread by more than 1; rows far from 0; hidden scores far above all visible ones."""
    yield (2.0 * rng.standard_normal((5, 5)),)
    far = rng.permuted([1000.0, -1000.0, 0.0, 500.0])
    yield (far[:, None] + rng.standard_normal((4, 4)),)
    yield (rng.standard_normal((6, 6)) + 2000.0 * np.triu(np.ones((6, 6)), 1),)


def _quietly(weights: Callable[[Array], Array]) -> Callable[[Array], dict[str, Array]]:
    """A mistake that may overflow on its way."""

    def outputs(scores: Array) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return {"weights": weights(scores)}

    return outputs


def _linear(scores: Array) -> Array:
    visible = _visible(scores)
    shifted = scores - np.where(visible, scores, -np.inf).max(axis=-1, keepdims=True)
    exponentials = np.where(visible, 1.0 + shifted, 0.0)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _without_maximum(scores: Array) -> Array:
    exponentials = np.where(_visible(scores), np.exp(scores), 0.0)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _maximum_of_hidden(scores: Array) -> Array:
    exponentials = np.where(_visible(scores), np.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


CAUSAL_WEIGHTS = Exercise(
    name="causal-weights",
    parameters=("scores",),
    returns=("weights",),
    asked="The attention weights (T, T) of one causal head from its scores (T, T): row i is the softmax of the "
    "scores at j <= i, and 0 elsewhere.",
    inputs=_scores,
    solution=causal_weights,
    mistakes=(
        Mistake("there is no mask: row i may look at j <= i and nowhere else", _quietly(_softmax)),
        Mistake(
            "the mask is the wrong way round: this row looks at itself and at what comes later",
            _quietly(lambda scores: _softmax(np.where(_visible(scores).T, scores, -np.inf))),
        ),
        Mistake(
            "the mask hides a position from itself as well: j = i is visible, and row 0 sees nothing else",
            _quietly(
                lambda scores: _softmax(np.where(np.tri(len(scores), k=-1, dtype=bool), scores, -np.inf))
            ),
        ),
        Mistake(
            "hidden scores were set to 0, and exp(0) is 1: put minus infinity there before the softmax",
            _quietly(lambda scores: _softmax(np.where(_visible(scores), scores, 0.0))),
        ),
        Mistake(
            "masked after the softmax: the hidden weights are gone and the rest no longer sums to 1",
            _quietly(lambda scores: np.where(_visible(scores), _softmax(scores), 0.0)),
        ),
        Mistake(
            "normalised down the columns: the weights of each row, over the keys, must sum to 1 (axis -1)",
            _quietly(lambda scores: _softmax(np.where(_visible(scores), scores, -np.inf), axis=0)),
        ),
        Mistake("1 + x stands in the place of exp(x), which makes weights below 0", _quietly(_linear)),
        Mistake(
            "exp overflows for scores near 1000: subtract the largest of each row first",
            _quietly(_without_maximum),
        ),
        Mistake(
            "the maximum was taken over hidden scores too, and what is visible vanished beside it: mask first",
            _quietly(_maximum_of_hidden),
        ),
    ),
)

EXERCISES = (CAUSAL_WEIGHTS,)
