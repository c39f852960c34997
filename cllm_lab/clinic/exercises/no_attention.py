"""An exercise on machines without attention: the levels below which they cannot come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def one_token_floors(counts: Array) -> tuple[float, float]:
    """(H2, positional) in nats from counts (T, V, V): how often, at position t, token j follows token i.

    H2 = H(next | token),   positional = H(next | token, position)
    """
    return _given_first(counts.sum(axis=0)), _given_first(counts)


def _given_first(counts: Array) -> float:
    """sum n(c, j)/n ln(n(c) / n(c, j)): the last axis is predicted, all axes before it are known; 0 ln 0 = 0."""
    known = np.broadcast_to(counts.sum(axis=-1, keepdims=True), counts.shape)
    used = counts > 0.0
    return float(np.sum(counts[used] * np.log(known[used] / counts[used])) / counts.sum())


def _entropy(counts: Array) -> float:
    shares = counts[counts > 0.0] / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


def _position_counts(rng: np.random.Generator) -> Cases:
    """Positions that are not equally frequent, and pairs that never occur."""
    for T, V in ((3, 4), (5, 3), (2, 6)):
        counts = rng.integers(1, 9, (T, V, V)) * (rng.random((T, V, V)) < 0.7)
        # Draws could leave out no pair, and make positions equally frequent.
        counts[:, 0, 0] = 0
        counts[0] = 3 * (counts[0] + 1 - np.eye(V, dtype=int))
        yield (counts.astype(np.float64),)


def _mean_over_positions(of: Callable[[Array], float]) -> Callable[[Array], dict[str, Array]]:
    return lambda counts: {"positional": np.array(np.mean([of(at) for at in counts]))}


def _without_zero_rule(counts: Array) -> dict[str, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):

        def level(some: Array) -> Array:
            return -np.sum(some / some.sum() * np.log(some / some.sum(axis=-1, keepdims=True)))

        return {"bigram": level(counts.sum(axis=0)), "positional": level(counts)}


def _both(of: Callable[[Array], tuple[float, float]]) -> Callable[[Array], dict[str, Array]]:
    return lambda counts: dict(zip(("bigram", "positional"), map(np.array, of(counts)), strict=True))


ONE_TOKEN_FLOORS = Exercise(
    name="one-token-floors",
    parameters=("counts",),
    returns=("bigram", "positional"),
    asked="H(next | token) and H(next | token, position) in nats, where counts[t, i, j] (T, V, V) is how often "
    "token j follows token i at position t; positions are not equally frequent, some pairs never occur.",
    inputs=_position_counts,
    solution=one_token_floors,
    mistakes=(
        Mistake(
            "the position is still known here: add the counts up over the positions before anything else",
            lambda counts: {"bigram": np.array(one_token_floors(counts)[1])},
        ),
        Mistake(
            "the position is lost here: each position has a table of its own, with sums of its own",
            lambda counts: {"positional": np.array(one_token_floors(counts)[0])},
        ),
        Mistake(
            "a plain mean over the positions: a position counts as often as it occurs",
            _mean_over_positions(_given_first),
        ),
        Mistake(
            "the position is known and the token is not: divide by the sum over what follows, not by that of the "
            "whole position",
            lambda counts: {"positional": np.array(_given_first(counts.sum(axis=1)))},
        ),
        Mistake(
            "this is the entropy of all that was counted; under the logarithm belongs the share of what follows",
            _both(lambda counts: (_entropy(counts.sum(axis=0)), _entropy(counts))),
        ),
        Mistake(
            "this is how uncertain the token is, given the one after it: divide by the sums over the last axis",
            _both(lambda counts: one_token_floors(counts.swapaxes(1, 2))),
        ),
        Mistake(
            "in bits: a nat belongs to the natural logarithm, np.log",
            _both(lambda counts: tuple(np.array(one_token_floors(counts)) / np.log(2.0))),
        ),
        Mistake(
            "0 ln 0 came out as NaN: it counts as 0, so leave out what never occurs before you take the logarithm",
            _without_zero_rule,
        ),
    ),
)

EXERCISES = (ONE_TOKEN_FLOORS,)
