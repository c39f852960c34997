"""The exercises of the notebooks: six backward passes to be written by hand.

Shapes: N tokens (all positions of a batch in one row after the other), V vocabulary, C inputs and F outputs of
a layer, T positions, D = d_head. A gradient of the loss with respect to ``name`` is ``d<name>``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


# Softmax and cross-entropy.


def softmax(scores: Array, axis: int | None = -1) -> Array:
    """exp(z - max z) / sum of the same: no exponential is above 1."""
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def one_hot(targets: Array, logits: Array) -> Array:
    """1 at each token's target, 0 elsewhere, (N, V)."""
    return np.eye(logits.shape[1])[targets]


def cross_entropy_backward(logits: Array, targets: Array) -> Array:
    """dlogits = (softmax(logits) - onehot(targets)) / N, (N, V)."""
    return (softmax(logits) - one_hot(targets, logits)) / len(targets)


def _cross_entropy_inputs(rng: np.random.Generator) -> Cases:
    for n_tokens, vocab_size in ((6, 5), (3, 9)):
        yield 2.0 * rng.standard_normal((n_tokens, vocab_size)), rng.integers(vocab_size, size=n_tokens)
    # Rows far from 0, and far from each other: only a softmax that subtracts each row's own maximum survives.
    levels = np.array([[1000.0], [-1000.0], [0.0], [1000.0]])
    yield levels + rng.standard_normal((4, 7)), rng.integers(7, size=4)


def _overflowing_softmax(logits: Array, maximum: float = 0.0) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        exponentials = np.exp(logits - maximum)
        return exponentials / exponentials.sum(axis=-1, keepdims=True)


CROSS_ENTROPY = Exercise(
    name="cross-entropy-backward",
    parameters=("logits", "targets"),
    returns=("dlogits",),
    asked="The gradient, with respect to logits (N, V), of the mean over N tokens of -ln softmax(logits)[target].",
    inputs=_cross_entropy_inputs,
    solution=cross_entropy_backward,
    mistakes=(
        Mistake(
            "you forgot to divide by the number of tokens: the loss is their mean",
            lambda z, t: {"dlogits": softmax(z) - one_hot(t, z)},
        ),
        Mistake(
            "sign: this is target minus softmax, which leads uphill; the gradient is softmax minus target",
            lambda z, t: {"dlogits": (one_hot(t, z) - softmax(z)) / len(t)},
        ),
        Mistake(
            "sign: this is target minus softmax; and you forgot to divide by the number of tokens",
            lambda z, t: {"dlogits": one_hot(t, z) - softmax(z)},
        ),
        Mistake(
            "the 1 at the target was not subtracted from the softmax",
            lambda z, t: {"dlogits": softmax(z) / len(t)},
        ),
        Mistake(
            "you divided by all N V numbers; the loss is the mean over N tokens",
            lambda z, t: {"dlogits": (softmax(z) - one_hot(t, z)) / z.size},
        ),
        Mistake(
            "the softmax runs down the tokens; it must run along the vocabulary (axis -1)",
            lambda z, t: {"dlogits": (softmax(z, axis=0) - one_hot(t, z)) / len(t)},
        ),
        Mistake(
            "the softmax has one sum for the whole batch; every token needs its own (axis=-1, keepdims=True)",
            lambda z, t: {"dlogits": (softmax(z, axis=None) - one_hot(t, z)) / len(t)},
        ),
        Mistake(
            "exp overflows for logits near 1000: subtract each row's maximum first",
            lambda z, t: {"dlogits": (_overflowing_softmax(z) - one_hot(t, z)) / len(t)},
        ),
        Mistake(
            "the maximum of the whole batch was subtracted, so other rows underflow to 0 / 0: take each row's own",
            lambda z, t: {"dlogits": (_overflowing_softmax(z, z.max()) - one_hot(t, z)) / len(t)},
        ),
    ),
)


# A linear layer.


def linear_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """For y = x w + b:  dx = dy w^T, (N, C);  dw = x^T dy, (C, F);  db = sum over the tokens of dy, (F,)."""
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def _linear_inputs(rng: np.random.Generator) -> Cases:
    for N, C, F in ((5, 4, 3), (4, 2, 6), (3, 3, 3)):
        yield rng.standard_normal((N, F)), rng.standard_normal((N, C)), rng.standard_normal((C, F))


LINEAR = Exercise(
    name="linear-backward",
    parameters=("dy", "x", "w"),
    returns=("dx", "dw", "db"),
    asked="The gradients of a loss with respect to x (N, C), w (C, F) and b (F,) where y = x w + b, from dy (N, F).",
    inputs=_linear_inputs,
    solution=linear_backward,
    mistakes=(
        Mistake("the sum over the batch is missing", lambda dy, x, w: {"db": dy}),
        Mistake(
            "the sum runs over the outputs; it must run over the tokens (axis 0)",
            lambda dy, x, w: {"db": dy.sum(axis=1)},
        ),
        Mistake(
            "is a mean over the tokens; it must be their sum, since the 1/N of the loss is in dy already",
            lambda dy, x, w: {"dw": x.T @ dy / len(dy), "db": dy.mean(axis=0)},
        ),
        Mistake(
            "is the last token's gradient alone: each token overwrote the one before, and they must add up",
            lambda dy, x, w: {"dw": np.outer(x[-1], dy[-1]), "db": dy[-1]},
        ),
        Mistake("dy was passed on without going back through w", lambda dy, x, w: {"dx": dy}),
    ),
)


# The hyperbolic tangent.


def tanh_backward(dhidden: Array, hidden: Array) -> Array:
    """For hidden = tanh(pre):  dpre = dhidden (1 - hidden^2)."""
    return dhidden * (1.0 - hidden**2)


def _tanh_inputs(rng: np.random.Generator) -> Cases:
    for shape in ((4, 6), (2, 3, 5)):
        yield rng.standard_normal(shape), np.tanh(1.5 * rng.standard_normal(shape))


TANH = Exercise(
    name="tanh-backward",
    parameters=("dhidden", "hidden"),
    returns=("dpre",),
    asked="The gradient with respect to pre, where hidden = tanh(pre), from dhidden and hidden (any shape).",
    inputs=_tanh_inputs,
    solution=tanh_backward,
    mistakes=(
        Mistake(
            "tanh' was evaluated at the output as if it were the input: hidden is tanh(pre) already",
            lambda dhidden, hidden: {"dpre": dhidden * (1.0 - np.tanh(hidden) ** 2)},
        ),
        Mistake(
            "the square is missing: tanh' = 1 - hidden^2",
            lambda dhidden, hidden: {"dpre": dhidden * (1.0 - hidden)},
        ),
        Mistake(
            "this is tanh' alone: the chain rule multiplies it by dhidden",
            lambda dhidden, hidden: {"dpre": 1.0 - hidden**2},
        ),
        Mistake(
            "tanh' is missing: dhidden was passed on unchanged", lambda dhidden, hidden: {"dpre": dhidden}
        ),
        Mistake(
            "the derivative of the logistic function, h (1 - h), was taken for that of tanh",
            lambda dhidden, hidden: {"dpre": dhidden * hidden * (1.0 - hidden)},
        ),
        Mistake(
            "you divided by tanh' where the chain rule multiplies",
            lambda dhidden, hidden: {"dpre": dhidden / (1.0 - hidden**2)},
        ),
    ),
)


# Layer norm.


def layer_norm_backward(
    dy: Array, normalised: Array, rstd: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    """For y = gamma n + beta, n = (x - mean) rstd:  dx = rstd (dn - mean(dn) - n mean(dn n)) with dn = dy gamma.

    The means run along the features, for each token. dgamma = sum over the tokens of dy n;  dbeta = that of dy.
    """
    dn = dy * gamma
    mean_dn = dn.mean(axis=-1, keepdims=True)
    mean_dn_n = (dn * normalised).mean(axis=-1, keepdims=True)
    dx = rstd * (dn - mean_dn - normalised * mean_dn_n)
    return dx, (dy * normalised).sum(axis=0), dy.sum(axis=0)


def _layer_norm_inputs(rng: np.random.Generator) -> Cases:
    for N, C in ((6, 5), (3, 8), (4, 4)):
        x = 1.0 + 3.0 * rng.standard_normal((N, C))
        rstd = 1.0 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        normalised = (x - x.mean(axis=-1, keepdims=True)) * rstd
        yield rng.standard_normal((N, C)), normalised, rstd, 1.0 + 0.5 * rng.standard_normal(C)


def _mean(values: Array) -> Array:
    return values.mean(axis=-1, keepdims=True)


LAYER_NORM = Exercise(
    name="layer-norm-backward",
    parameters=("dy", "normalised", "rstd", "gamma"),
    returns=("dx", "dgamma", "dbeta"),
    asked=(
        "The gradients with respect to x (N, C), gamma (C,) and beta (C,) where y = gamma n + beta and "
        "n = (x - mean) rstd, from dy (N, C), n, rstd (N, 1) and gamma."
    ),
    inputs=_layer_norm_inputs,
    solution=layer_norm_backward,
    mistakes=(
        Mistake(
            "the term mean(dn) is missing: x also acts through the mean",
            lambda dy, n, rstd, gamma: {"dx": rstd * (dy * gamma - n * _mean(dy * gamma * n))},
        ),
        Mistake(
            "the term n mean(dn n) is missing: x also acts through the variance",
            lambda dy, n, rstd, gamma: {"dx": rstd * (dy * gamma - _mean(dy * gamma))},
        ),
        Mistake(
            "the terms mean(dn) and n mean(dn n) are missing: mean and variance are functions of x, not constants",
            lambda dy, n, rstd, gamma: {"dx": rstd * dy * gamma},
        ),
        Mistake(
            "gamma is missing: dn = dy gamma",
            lambda dy, n, rstd, gamma: {"dx": rstd * (dy - _mean(dy) - n * _mean(dy * n))},
        ),
        Mistake(
            "the factor rstd is missing",
            lambda dy, n, rstd, gamma: {"dx": dy * gamma - _mean(dy * gamma) - n * _mean(dy * gamma * n)},
        ),
        Mistake(
            "you divided by rstd: it is 1 / std already",
            lambda dy, n, rstd, gamma: {
                "dx": (dy * gamma - _mean(dy * gamma) - n * _mean(dy * gamma * n)) / rstd
            },
        ),
        Mistake(
            "the factor n before mean(dn n) is missing",
            lambda dy, n, rstd, gamma: {
                "dx": rstd * (dy * gamma - _mean(dy * gamma) - _mean(dy * gamma * n))
            },
        ),
        Mistake(
            "the means run down the tokens; they must run along the features (axis -1, keepdims=True)",
            lambda dy, n, rstd, gamma: {
                "dx": rstd * (dy * gamma - (dy * gamma).mean(axis=0) - n * (dy * gamma * n).mean(axis=0))
            },
        ),
        Mistake(
            "the corrections are sums; they must be means over the features",
            lambda dy, n, rstd, gamma: {
                "dx": rstd * (dy * gamma - dy.shape[-1] * (_mean(dy * gamma) + n * _mean(dy * gamma * n)))
            },
        ),
        Mistake(
            "the factor n is missing: y = gamma n + beta",
            lambda dy, n, rstd, gamma: {"dgamma": dy.sum(axis=0)},
        ),
        Mistake(
            "gamma itself does not belong here: dgamma = sum of dy n, dbeta = sum of dy",
            lambda dy, n, rstd, gamma: {
                "dgamma": (dy * gamma * n).sum(axis=0),
                "dbeta": (dy * gamma).sum(axis=0),
            },
        ),
        Mistake(
            "the sum over the tokens is missing",
            lambda dy, n, rstd, gamma: {"dgamma": dy * n, "dbeta": dy},
        ),
        Mistake(
            "is a mean over the tokens; it must be their sum",
            lambda dy, n, rstd, gamma: {"dgamma": (dy * n).mean(axis=0), "dbeta": dy.mean(axis=0)},
        ),
    ),
)


# The softmax of attention.


def softmax_backward(dweights: Array, weights: Array) -> Array:
    """dS = A (dA - sum over j of dA A), row by row: the Jacobian is A_i (1 if i = j else 0) - A_i A_j."""
    return weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))


def _softmax_inputs(rng: np.random.Generator) -> Cases:
    for shape in ((4, 6), (2, 3, 5)):
        yield rng.standard_normal(shape), softmax(rng.standard_normal(shape))
    visible = np.tri(5, dtype=bool)
    yield rng.standard_normal((5, 5)), softmax(np.where(visible, rng.standard_normal((5, 5)), -np.inf))


SOFTMAX = Exercise(
    name="softmax-backward",
    parameters=("dweights", "weights"),
    returns=("dscores",),
    asked="The gradient with respect to scores, where weights = softmax(scores) along the last axis.",
    inputs=_softmax_inputs,
    solution=softmax_backward,
    mistakes=(
        Mistake(
            "the softmax Jacobian was replaced by its diagonal, A (1 - A): each score moves every weight of its row",
            lambda dA, A: {"dscores": dA * A * (1.0 - A)},
        ),
        Mistake(
            "the sum of dA A is not subtracted: the weights of a row always add up to 1",
            lambda dA, A: {"dscores": A * dA},
        ),
        Mistake(
            "the sum is taken over dA alone; it must be weighted, the sum of dA A",
            lambda dA, A: {"dscores": A * (dA - dA.sum(axis=-1, keepdims=True))},
        ),
        Mistake(
            "the plain mean of dA is subtracted; it must be the mean weighted with A",
            lambda dA, A: {"dscores": A * (dA - _mean(dA))},
        ),
        Mistake(
            "the sum runs over the whole array; every row needs its own (axis=-1, keepdims=True)",
            lambda dA, A: {"dscores": A * (dA - (dA * A).sum())},
        ),
        Mistake(
            "the sum runs down the columns; it must run along the row (axis -1)",
            lambda dA, A: {"dscores": A * (dA - (dA * A).sum(axis=-2, keepdims=True))},
        ),
        Mistake(
            "the factor A before the bracket is missing",
            lambda dA, A: {"dscores": dA - (dA * A).sum(axis=-1, keepdims=True)},
        ),
        Mistake(
            "sign: the sum comes second, A (dA - sum)", lambda dA, A: {"dscores": -softmax_backward(dA, A)}
        ),
        Mistake("dA was passed on without going back through the softmax", lambda dA, A: {"dscores": dA}),
    ),
)


# Attention, one head.


def attention_weights(q: Array, k: Array, scale: float | None = None, causal: bool = True) -> Array:
    """softmax of q k^T / sqrt(D) where position i sees the positions j <= i, (T, T)."""
    scores = q @ k.T * (1.0 / math.sqrt(q.shape[1]) if scale is None else scale)
    visible = np.tri(len(q), dtype=bool) if causal else True
    return softmax(np.where(visible, scores, -np.inf))


def attention_backward(dout: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """For out = A v, A = softmax(S), S = q k^T / sqrt(D) behind the causal mask, all of shape (T, D):

    dv = A^T dout;  dA = dout v^T;  dS = A (dA - sum of dA A);  dq = dS k / sqrt(D);  dk = dS^T q / sqrt(D).
    """
    scale = 1.0 / math.sqrt(q.shape[1])
    weights = attention_weights(q, k)
    dv = weights.T @ dout
    dscores = softmax_backward(dout @ v.T, weights)
    return dscores @ k * scale, dscores.T @ q * scale, dv


def _attention_inputs(rng: np.random.Generator) -> Cases:
    for T, D in ((5, 4), (4, 7), (3, 3)):
        yield tuple(rng.standard_normal((T, D)) for _ in range(4))


def _with_softmax(backward: Callable[[Array, Array], Array]) -> Callable[..., dict[str, Array]]:
    """dq and dk where the softmax is differentiated in another way."""

    def outputs(dout: Array, q: Array, k: Array, v: Array) -> dict[str, Array]:
        dscores = backward(dout @ v.T, attention_weights(q, k)) / math.sqrt(q.shape[1])
        return {"dq": dscores @ k, "dk": dscores.T @ q}

    return outputs


def _with_weights(**changed: Any) -> Callable[..., dict[str, Array]]:
    """All three where the forward pass is repeated with other weights."""

    def outputs(dout: Array, q: Array, k: Array, v: Array) -> dict[str, Array]:
        weights = attention_weights(q, k, **changed)
        dscores = softmax_backward(dout @ v.T, weights) / math.sqrt(q.shape[1])
        return {"dq": dscores @ k, "dk": dscores.T @ q, "dv": weights.T @ dout}

    return outputs


def _dscores(dout: Array, q: Array, k: Array, v: Array) -> Array:
    return softmax_backward(dout @ v.T, attention_weights(q, k))


ATTENTION = Exercise(
    name="attention-backward",
    parameters=("dout", "q", "k", "v"),
    returns=("dq", "dk", "dv"),
    asked="The gradients with respect to q, k and v (T, D) of one causal head, out = softmax(q k^T / sqrt(D)) v.",
    inputs=_attention_inputs,
    solution=attention_backward,
    mistakes=(
        Mistake(
            "the scale 1/sqrt(D) is missing",
            lambda dout, q, k, v: {"dq": _dscores(dout, q, k, v) @ k, "dk": _dscores(dout, q, k, v).T @ q},
        ),
        Mistake(
            "the scale is 1/D; it must be 1/sqrt(D), once",
            lambda dout, q, k, v: {
                "dq": _dscores(dout, q, k, v) @ k / q.shape[1],
                "dk": _dscores(dout, q, k, v).T @ q / q.shape[1],
            },
        ),
        Mistake(
            "the softmax Jacobian was replaced by its diagonal: each score moves every weight of its row",
            _with_softmax(lambda dA, A: dA * A * (1.0 - A)),
        ),
        Mistake(
            "the sum of dA A is not subtracted: the weights of a row always add up to 1",
            _with_softmax(lambda dA, A: dA * A),
        ),
        Mistake(
            "the way back through the softmax is missing: dS = dA was taken", _with_softmax(lambda dA, A: dA)
        ),
        Mistake("the causal mask is missing from the weights", _with_weights(causal=False)),
        Mistake("the scores are not divided by sqrt(D) before the softmax", _with_weights(scale=1.0)),
        Mistake(
            "dS must be transposed: row j of dk gathers from every query i",
            lambda dout, q, k, v: {"dk": _dscores(dout, q, k, v) @ q / math.sqrt(q.shape[1])},
        ),
        Mistake(
            "dS must not be transposed: row i of dq gathers from every key j",
            lambda dout, q, k, v: {"dq": _dscores(dout, q, k, v).T @ k / math.sqrt(q.shape[1])},
        ),
        Mistake(
            "the weights must be transposed: a value gathers from the positions that looked at it",
            lambda dout, q, k, v: {"dv": attention_weights(q, k) @ dout},
        ),
        Mistake(
            "q and k are exchanged: dq needs k, and dk needs q",
            lambda dout, q, k, v: {
                "dq": _dscores(dout, q, k, v) @ q / math.sqrt(q.shape[1]),
                "dk": _dscores(dout, q, k, v).T @ k / math.sqrt(q.shape[1]),
            },
        ),
        Mistake(
            "the output's gradient was passed on unchanged, without going back through weights and scores",
            lambda dout, q, k, v: {"dq": dout, "dk": dout, "dv": dout},
        ),
    ),
)


EXERCISES = (CROSS_ENTROPY, LINEAR, TANH, LAYER_NORM, SOFTMAX, ATTENTION)
