"""An exercise on the order of tests: what a test is worth for the time that it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def worth_of_tests(red: Array, left: Array, seconds: Array) -> Array:
    """Suspects that each test rules out per second, in the mean, where all suspects left are equally likely, (T,).

        worth_j = 2 k_j (n - k_j) / n / seconds_j

    red (S, T): 1 where test j is red if suspect i is the truth; left (S,): 1 for suspects not yet ruled out, n of
    them; k_j of these would turn test j red. Red, with probability k / n, rules out n - k; green rules out k.
    """
    n = left.sum()
    k = left @ red
    return 2.0 * k * (n - k) / n / seconds


def order_of_tests(red: Array, seconds: Array) -> list[int]:
    """The places of the tests in the order in which to make them as long as each comes out green.

    First the one of the greatest worth, then the one of the greatest worth among the suspects that it leaves, and
    so on; a test that would rule out nobody any more is left out. Shapes as of `worth_of_tests`.
    """
    left = np.ones(len(red))
    order: list[int] = []
    while (worth := worth_of_tests(red, left, seconds)).max() > 0.0:
        order.append(int(worth.argmax()))
        left = left * (1.0 - red[:, order[-1]])
    return order


def _tables(rng: np.random.Generator) -> Cases:
    """Suspects of which some are ruled out, and tests of which none is red for all or none of those left."""
    for S, T in ((9, 4), (14, 6), (11, 11)):
        red = (rng.random((S, T)) < 0.4).astype(np.float64)
        red[0], red[1], red[-1] = 1.0, 0.0, 1.0
        left = (rng.random(S) < 0.6).astype(np.float64)
        left[:3], left[-1] = 1.0, 0.0
        yield red, left, 0.05 + 2.0 * rng.random(T)


WORTH_OF_TESTS = Exercise(
    name="worth-of-tests",
    parameters=("red", "left", "seconds"),
    returns=("worth",),
    asked="The number of suspects that each test rules out per second, in the mean, worth (T,): red (S, T) is 1 where "
    "a test is red for a suspect, left (S,) is 1 for those not yet ruled out, all equally likely; seconds (T,).",
    inputs=_tables,
    solution=worth_of_tests,
    mistakes=(
        Mistake(
            "the time is missing: divide by seconds",
            lambda red, left, seconds: {"worth": worth_of_tests(red, left, np.ones_like(seconds))},
        ),
        Mistake(
            "you multiplied by seconds: a test that takes longer is worth less",
            lambda red, left, seconds: {"worth": worth_of_tests(red, left, 1.0 / seconds)},
        ),
        Mistake(
            "suspects that are ruled out already are counted again: left says which ones are still there",
            lambda red, left, seconds: {"worth": worth_of_tests(red, np.ones_like(left), seconds)},
        ),
        Mistake(
            "this is what a green result rules out; a red one is possible too, and rules out the others",
            lambda red, left, seconds: {"worth": left @ red / seconds},
        ),
        Mistake(
            "this is what a red result rules out; a green one is possible too, and rules out the others",
            lambda red, left, seconds: {"worth": (left.sum() - left @ red) / seconds},
        ),
        Mistake(
            "one result is weighed of two: red (k times of n) rules out n - k, green (n - k times of n) rules out k",
            lambda red, left, seconds: {"worth": 0.5 * worth_of_tests(red, left, seconds)},
        ),
        Mistake(
            "red and green are taken to be equally likely; k of the n suspects left would turn the test red",
            lambda red, left, seconds: {"worth": np.full_like(seconds, 0.5 * left.sum()) / seconds},
        ),
        Mistake(
            "the probabilities divide by all suspects; divide by those left",
            lambda red, left, seconds: {"worth": worth_of_tests(red, left, seconds) * left.sum() / len(left)},
        ),
        Mistake(
            "this is the number of suspects that stay; what is ruled out is n less that",
            lambda red, left, seconds: {"worth": left.sum() / seconds - worth_of_tests(red, left, seconds)},
        ),
    ),
)

EXERCISES = (WORTH_OF_TESTS,)
