"""The optimizers compiled: moments, update and its size in one pass over the parameters.

Formulas and sources stand in `optimizers`; tests hold the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cllm_lab.model.parts.jit import compiled, quiet
from cllm_lab.training.optimizers import REFERENCE, Optimizer, UpdateSizes, bias_corrections

# Squares are summed in the parameters' own dtype over a block, and blocks in float64.
_BLOCK = 1024


@compiled
def _sgd(params, grads, rate):
    updates = 0.0
    squares = 0.0
    for start in range(0, params.size, _BLOCK):
        p, g = params[start : start + _BLOCK], grads[start : start + _BLOCK]
        block_updates = params.dtype.type(0.0)
        block_squares = params.dtype.type(0.0)
        for i in range(p.size):
            change = rate * g[i]
            block_squares += p[i] * p[i]
            block_updates += change * change
            p[i] -= change
        updates += block_updates
        squares += block_squares
    return updates, squares


@compiled
def _momentum(params, grads, velocity, rate, scale, mu):
    updates = 0.0
    squares = 0.0
    for start in range(0, params.size, _BLOCK):
        p, g = params[start : start + _BLOCK], grads[start : start + _BLOCK]
        u = velocity[start : start + _BLOCK]
        block_updates = params.dtype.type(0.0)
        block_squares = params.dtype.type(0.0)
        for i in range(p.size):
            u[i] = mu * u[i] + scale * g[i]
            change = rate * u[i]
            block_squares += p[i] * p[i]
            block_updates += change * change
            p[i] -= change
        updates += block_updates
        squares += block_squares
    return updates, squares


@compiled
def _adam(params, grads, first, second, rate, scale, beta1, beta2, rest1, rest2, root_scale, epsilon, decay):
    """p -= decay p + rate m / (root_scale sqrt(v) + epsilon): all three kinds of Adam by their scalars.

    rest1 = 1 - beta1 and rest2 = 1 - beta2 are given, since in float32 the difference 1 - 0.999 is 1e-5 off.
    """
    updates = 0.0
    squares = 0.0
    for start in range(0, params.size, _BLOCK):
        p, g = params[start : start + _BLOCK], grads[start : start + _BLOCK]
        m, v = first[start : start + _BLOCK], second[start : start + _BLOCK]
        block_updates = params.dtype.type(0.0)
        block_squares = params.dtype.type(0.0)
        for i in range(p.size):
            gradient = scale * g[i]
            m[i] = beta1 * m[i] + rest1 * gradient
            v[i] = beta2 * v[i] + rest2 * gradient * gradient
            change = decay * p[i] + rate * m[i] / (root_scale * np.sqrt(v[i]) + epsilon)
            block_squares += p[i] * p[i]
            block_updates += change * change
            p[i] -= change
        updates += block_updates
        squares += block_squares
    return updates, squares


@compiled
def sum_of_squares(values):
    """The twin of `diagnostics.sum_of_squares`."""
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        square = values.dtype.type(0.0)
        for i in range(block.size):
            square += block[i] * block[i]
        total += square
    return total


def sgd(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r g."""
    return UpdateSizes(*_sgd(params, grads, params.dtype.type(learning_rate * gradient_scale)))


def momentum(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """u = mu u + g;  p -= r u."""
    scalars = (params.dtype.type(x) for x in (learning_rate, gradient_scale, config.momentum))
    return UpdateSizes(*_momentum(params, grads, moments["velocity"], *scalars))


def adam(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r m_hat / (sqrt(v_hat) + eps)."""
    correction1, correction2 = bias_corrections(step, config)
    root_scale = 1.0 / math.sqrt(correction2)
    return _run_adam(
        params, grads, moments, learning_rate / correction1, gradient_scale, root_scale, 0.0, config
    )


def adam_epsilon_hat(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r_t m / (sqrt(v) + eps),  r_t = r sqrt(1 - b2^t) / (1 - b1^t)."""
    correction1, correction2 = bias_corrections(step, config)
    rate = learning_rate * math.sqrt(correction2) / correction1
    return _run_adam(params, grads, moments, rate, gradient_scale, 1.0, 0.0, config)


def adamw(params, grads, moments, learning_rate, step, gradient_scale, config) -> UpdateSizes:
    """p -= r wd p + r m_hat / (sqrt(v_hat) + eps)."""
    correction1, correction2 = bias_corrections(step, config)
    root_scale = 1.0 / math.sqrt(correction2)
    decay = learning_rate * config.decay
    return _run_adam(
        params, grads, moments, learning_rate / correction1, gradient_scale, root_scale, decay, config
    )


def _run_adam(params, grads, moments, rate, scale, root_scale, decay, config) -> UpdateSizes:
    beta1, beta2 = config.betas
    numbers = (rate, scale, beta1, beta2, 1.0 - beta1, 1.0 - beta2, root_scale, config.epsilon, decay)
    scalars = (params.dtype.type(x) for x in numbers)
    return UpdateSizes(*_adam(params, grads, moments["first"], moments["second"], *scalars))


_UPDATES: dict[str, Callable] = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": adam,
    "adam-epsilon-hat": adam_epsilon_hat,
    "adamw": adamw,
}
FAST: dict[str, Optimizer] = {
    name: Optimizer(name, twin.moments, _UPDATES[name]) for name, twin in REFERENCE.items()
}


@quiet()
def warm_up(report: Callable[[str], None], dtype: str = "float32") -> None:
    """Compiles every optimizer for a dtype, or loads it from the cache, naming each to ``report`` first."""
    one = np.dtype(dtype).type(1.0)
    line = np.ones(2, dtype)
    calls: tuple[tuple[Callable, tuple], ...] = (
        (sum_of_squares, (line,)),
        (_sgd, (line.copy(), line, one)),
        (_momentum, (line.copy(), line, line.copy(), one, one, one)),
        (_adam, (line.copy(), line, line.copy(), line.copy(), *(one,) * 9)),
    )
    for number, (kernel, arguments) in enumerate(calls, start=1):
        report(f"compiling {number}/{len(calls)} {kernel.__name__.strip('_')} ({dtype})")
        kernel(*arguments)
