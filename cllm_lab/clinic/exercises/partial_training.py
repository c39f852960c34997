"""An exercise on the optimizer of document 004: Adam's update with its epsilon in either place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def adam_two_epsilons(m: Array, v: Array, t: int) -> tuple[Array, Array]:
    """The change of p for rate 1 in both forms, from Adam's moments m and v (n,) after step t, counted from 1.

        inside  = -(m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
        outside = -sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)

    b1 = 0.9, b2 = 0.999, eps = 1e-8. Kingma & Ba 2015: algorithm 1, and the end of their section 2.
    """
    return _inside(m, v, t), _outside(m, v, t)


def _inside(m: Array, v: Array, t: int) -> Array:
    return -(m / (1.0 - BETA1**t)) / (np.sqrt(v / (1.0 - BETA2**t)) + EPSILON)


def _outside(m: Array, v: Array, t: int) -> Array:
    return -np.sqrt(1.0 - BETA2**t) / (1.0 - BETA1**t) * m / (np.sqrt(v) + EPSILON)


def _small_gradients(rng: np.random.Generator) -> Cases:
    """Moments of gradients around epsilon, where its place matters, after some steps of their own."""
    for t, n in ((1, 6), (2, 5), (7, 4), (40, 3)):
        m, v = np.zeros(n), np.zeros(n)
        sizes = 10.0 ** rng.uniform(-8.5, -6.0, n)
        for _ in range(t):
            gradient = sizes * (1.0 + 0.3 * rng.standard_normal(n)) * np.resize([1.0, -1.0], n)
            m = BETA1 * m + (1.0 - BETA1) * gradient
            v = BETA2 * v + (1.0 - BETA2) * gradient**2
        yield m, v, np.asarray(t)


def _both(inside: Callable[..., Array], outside: Callable[..., Array]) -> Callable[..., dict[str, Array]]:
    def outputs(m: Array, v: Array, t: int) -> dict[str, Array]:
        return {"inside": inside(m, v, t), "outside": outside(m, v, t)}

    return outputs


def _no_root_inside(m: Array, v: Array, t: int) -> Array:
    return -(m / (1.0 - BETA1**t)) / (v / (1.0 - BETA2**t) + EPSILON)


def _no_root_outside(m: Array, v: Array, t: int) -> Array:
    return -np.sqrt(1.0 - BETA2**t) / (1.0 - BETA1**t) * m / (v + EPSILON)


def _epsilon_under_the_root(m: Array, v: Array, t: int) -> Array:
    return -(m / (1.0 - BETA1**t)) / np.sqrt(v / (1.0 - BETA2**t) + EPSILON)


def _epsilon_under_the_root_outside(m: Array, v: Array, t: int) -> Array:
    return -np.sqrt(1.0 - BETA2**t) / (1.0 - BETA1**t) * m / np.sqrt(v + EPSILON)


def _uncorrected(m: Array, v: Array, t: int) -> Array:
    return -m / (np.sqrt(v) + EPSILON)


def _rate_without_root(m: Array, v: Array, t: int) -> Array:
    return -(1.0 - BETA2**t) / (1.0 - BETA1**t) * m / (np.sqrt(v) + EPSILON)


ADAM_TWO_EPSILONS = Exercise(
    name="adam-two-epsilons",
    parameters=("m", "v", "t"),
    returns=("inside", "outside"),
    asked="The change of p for learning rate 1 in both forms of Adam, from the moments m and v after step t.",
    inputs=_small_gradients,
    solution=adam_two_epsilons,
    mistakes=(
        Mistake(
            "this is the other form: `inside` adds epsilon to the corrected root, `outside` to the plain one",
            _both(_outside, _inside),
        ),
        Mistake(
            "the sign: p moves against the gradient, so what is added to p carries a minus",
            _both(lambda m, v, t: -_inside(m, v, t), lambda m, v, t: -_outside(m, v, t)),
        ),
        Mistake(
            "no bias correction: m and v start at 0, so divide m by 1 - b1^t and v by 1 - b2^t",
            _both(_uncorrected, _uncorrected),
        ),
        Mistake("v is a mean of squares: take its square root", _both(_no_root_inside, _no_root_outside)),
        Mistake(
            "epsilon stands under the root: it is added to the root, after it was taken",
            _both(_epsilon_under_the_root, _epsilon_under_the_root_outside),
        ),
        Mistake(
            "the correction of v stands under the root as v does: sqrt(1 - b2^t)",
            lambda m, v, t: {"outside": _rate_without_root(m, v, t)},
        ),
        Mistake(
            "the step is counted from 1: t = 1 is the first update, so no t + 1 here",
            _both(lambda m, v, t: _inside(m, v, t + 1), lambda m, v, t: _outside(m, v, t + 1)),
        ),
    ),
)

EXERCISES = (ADAM_TWO_EPSILONS,)
