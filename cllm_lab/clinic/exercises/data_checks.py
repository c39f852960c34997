"""An exercise on the data: which of a text's pairs a machine is fed, and which of what it is fed the text has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake, Value
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def pairs_covered(text: Array, inputs: Array, targets: Array) -> tuple[float, float]:
    """(covered, foreign) from a text's ids (n,) and the windows (N, T) that a machine is trained on.

    With c(x, y) how often y follows x in the text, and b(x, y) how often y is the target of x in the windows:

        covered = sum_xy min(c, b) / (n - 1);   foreign = sum_xy (b - min(c, b)) / (N T)
    """
    common = _common(_keys(text[:-1], text[1:]), _keys(inputs.ravel(), targets.ravel()))
    return common / (len(text) - 1), (targets.size - common) / targets.size


def _keys(first: Array, second: Array) -> Array:
    """One number a pair of ids below 1000."""
    return first * 1000 + second


def _common(keys: Array, others: Array) -> float:
    """How many of two lists of numbers are the same, each counted as often as both have it."""
    mine, my_counts = np.unique(keys, return_counts=True)
    theirs, their_counts = np.unique(others, return_counts=True)
    _, here, there = np.intersect1d(mine, theirs, return_indices=True)
    return float(np.minimum(my_counts[here], their_counts[there]).sum())


def _windows(rng: np.random.Generator) -> Cases:
    """Windows of a text without its end, some of them taken twice, some tokens of them replaced by others."""
    for n_tokens, T, n_types in ((58, 4, 6), (70, 6, 4), (51, 7, 6)):
        text = rng.integers(n_types, size=n_tokens)
        starts = np.arange(0, n_tokens - 1 - 2 * T, T)
        places = np.concatenate([starts, starts[:2]])[:, None] + np.arange(T)
        inputs, targets = text[places], text[places + 1]
        # Some inputs that the text has nowhere, and some targets that it has elsewhere.
        inputs[rng.random(inputs.shape) < 0.1] = n_types
        change = rng.random(targets.shape) < 0.2
        targets[change] = (targets[change] + 1) % n_types
        yield text, inputs, targets


def _as_sets(text: Array, inputs: Array, targets: Array) -> dict[str, Value]:
    mine = np.unique(_keys(text[:-1], text[1:]))
    theirs = np.unique(_keys(inputs.ravel(), targets.ravel()))
    common = len(np.intersect1d(mine, theirs))
    return {
        "covered": np.float64(common / len(mine)),
        "foreign": np.float64((len(theirs) - common) / len(theirs)),
    }


def _membership(text: Array, inputs: Array, targets: Array) -> dict[str, Value]:
    mine, theirs = _keys(text[:-1], text[1:]), _keys(inputs.ravel(), targets.ravel())
    return {"covered": np.mean(np.isin(mine, theirs)), "foreign": np.mean(~np.isin(theirs, mine))}


def _spoilt(
    pairs: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> Callable[[Array, Array, Array], dict[str, Value]]:
    """Both shares with other keys for the text and for the windows."""

    def outputs(text: Array, inputs: Array, targets: Array) -> dict[str, Value]:
        mine, theirs = pairs(text, inputs, targets)
        common = _common(mine, theirs)
        return {
            "covered": np.float64(common / len(mine)),
            "foreign": np.float64((len(theirs) - common) / len(theirs)),
        }

    return outputs


PAIRS_COVERED = Exercise(
    name="pairs-covered",
    parameters=("text", "inputs", "targets"),
    returns=("covered", "foreign"),
    asked="The share of a text's pairs (token, next token) that the windows hold, and the share of the windows' "
    "pairs that the text does not have; a pair counts as often as it occurs.",
    inputs=_windows,
    solution=pairs_covered,
    mistakes=(
        Mistake(
            "each kind of pair is counted once; a pair that the text has five times must be there five times",
            _as_sets,
        ),
        Mistake(
            "a pair counts as there if it occurs at all: how often matters too, or a window taken twice hides "
            "one that was left out",
            _membership,
        ),
        Mistake(
            "single tokens are compared, not pairs: a text in any other order would pass",
            _spoilt(lambda text, inputs, targets: (text[1:], targets.ravel())),
        ),
        Mistake(
            "the pairs of the windows are (target, input); the input comes first",
            _spoilt(
                lambda text, inputs, targets: (
                    _keys(text[:-1], text[1:]),
                    _keys(targets.ravel(), inputs.ravel()),
                )
            ),
        ),
        Mistake(
            "the targets are not looked at: the pairs are neighbours among the inputs, so a wrong target passes",
            _spoilt(
                lambda text, inputs, targets: (
                    _keys(text[:-1], text[1:]),
                    _keys(inputs.ravel()[:-1], inputs.ravel()[1:]),
                )
            ),
        ),
        Mistake(
            "divided by the number of the other side's pairs: covered belongs to the text's n - 1, foreign to the "
            "N T of the windows",
            lambda text, inputs, targets: {
                "covered": np.float64(
                    pairs_covered(text, inputs, targets)[0] * (len(text) - 1) / inputs.size
                ),
                "foreign": np.float64(
                    pairs_covered(text, inputs, targets)[1] * inputs.size / (len(text) - 1)
                ),
            },
        ),
        Mistake(
            "this is the share that is missing, or common: covered counts what both have, foreign what only the "
            "windows have",
            lambda text, inputs, targets: {
                "covered": np.float64(1.0 - pairs_covered(text, inputs, targets)[0]),
                "foreign": np.float64(1.0 - pairs_covered(text, inputs, targets)[1]),
            },
        ),
    ),
)

EXERCISES = (PAIRS_COVERED,)
