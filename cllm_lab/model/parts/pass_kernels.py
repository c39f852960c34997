"""The kernels of the compiled pass: each half of a block, forward and back, in one call without the interpreter.

The mathematics is that of `reference_parts`, whose formulas and sources hold here; tests hold the two together.
What differs is what stands between the products, and the order: the way back ends at the gradient dy of what each
product gave, and only then are the gradients of the weights made, x^T dy over all tokens of the batch at once.

r rows, the tokens of B sequences of T that one thread works on; C d_model, H heads, D d_head, F d_ff, V vocabulary.
Arrays that are named "a, then b" hold a until the way back has read it, and then b:

    normed (r, C)         what a norm made of its input, then the gradient of that input
    qkv (r, 3C)           queries, keys and values side by side, then their gradients
    slope (r, F)          phi'(h), then the gradient of h
    logits (r, V)         then their gradient

``products`` is what `products.multiply` and the others take; ``branch`` (r, C), ``wide`` (r, F), ``scores`` (T, T) and
``dq`` (T, D) are written and read again within one call.
"""

from __future__ import annotations

import math

import numpy as np

from cllm_lab.model.parts.jit import compiled, written_out
from cllm_lab.model.parts.kernels import layer_norm
from cllm_lab.model.parts.products import multiply, multiply_by_transpose, multiply_transpose_by
from cllm_lab.model.parts.vector_functions import exp, tanh

# Numbers that are compared side by side, in ``lanes``: a single running maximum would not use the vector registers.
LANES = 32


@compiled
def attention_forward(
    x, gamma, beta, w_qkv, b_qkv, w_out, b_out, epsilon,
    normed, rstd, read, qkv, weights, mixed, branch, scores, products,
):  # fmt: skip
    """x += Z W_o + b_o;  A = softmax(Q K^T / sqrt(D)) over the past, Z = A V, of n = norm(x) W_qkv + b_qkv.

    read: (r, C), gamma n + beta. weights: (B, H, T, T). mixed: (r, C), the heads' Z side by side.
    """
    layer_norm(x, gamma, beta, epsilon, normed, rstd, read)
    multiply(read, w_qkv, qkv, products)
    _add_bias(qkv, b_qkv)
    B, H, T, _ = weights.shape
    C = x.shape[1]
    D = C // H
    scale = x.dtype.type(1.0 / math.sqrt(D))
    for b in range(B):
        sequence = qkv[b * T : (b + 1) * T]
        for h in range(H):
            q, k, v = _head(sequence, h, C, D)
            multiply_by_transpose(q, k, scores, products)
            _causal_softmax(scores, scale, weights[b, h])
            multiply(weights[b, h], v, mixed[b * T : (b + 1) * T, h * D : (h + 1) * D], products)
    multiply(mixed, w_out, branch, products)
    _add_branch(x, branch, b_out)


@compiled
def attention_back(
    dx, w_qkv, w_out, qkv, weights, dmixed, scores, dq, products
):  # fmt: skip
    """From dx, the gradient of what `attention_forward` left, that of what it read, into ``dmixed``; not past the norm.

    dA = dZ V^T;  dV = A^T dZ;  dQ = dS K / sqrt(D);  dK = dS^T Q / sqrt(D).
    """
    multiply_by_transpose(dx, w_out, dmixed, products)
    B, H, T, _ = weights.shape
    C = dx.shape[1]
    D = C // H
    scale = dx.dtype.type(1.0 / math.sqrt(D))
    for b in range(B):
        sequence = qkv[b * T : (b + 1) * T]
        for h in range(H):
            q, k, v = _head(sequence, h, C, D)
            dz = dmixed[b * T : (b + 1) * T, h * D : (h + 1) * D]
            multiply_by_transpose(dz, v, scores, products)
            multiply_transpose_by(weights[b, h], dz, v, products)
            _softmax_back(scores, weights[b, h], scale)
            multiply(scores, k, dq, products)
            multiply_transpose_by(scores, q, k, products)
            for t in range(T):
                for d in range(D):
                    q[t, d] = dq[t, d]
    multiply_by_transpose(qkv, w_qkv, dmixed, products)


@compiled
def feed_forward(
    x, gamma, beta, w_ff1, b_ff1, w_ff2, b_ff2, epsilon, gelu, normed, rstd, read, hidden, slope, branch, products
):  # fmt: skip
    """x += phi(h) W_2 + b_2,  h = norm(x) W_1 + b_1. gelu: its constants (scale, cubic), both 0 for tanh."""
    layer_norm(x, gamma, beta, epsilon, normed, rstd, read)
    multiply(read, w_ff1, hidden, products)
    if gelu[0] != 0.0:
        _gelu(hidden, b_ff1, gelu, slope)
    else:
        _tanh(hidden, b_ff1, slope)
    multiply(hidden, w_ff2, branch, products)
    _add_branch(x, branch, b_ff2)


@compiled
def feed_forward_back(dx, w_ff1, w_ff2, slope, dread, wide, products):
    """From dx, the gradient of what `feed_forward` left, that of what it read, into ``dread``; not past the norm."""
    multiply_by_transpose(dx, w_ff2, wide, products)
    _multiply_elements(slope, wide)
    multiply_by_transpose(slope, w_ff1, dread, products)


@compiled
def output_forward(
    x, gamma, beta, output, targets, count, epsilon, normed, rstd, read, logits, losses, lanes, products
):
    """Losses of z = norm(x) U^T, in nats, and over z the gradient dz of their sum over ``count``."""
    layer_norm(x, gamma, beta, epsilon, normed, rstd, read)
    multiply_by_transpose(read, output, logits, products)
    _cross_entropy(logits, targets, losses, lanes, count)


@compiled
def output_back(logits, output, dread, products):
    """The gradient of what `output_forward` read, into ``dread``; not past the norm."""
    multiply(logits, output, dread, products)


@compiled
def norm_back(dy, gamma, normed, rstd, dx, dgamma, dbeta):
    """dx += rstd (dn - mean(dn) - n mean(dn n)), dn = dy gamma: past a norm, whose input went on beside it as well.

    The new dx also goes where n was. dgamma, dbeta: (B, C), of each sequence.
    """
    rows, columns = dy.shape
    T = rows // dgamma.shape[0]
    scale = dy.dtype.type(1.0 / columns)
    dgamma[:] = 0.0
    dbeta[:] = 0.0
    for r in range(rows):
        d, n, x = dy[r], normed[r], dx[r]
        dg, db = dgamma[r // T], dbeta[r // T]
        sum_dn = dy.dtype.type(0.0)
        sum_dn_n = dy.dtype.type(0.0)
        for c in range(columns):
            dn = d[c] * gamma[c]
            sum_dn += dn
            sum_dn_n += dn * n[c]
        mean_dn = sum_dn * scale
        mean_dn_n = sum_dn_n * scale
        # One array written in each loop: with more, the compiler cannot tell that they lie apart.
        for c in range(columns):
            dg[c] += d[c] * n[c]
        for c in range(columns):
            db[c] += d[c]
        for c in range(columns):
            x[c] += rstd[r] * (d[c] * gamma[c] - mean_dn - n[c] * mean_dn_n)
        for c in range(columns):
            n[c] = x[c]


@compiled
def weight_gradient(x, dy, dw, products):
    """dW = x^T dy."""
    multiply_transpose_by(x, dy, dw, products)


@written_out
def _head(qkv, h, C, D):
    """Queries, keys and values of one head: (T, D) each, where they lie in (T, 3C)."""
    start = h * D
    return (
        qkv[:, start : start + D],
        qkv[:, C + start : C + start + D],
        qkv[:, 2 * C + start : 2 * C + start + D],
    )


@written_out
def _multiply_elements(x, y):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[r, c] *= y[r, c]


@written_out
def _add_bias(x, bias):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[r, c] += bias[c]


@written_out
def _add_branch(x, branch, bias):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[r, c] += branch[r, c] + bias[c]


@written_out
def _causal_softmax(scores, scale, weights):
    """Row i: softmax of scale * scores over columns 0 to i, and 0 after them."""
    T = scores.shape[0]
    zero = scores.dtype.type(0.0)
    for i in range(T):
        largest = scores[i, 0]
        for j in range(1, i + 1):
            if scores[i, j] > largest:
                largest = scores[i, j]
        total = zero
        # Over the whole row, since a loop of a fixed length runs in vector registers to its end.
        for j in range(T):
            weights[i, j] = exp(scale * (scores[i, j] - largest)) if j <= i else zero
            total += weights[i, j]
        inverse = scores.dtype.type(1.0) / total
        for j in range(T):
            weights[i, j] *= inverse


@written_out
def _softmax_back(dscores, weights, scale):
    """dS = scale A (dA - sum(dA A)), row by row, over dA."""
    for r in range(weights.shape[0]):
        total = weights.dtype.type(0.0)
        for c in range(weights.shape[1]):
            total += dscores[r, c] * weights[r, c]
        for c in range(weights.shape[1]):
            dscores[r, c] = scale * (weights[r, c] * (dscores[r, c] - total))


@written_out
def _tanh(hidden, bias, slope):
    """phi(h) = tanh h, over the products that ``hidden`` holds;  phi'(h) = 1 - tanh^2 h."""
    one = hidden.dtype.type(1.0)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            value = tanh(hidden[r, c] + bias[c])
            hidden[r, c] = value
            slope[r, c] = one - value * value


@written_out
def _gelu(hidden, bias, constants, slope):
    """phi(h) = h (1 + g) / 2, g = tanh u, u = s (h + c h^3);  phi'(h) = (1 + g + h (1 - g^2) s (1 + 3 c h^2)) / 2."""
    scale, cubic = constants
    half, one, three = hidden.dtype.type(0.5), hidden.dtype.type(1.0), hidden.dtype.type(3.0)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            h = hidden[r, c] + bias[c]
            gate = tanh(scale * (h + cubic * h * h * h))
            hidden[r, c] = half * h * (one + gate)
            slope[r, c] = half * (
                one + gate + h * (one - gate * gate) * scale * (one + three * cubic * h * h)
            )


@written_out
def _cross_entropy(logits, targets, losses, lanes, count):
    """The losses in nats, row by row; the logits become dz = (softmax - onehot) / count."""
    scale = logits.dtype.type(1.0 / count)
    for r in range(logits.shape[0]):
        row = logits[r]
        largest = _largest(row, lanes)
        at_target = row[targets[r]] - largest
        total = logits.dtype.type(0.0)
        for v in range(row.size):
            row[v] = exp(row[v] - largest)
            total += row[v]
        losses[r] = math.log(np.float64(total)) - np.float64(at_target)
        inverse = scale / total
        for v in range(row.size):
            row[v] *= inverse
        row[targets[r]] -= scale


@written_out
def _largest(row, lanes):
    """The largest number of a row; where there are NaN, any of its numbers."""
    whole = row.size // LANES * LANES
    lanes[:] = row[0]
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            value = row[start + lane]
            lanes[lane] = value if value > lanes[lane] else lanes[lane]
    largest = lanes[0]
    for lane in range(1, LANES):
        if lanes[lane] > largest:
            largest = lanes[lane]
    for v in range(whole, row.size):
        if row[v] > largest:
            largest = row[v]
    return largest
