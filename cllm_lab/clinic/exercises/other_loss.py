"""An exercise on the other loss of document 002: the squared error to target embeddings, both paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def squared_error_backward(hidden: Array, embedding: Array, targets: Array) -> tuple[Array, Array]:
    """(dhidden, dembedding) of L = mean over n of |h_n - E[y_n]|^2; h (N, C), E (V, C), y = targets (N,).

    dh_n = 2 (h_n - E[y_n]) / N;   dE[v] = -sum over n with y_n = v of dh_n
    """
    dhidden = _dhidden(hidden, embedding, targets)
    return dhidden, _summed_at(targets, -dhidden, embedding)


def _dhidden(hidden: Array, embedding: Array, targets: Array) -> Array:
    return 2.0 * (hidden - embedding[targets]) / len(targets)


def _summed_at(targets: Array, rows: Array, embedding: Array) -> Array:
    total = np.zeros_like(embedding)
    np.add.at(total, targets, rows)
    return total


def _hidden_states(rng: np.random.Generator) -> Cases:
    """A target occurs twice, one never, and no two of N, V and C are equal."""
    for N, V, C in ((5, 4, 3), (6, 7, 2), (8, 5, 4)):
        targets = rng.integers(1, V - 1, N)
        targets[:3] = (0, 1, 1)
        yield rng.standard_normal((N, C)), rng.standard_normal((V, C)), targets


def _overwritten(hidden: Array, embedding: Array, targets: Array) -> Array:
    rows = np.zeros_like(embedding)
    rows[targets] = -_dhidden(hidden, embedding, targets)
    return rows


def _scaled(factor: str) -> Callable[..., dict[str, Array]]:
    def outputs(hidden: Array, embedding: Array, targets: Array) -> dict[str, Array]:
        by = {"half": 0.5, "sum": len(targets), "entries": 1.0 / hidden.shape[1], "sign": -1.0}[factor]
        dhidden, dembedding = squared_error_backward(hidden, embedding, targets)
        return {"dhidden": by * dhidden, "dembedding": by * dembedding}

    return outputs


SQUARED_ERROR = Exercise(
    name="squared-error-backward",
    parameters=("hidden", "embedding", "targets"),
    returns=("dhidden", "dembedding"),
    asked="The gradients, with respect to hidden (N, C) and embedding (V, C), of the mean over N tokens of "
    "|hidden[n] - embedding[targets[n]]|^2.",
    inputs=_hidden_states,
    solution=squared_error_backward,
    mistakes=(
        Mistake(
            "the target path is missing: the target's embedding is a parameter too, and the loss pulls at it",
            lambda hidden, embedding, targets: {"dembedding": np.zeros_like(embedding)},
        ),
        Mistake(
            "the target path has the wrong sign: h and E[y] stand on either side of the minus",
            lambda hidden, embedding, targets: {
                "dembedding": _summed_at(targets, _dhidden(hidden, embedding, targets), embedding)
            },
        ),
        Mistake(
            "a target that occurs twice keeps its last share alone: dembedding[targets] -= ... adds once, "
            "np.subtract.at adds every time",
            lambda hidden, embedding, targets: {"dembedding": _overwritten(hidden, embedding, targets)},
        ),
        Mistake("the 2 of the square is missing", _scaled("half")),
        Mistake("this belongs to the sum over the tokens; the loss is their mean", _scaled("sum")),
        Mistake(
            "this belongs to the mean over the coordinates too; over those the loss is a sum",
            _scaled("entries"),
        ),
        Mistake("this points downhill: a gradient is the direction in which the loss rises", _scaled("sign")),
    ),
)

EXERCISES = (SQUARED_ERROR,)
