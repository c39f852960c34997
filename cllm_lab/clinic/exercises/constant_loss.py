"""An exercise on constant losses: the levels at which a loss may stand, from counted pairs of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def loss_levels(counts: Array) -> tuple[float, float, float]:
    """(ln V, H1, H2) in nats from counts (V, V), counts[i, j] how often token j follows token i.

        H1 = -sum_j p_j ln p_j,  p_j = n_j / n;   H2 = -sum_ij (n_ij / n) ln(n_ij / n_i)

    n_j sums over what comes before, n_i over what follows, n over both; 0 ln 0 = 0.
    """
    used = counts > 0.0
    given = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    pairs = counts[used]
    bigram = float(np.sum(pairs * np.log(given[used] / pairs)) / pairs.sum())
    return float(np.log(len(counts))), _entropy(counts.sum(axis=0)), bigram


def _entropy(frequencies: Array) -> float:
    share = frequencies[frequencies > 0.0] / frequencies.sum()
    return float(-np.sum(share * np.log(share)))


def _pair_counts(rng: np.random.Generator) -> Cases:
    """Counts of pairs in which some rows and columns are empty: tokens that do not occur."""
    for V, unused in ((7, 2), (5, 1), (9, 4)):
        counts = rng.integers(1, 20, (V, V)) * (rng.random((V, V)) < 0.6)
        # No cell but this one is certain to be filled, and no two tokens may be equally frequent by chance.
        counts[0, 1] += 40
        counts[:, V - unused :] = 0
        counts[V - unused :] = 0
        yield (counts.astype(np.float64),)


def _in(base: float) -> Callable[[Array], dict[str, Array]]:
    """All three levels with logarithms to another base."""

    def outputs(counts: Array) -> dict[str, Array]:
        levels = np.array(loss_levels(counts)) / np.log(base)
        return dict(zip(("uniform", "unigram", "bigram"), levels, strict=True))

    return outputs


def _with_zero_times_infinity(counts: Array) -> dict[str, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts.sum(axis=0) / counts.sum()
        following = counts / counts.sum(axis=1, keepdims=True)
        return {
            "unigram": -np.sum(share * np.log(share)),
            "bigram": -np.sum(counts / counts.sum() * np.log(following)),
        }


def _mean_of_rows(counts: Array) -> dict[str, Array]:
    return {"bigram": np.asarray(np.mean([_entropy(row) for row in counts if row.any()]))}


LOSS_LEVELS = Exercise(
    name="loss-levels",
    parameters=("counts",),
    returns=("uniform", "unigram", "bigram"),
    asked="ln V, H1 and H2 in nats, where counts[i, j] (V, V) is how often token j follows token i; "
    "some tokens never occur.",
    inputs=_pair_counts,
    solution=loss_levels,
    mistakes=(
        Mistake(
            "only the tokens that occur are counted: ln V belongs to the rows of the output, used or not",
            lambda counts: {"uniform": np.log(np.float64(np.count_nonzero(counts.sum(axis=0))))},
        ),
        Mistake(
            "ln of V times V: a prediction chooses among the V tokens that may come next, not among the pairs",
            lambda counts: {"uniform": np.log(np.float64(counts.size))},
        ),
        Mistake("in bits: a nat belongs to the natural logarithm, np.log", _in(2.0)),
        Mistake("a logarithm to base 10: a nat belongs to the natural logarithm, np.log", _in(10.0)),
        Mistake(
            "0 ln 0 came out as NaN: it counts as 0, so leave out what never occurs before you take the logarithm",
            _with_zero_times_infinity,
        ),
        Mistake(
            "the shares are those of the first token of each pair; a loss is taken on the second (sum over axis 0)",
            lambda counts: {"unigram": np.float64(_entropy(counts.sum(axis=1)))},
        ),
        Mistake(
            "this is the entropy of the pairs; of p(i, j) only p(j | i) belongs under the logarithm",
            lambda counts: {"bigram": np.float64(_entropy(counts.ravel()))},
        ),
        Mistake(
            "a plain mean over the rows: a frequent token's row counts as often as the token occurs",
            _mean_of_rows,
        ),
        Mistake(
            "this is how uncertain the token before is, given the one after: divide by the sums of the rows",
            lambda counts: {"bigram": np.float64(loss_levels(counts.T)[2])},
        ),
    ),
)

EXERCISES = (LOSS_LEVELS,)
