"""Compiled kernels: what is left between the matrix products, each in one pass over its rows.

Every kernel takes arrays of two dimensions (rows, columns) unless its text says otherwise, writes into the
arrays it is given, and runs without the interpreter's lock on the calling thread alone. Exponentials and
hyperbolic tangents stay with NumPy, whose loops use the processor's vector units.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cllm_lab.model.parts.jit import compiled, compiled_callee, quiet


@compiled_callee
def layer_norm(x, gamma, beta, epsilon, normalised, rstd, y):
    """n = (x - mean) / sqrt(var + eps);  y = gamma n + beta, row by row; ``rstd`` has one entry a row."""
    rows, columns = x.shape
    scale = x.dtype.type(1.0 / columns)
    for r in range(rows):
        of_x, n, of_y = x[r], normalised[r], y[r]
        total = x.dtype.type(0.0)
        for c in range(columns):
            total += of_x[c]
        mean = total * scale
        total = x.dtype.type(0.0)
        for c in range(columns):
            total += (of_x[c] - mean) * (of_x[c] - mean)
        inverse = x.dtype.type(1.0 / math.sqrt(total * scale + epsilon))
        rstd[r] = inverse
        # One array written in each loop: with more, the compiler cannot tell that they lie apart.
        for c in range(columns):
            n[c] = (of_x[c] - mean) * inverse
        for c in range(columns):
            of_y[c] = gamma[c] * n[c] + beta[c]


@compiled_callee
def layer_norm_gradient(dy, normalised, rstd, gamma, dx, dgamma, dbeta):
    """dx = rstd (dn - mean(dn) - n mean(dn n)), dn = dy gamma; dgamma and dbeta are overwritten."""
    rows, columns = dy.shape
    scale = dy.dtype.type(1.0 / columns)
    dgamma[:] = 0.0
    dbeta[:] = 0.0
    for r in range(rows):
        sum_dn = dy.dtype.type(0.0)
        sum_dn_n = dy.dtype.type(0.0)
        for c in range(columns):
            dn = dy[r, c] * gamma[c]
            sum_dn += dn
            sum_dn_n += dn * normalised[r, c]
        mean_dn = sum_dn * scale
        mean_dn_n = sum_dn_n * scale
        for c in range(columns):
            dgamma[c] += dy[r, c] * normalised[r, c]
        for c in range(columns):
            dbeta[c] += dy[r, c]
        for c in range(columns):
            dx[r, c] = rstd[r] * (dy[r, c] * gamma[c] - mean_dn - normalised[r, c] * mean_dn_n)


@compiled
def masked_shift(scores, visible, shifted):
    """scores (N, T, T) minus the largest visible entry of their row; -inf where ``visible`` (T, T) is False."""
    for n in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            largest = scores.dtype.type(-np.inf)
            for j in range(scores.shape[2]):
                if visible[i, j] and scores[n, i, j] > largest:
                    largest = scores[n, i, j]
            for j in range(scores.shape[2]):
                shifted[n, i, j] = scores[n, i, j] - largest if visible[i, j] else -np.inf


@compiled
def normalise_rows(values):
    """Each row divided by its sum, in place."""
    for r in range(values.shape[0]):
        total = values.dtype.type(0.0)
        for c in range(values.shape[1]):
            total += values[r, c]
        inverse = values.dtype.type(1.0) / total
        for c in range(values.shape[1]):
            values[r, c] *= inverse


@compiled_callee
def softmax_gradient(dweights, weights, dscores):
    """dS = A (dA - sum(dA A)), row by row."""
    for r in range(weights.shape[0]):
        total = weights.dtype.type(0.0)
        for c in range(weights.shape[1]):
            total += dweights[r, c] * weights[r, c]
        for c in range(weights.shape[1]):
            dscores[r, c] = weights[r, c] * (dweights[r, c] - total)


@compiled
def tanh_gradient(dhidden, hidden, dpre):
    """dh (1 - tanh^2)."""
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            dpre[r, c] = dhidden[r, c] * (hidden.dtype.type(1.0) - hidden[r, c] * hidden[r, c])


@compiled
def gelu_argument(pre, scale, cubic, argument):
    """u = scale (h + cubic h^3); ``scale`` and ``cubic`` have the dtype of ``pre``."""
    for r in range(pre.shape[0]):
        for c in range(pre.shape[1]):
            h = pre[r, c]
            argument[r, c] = scale * (h + cubic * h * h * h)


@compiled
def gelu_gate(pre, gate, hidden):
    """h (1 + gate) / 2."""
    half, one = pre.dtype.type(0.5), pre.dtype.type(1.0)
    for r in range(pre.shape[0]):
        for c in range(pre.shape[1]):
            hidden[r, c] = half * pre[r, c] * (one + gate[r, c])


@compiled
def gelu_gradient(dhidden, pre, gate, scale, cubic, dpre):
    """dh ((1 + gate) + h (1 - gate^2) scale (1 + 3 cubic h^2)) / 2."""
    half, one, three = pre.dtype.type(0.5), pre.dtype.type(1.0), pre.dtype.type(3.0)
    for r in range(pre.shape[0]):
        for c in range(pre.shape[1]):
            h, g = pre[r, c], gate[r, c]
            slope = scale * (one + three * cubic * h * h)
            dpre[r, c] = dhidden[r, c] * half * (one + g + h * (one - g * g) * slope)


@compiled
def shift_logits(logits, targets, shifted, at_target):
    """Logits minus the maximum of their row; ``at_target`` gets the shifted logit of each row's target."""
    for r in range(logits.shape[0]):
        largest = logits[r, 0]
        for v in range(1, logits.shape[1]):
            if logits[r, v] > largest:
                largest = logits[r, v]
        for v in range(logits.shape[1]):
            shifted[r, v] = logits[r, v] - largest
        at_target[r] = shifted[r, targets[r]]


@compiled
def cross_entropy(exponentials, at_target, losses):
    """ln(sum) - shifted target logit of each row, in float64; the rows are normalised in place."""
    for r in range(exponentials.shape[0]):
        total = exponentials.dtype.type(0.0)
        for v in range(exponentials.shape[1]):
            total += exponentials[r, v]
        losses[r] = math.log(np.float64(total)) - np.float64(at_target[r])
        inverse = exponentials.dtype.type(1.0) / total
        for v in range(exponentials.shape[1]):
            exponentials[r, v] *= inverse


@compiled
def cross_entropy_gradient(probabilities, targets, dlogits):
    """(softmax - onehot) / rows."""
    scale = probabilities.dtype.type(1.0 / probabilities.shape[0])
    for r in range(probabilities.shape[0]):
        for v in range(probabilities.shape[1]):
            dlogits[r, v] = probabilities[r, v] * scale
        dlogits[r, targets[r]] -= scale


@compiled_callee
def gather_rows(table, ids, rows):
    """rows[r] = table[ids[r]]."""
    for r in range(ids.shape[0]):
        for c in range(table.shape[1]):
            rows[r, c] = table[ids[r], c]


@compiled_callee
def scatter_add_rows(table, ids, rows):
    """table[ids[r]] += rows[r], for every r in turn."""
    for r in range(ids.shape[0]):
        for c in range(table.shape[1]):
            table[ids[r], c] += rows[r, c]


@quiet()
def warm_up(report: Callable[[str], None], dtype: str = "float32") -> None:
    """Compiles every kernel for a dtype, or loads it from the cache, naming each to ``report`` first."""
    one = np.dtype(dtype).type(1.0)
    rows = np.ones((2, 2), dtype)
    line = np.ones(2, dtype)
    ids = np.zeros(2, np.int32)
    visible = np.tri(2, dtype=bool)
    calls: tuple[tuple[Callable, tuple], ...] = (
        (layer_norm, (rows, line, line, 1e-5, rows.copy(), line.copy(), rows.copy())),
        (layer_norm_gradient, (rows, rows, line, line, rows.copy(), line.copy(), line.copy())),
        (masked_shift, (rows[None], visible, rows[None].copy())),
        (normalise_rows, (rows.copy(),)),
        (softmax_gradient, (rows, rows, rows.copy())),
        (tanh_gradient, (rows, rows, rows.copy())),
        (gelu_argument, (rows, one, one, rows.copy())),
        (gelu_gate, (rows, rows, rows.copy())),
        (gelu_gradient, (rows, rows, rows, one, one, rows.copy())),
        (shift_logits, (rows, ids, rows.copy(), line.copy())),
        (cross_entropy, (rows.copy(), line, np.ones(2))),
        (cross_entropy_gradient, (rows, ids, rows.copy())),
        (gather_rows, (rows, ids, rows.copy())),
        (scatter_add_rows, (rows.copy(), ids, rows)),
    )
    for number, (kernel, arguments) in enumerate(calls, start=1):
        report(f"compiling {number}/{len(calls)} {kernel.__name__} ({dtype})")
        kernel(*arguments)
