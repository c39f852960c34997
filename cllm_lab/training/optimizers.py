"""Optimizers: how a gradient becomes an update. Each works in place on flat arrays of equal shape (n,).

With gradient g (already multiplied by the clipping factor), rate r and the step t counted from 1:

    sgd               p -= r g
    momentum          u = mu u + g;  p -= r u                               Polyak 1964; PyTorch's form
    adam              m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
                      p -= r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
                                                                            Kingma & Ba 2015, algorithm 1
    adam-epsilon-hat  p -= r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
                      the variant at the end of their section 2: the same, but for an epsilon outside the
                      bias correction, which weighs eps / sqrt(1 - b2^t) in the terms of algorithm 1
    adamw             p -= r wd p, then adam                                Loshchilov & Hutter 2019, algorithm 2

Two implementations of each stand behind one signature: NumPy here, compiled in `optimizer_kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cllm_lab.model.parameters import Array
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import sum_of_squares


class UpdateSizes(NamedTuple):
    """Sums of squares of the update that was made and of the parameters before it."""

    update: float
    parameters: float


# (params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes
Update = Callable[[Array, Array, Mapping[str, Array], float, int, float, TrainConfig], UpdateSizes]


@dataclass(frozen=True)
class Optimizer:
    """``update`` changes params and moments in place; ``moments`` names the arrays it keeps between steps."""

    name: str
    moments: tuple[str, ...]
    update: Update


def sgd(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r g."""
    return _apply(params, learning_rate * gradient_scale * grads)


def momentum(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """u = mu u + g;  p -= r u."""
    velocity = moments["velocity"]
    velocity *= config.momentum
    velocity += gradient_scale * grads
    return _apply(params, learning_rate * velocity)


def adam(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r m_hat / (sqrt(v_hat) + eps)."""
    return _apply(params, _adam_step(grads, moments, learning_rate, step, gradient_scale, config))


def adam_epsilon_hat(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r_t m / (sqrt(v) + eps),  r_t = r sqrt(1 - b2^t) / (1 - b1^t)."""
    first, second = _moments(grads, moments, gradient_scale, config)
    correction1, correction2 = bias_corrections(step, config)
    rate = learning_rate * math.sqrt(correction2) / correction1
    return _apply(params, rate * first / (np.sqrt(second) + config.epsilon))


def adamw(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r wd p + r m_hat / (sqrt(v_hat) + eps)."""
    change = _adam_step(grads, moments, learning_rate, step, gradient_scale, config)
    return _apply(params, change + learning_rate * config.decay * params)


def bias_corrections(step: int, config: TrainConfig) -> tuple[float, float]:
    """(1 - b1^t, 1 - b2^t)."""
    return 1.0 - config.betas[0] ** step, 1.0 - config.betas[1] ** step


def _moments(grads, moments, gradient_scale, config) -> tuple[Array, Array]:
    g = gradient_scale * grads
    first, second = moments["first"], moments["second"]
    beta1, beta2 = config.betas
    first *= beta1
    first += (1.0 - beta1) * g
    second *= beta2
    second += (1.0 - beta2) * g * g
    return first, second


def _adam_step(grads, moments, learning_rate, step, gradient_scale, config) -> Array:
    first, second = _moments(grads, moments, gradient_scale, config)
    correction1, correction2 = bias_corrections(step, config)
    return learning_rate / correction1 * first / (np.sqrt(second / correction2) + config.epsilon)


def _apply(params: Array, change: Array) -> UpdateSizes:
    before = float(np.dot(params, params))
    params -= change
    return UpdateSizes(float(np.dot(change, change)), before)


REFERENCE: dict[str, Optimizer] = {
    "sgd": Optimizer("sgd", (), sgd),
    "momentum": Optimizer("momentum", ("velocity",), momentum),
    "adam": Optimizer("adam", ("first", "second"), adam),
    "adam-epsilon-hat": Optimizer("adam-epsilon-hat", ("first", "second"), adam_epsilon_hat),
    "adamw": Optimizer("adamw", ("first", "second"), adamw),
}


def optimizers(table: str) -> Mapping[str, Optimizer]:
    """The optimizers that go with a parts table, "reference" or "fast"."""
    if table == "reference":
        return REFERENCE
    from cllm_lab.training.optimizer_kernels import FAST

    return FAST


def squares(table: str) -> Callable[[Array], float]:
    """The sum of squares that goes with a parts table: `diagnostics.sum_of_squares` or its compiled twin."""
    if table == "reference":
        return sum_of_squares
    from cllm_lab.training import optimizer_kernels

    return optimizer_kernels.sum_of_squares
