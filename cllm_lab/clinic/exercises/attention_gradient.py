"""An exercise on the gradient of attention: from queries, keys and values to the weights that make them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def qkv_weights_backward(x: Array, dq: Array, dk: Array, dv: Array) -> tuple[Array, Array]:
    """(dW, db) of [Q | K | V] = x W + b, from x (B, T, C) and the gradients dq, dk, dv (B, H, T, D), C = H D.

    dW = sum_bt x[b, t] (outer) g[b, t] (C, 3 C);   db = sum_bt g[b, t] (3 C,)

    g[b, t] = [dq | dk | dv][b, :, t], the heads side by side.
    """
    g = np.concatenate([_merged(each) for each in (dq, dk, dv)], axis=-1)
    return _products(x, g), g.sum(axis=(0, 1))


def _merged(each: Array) -> Array:
    """(B, H, T, D) -> (B, T, H D)."""
    B, H, T, D = each.shape
    return each.transpose(0, 2, 1, 3).reshape(B, T, H * D)


def _products(x: Array, g: Array) -> Array:
    return np.einsum("btc,btk->ck", x, g)


def _points(rng: np.random.Generator) -> Cases:
    for B, H, T, D in ((3, 2, 4, 3), (2, 3, 5, 2), (2, 2, 2, 2)):
        x = rng.standard_normal((B, T, H * D))
        yield (x, *rng.standard_normal((3, B, H, T, D)))


def _one_for_all(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    dw, db = qkv_weights_backward(x, dv, dv, dv)
    return {"dw": dw, "db": db}


def _reshaped(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    g = np.concatenate([each.reshape(x.shape) for each in (dq, dk, dv)], axis=-1)
    return {"dw": _products(x, g), "db": g.sum(axis=(0, 1))}


def _last_window(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    dw, db = qkv_weights_backward(x[-1:], dq[-1:], dk[-1:], dv[-1:])
    return {"dw": dw, "db": db}


def _mean(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    dw, db = qkv_weights_backward(x, dq, dk, dv)
    return {"dw": dw / (x.shape[0] * x.shape[1]), "db": db / (x.shape[0] * x.shape[1])}


def _over_windows(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    dw, db = qkv_weights_backward(x, dq, dk, dv)
    return {"dw": dw / len(x), "db": db / len(x)}


def _keys_first(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    dw, db = qkv_weights_backward(x, dk, dq, dv)
    return {"dw": dw, "db": db}


def _interleaved(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    """[q k v] of head 0, then of head 1, ..."""
    together = np.concatenate([dq, dk, dv], axis=-1)
    g = _merged(together)
    return {"dw": _products(x, g), "db": g.sum(axis=(0, 1))}


def _sums_apart(x: Array, dq: Array, dk: Array, dv: Array) -> dict[str, Array]:
    g = np.concatenate([_merged(each) for each in (dq, dk, dv)], axis=-1)
    return {"dw": np.outer(x.sum(axis=(0, 1)), g.sum(axis=(0, 1)))}


QKV_WEIGHTS_BACKWARD = Exercise(
    name="qkv-weights-backward",
    parameters=("x", "dq", "dk", "dv"),
    returns=("dw", "db"),
    asked="The gradients of w_qkv (C, 3 C) and b_qkv (3 C,) from the sub-layer's input x (B, T, C) and the gradients "
    "of queries, keys and values, each (B, H, T, D).",
    inputs=_points,
    solution=qkv_weights_backward,
    mistakes=(
        Mistake(
            "zero: attention is computed, and its weights never move",
            lambda x, dq, dk, dv: {
                "dw": np.zeros((x.shape[-1], 3 * x.shape[-1])),
                "db": np.zeros(3 * x.shape[-1]),
            },
        ),
        Mistake(
            "one gradient stands in all three thirds; queries, keys and values each have their own",
            _one_for_all,
        ),
        Mistake(
            "reshaped without a transpose: the axes of a gradient are (B, H, T, D), and the heads of one position "
            "must come to stand side by side first",
            _reshaped,
        ),
        Mistake("the last window alone: every window's gradient must be added", _last_window),
        Mistake(
            "divided by the number of positions: the mean is in the loss already, so sum over the positions",
            _mean,
        ),
        Mistake(
            "divided by the number of windows: the mean is in the loss already, so sum over them",
            _over_windows,
        ),
        Mistake("the thirds are in another order: queries, keys, values", _keys_first),
        Mistake(
            "[q | k | v] of one head stands before those of the next; the first third belongs to the queries of all "
            "heads",
            _interleaved,
        ),
        Mistake("the sum of x times the sum of g: multiply at each position first, then add up", _sums_apart),
    ),
)

EXERCISES = (QKV_WEIGHTS_BACKWARD,)
