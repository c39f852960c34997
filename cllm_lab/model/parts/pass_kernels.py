"""A whole pass of the healthy machine in one compiled call: loss and every gradient, without the interpreter.

The mathematics is that of `reference_parts`, whose formulas and sources hold here; tests hold the two together.
What differs is only what stands between the products. Every function works on the sequences of one share of a
batch, so that shares can run side by side: R = B T rows of a share, C d_model, H heads, D d_head, F d_ff, L layers,
V vocabulary. Products are NumPy's `dot`, which compiled code hands to the linear algebra library of SciPy.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

from cllm_lab.model.parts.jit import compiled, compiled_callee
from cllm_lab.model.parts.kernels import (
    gather_rows,
    layer_norm,
    layer_norm_gradient,
    scatter_add_rows,
    softmax_gradient,
)
from cllm_lab.model.parts.vector_functions import exp, tanh

LAYER_TENSORS = (
    "ln1.gamma", "ln1.beta", "w_qkv", "b_qkv", "w_out", "b_out",
    "ln2.gamma", "ln2.beta", "w_ff1", "b_ff1", "w_ff2", "b_ff2",
)  # fmt: skip
Layer = namedtuple(
    "Layer",
    [
        "gamma1", "beta1", "w_qkv", "b_qkv", "w_out", "b_out",
        "gamma2", "beta2", "w_ff1", "b_ff1", "w_ff2", "b_ff2",
    ],
)  # fmt: skip

# Numbers that are compared side by side; a single running maximum would not use the vector registers.
LANES = 32

# What the forward pass of a share keeps for its backward pass; the leading axis of each array is the layer.
Kept = namedtuple(
    "Kept",
    [
        "normed1", "rstd1", "read1",  # (L, R, C), (L, R), (L, R, C): normalised; 1 / deviation; gamma n + beta
        "q", "k", "v",  # (L, B, H, T, D)
        "weights",  # (L, B, H, T, T)
        "mixed",  # (L, R, C)
        "normed2", "rstd2", "read2",
        "pre", "hidden",  # (L, R, F); pre is empty where the activation's slope follows from its value
        "normed", "rstd", "final_hidden",  # (R, C), (R,), (R, C)
    ],
)  # fmt: skip

# Arrays that are written and read again within one layer.
Scratch = namedtuple(
    "Scratch",
    [
        "x", "branch", "dx", "dread",  # (R, C)
        "qkv",  # (R, 3C)
        "dhidden",  # (R, F)
        "logits",  # (R, V)
        "losses",  # (R,), float64
        "square",  # (T, T)
        "head", "dhead",  # (T, D)
    ],
)  # fmt: skip


def _part_of_the_pass(function):
    """For what is called in one place, and need not be compiled by itself as well."""
    return compiled(function, inline="always")


@compiled
def loss_and_gradients(
    params, grads, layers, places, tokens, targets, positions, kept, scratch, epsilon, gelu, tied, learned, count
):  # fmt: skip
    """The losses of a share into ``scratch.losses``, in nats; into ``grads`` the gradient of their sum over ``count``.

    count: the tokens of the whole batch. gelu: its constants (scale, cubic), both 0 for tanh.
    params, grads: flat (n,); every entry of grads is overwritten. layers: (L, 12), where each tensor of
    `LAYER_TENSORS` starts in them; places: where token_embedding, position_embedding, output_embedding, ln_final.gamma
    and ln_final.beta start. tokens, targets: (R,). positions: what is added to the embedding, a row for
    each place of the context, of which a share may use fewer.
    """
    R, C = scratch.x.shape
    F, V, T = scratch.dhidden.shape[1], scratch.logits.shape[1], scratch.square.shape[0]
    n_layers = layers.shape[0]
    embedding = _matrix(params, places[0], V, C)
    output = embedding if tied else _matrix(params, places[2], V, C)
    x = scratch.x

    gather_rows(embedding, tokens, x)
    for r in range(R):
        for c in range(C):
            x[r, c] += positions[r % T, c]
    for i in range(n_layers):
        _block_forward(_layer(params, layers[i], C, F), i, x, kept, scratch, epsilon, gelu)
    gain, shift = _vector(params, places[3], C), _vector(params, places[4], C)
    layer_norm(x, gain, shift, epsilon, kept.normed, kept.rstd, kept.final_hidden)
    np.dot(kept.final_hidden, output.T, scratch.logits)
    _cross_entropy(scratch.logits, targets, scratch.losses, count)

    d_embedding = _matrix(grads, places[0], V, C)
    d_output = d_embedding if tied else _matrix(grads, places[2], V, C)
    np.dot(scratch.logits.T, kept.final_hidden, d_output)
    np.dot(scratch.logits, output, scratch.dread)
    d_gain, d_shift = _vector(grads, places[3], C), _vector(grads, places[4], C)
    layer_norm_gradient(scratch.dread, kept.normed, kept.rstd, gain, scratch.dx, d_gain, d_shift)
    for reverse in range(n_layers):
        i = n_layers - 1 - reverse
        _block_backward(
            _layer(params, layers[i], C, F), _layer(grads, layers[i], C, F), i, kept, scratch, gelu
        )
    if not tied:
        d_embedding[:] = 0.0
    if learned:
        d_positions = _matrix(grads, places[1], positions.shape[0], C)
        d_positions[:] = 0.0
        for r in range(R):
            for c in range(C):
                d_positions[r % T, c] += scratch.dx[r, c]
    scatter_add_rows(d_embedding, tokens, scratch.dx)


@compiled_callee
def _matrix(flat, start, rows, columns):
    return flat[start : start + rows * columns].reshape(rows, columns)


@compiled_callee
def _vector(flat, start, size):
    return flat[start : start + size]


@compiled_callee
def _layer(flat, at, C, F):
    """The tensors of one layer, views into the flat buffer."""
    return Layer(
        _vector(flat, at[0], C),
        _vector(flat, at[1], C),
        _matrix(flat, at[2], C, 3 * C),
        _vector(flat, at[3], 3 * C),
        _matrix(flat, at[4], C, C),
        _vector(flat, at[5], C),
        _vector(flat, at[6], C),
        _vector(flat, at[7], C),
        _matrix(flat, at[8], C, F),
        _vector(flat, at[9], F),
        _matrix(flat, at[10], F, C),
        _vector(flat, at[11], C),
    )


@_part_of_the_pass
def _block_forward(p, i, x, kept, scratch, epsilon, gelu):
    """x += attention(norm(x));  x += ff(norm(x)), in place."""
    layer_norm(x, p.gamma1, p.beta1, epsilon, kept.normed1[i], kept.rstd1[i], kept.read1[i])
    np.dot(kept.read1[i], p.w_qkv, scratch.qkv)
    _split_heads(scratch.qkv, p.b_qkv, kept.q[i], kept.k[i], kept.v[i])
    _attention_forward(
        kept.q[i], kept.k[i], kept.v[i], kept.weights[i], kept.mixed[i], scratch.square, scratch.head
    )
    np.dot(kept.mixed[i], p.w_out, scratch.branch)
    _add_branch(x, scratch.branch, p.b_out)

    layer_norm(x, p.gamma2, p.beta2, epsilon, kept.normed2[i], kept.rstd2[i], kept.read2[i])
    hidden = kept.hidden[i]
    np.dot(kept.read2[i], p.w_ff1, hidden)
    if gelu[0] != 0.0:
        _gelu_forward(hidden, p.b_ff1, gelu, kept.pre[i])
    else:
        _tanh_forward(hidden, p.b_ff1)
    np.dot(hidden, p.w_ff2, scratch.branch)
    _add_branch(x, scratch.branch, p.b_ff2)


@_part_of_the_pass
def _block_backward(p, g, i, kept, scratch, gelu):
    """scratch.dx, the gradient of the block's output, becomes that of its input."""
    dx, dread, dhidden = scratch.dx, scratch.dread, scratch.dhidden
    np.dot(kept.hidden[i].T, dx, g.w_ff2)
    _column_sums(dx, g.b_ff2)
    np.dot(dx, p.w_ff2.T, dhidden)
    if gelu[0] != 0.0:
        _gelu_backward(dhidden, gelu, kept.pre[i])
    else:
        _tanh_backward(dhidden, kept.hidden[i])
    np.dot(kept.read2[i].T, dhidden, g.w_ff1)
    _column_sums(dhidden, g.b_ff1)
    np.dot(dhidden, p.w_ff1.T, dread)
    layer_norm_gradient(dread, kept.normed2[i], kept.rstd2[i], p.gamma2, scratch.branch, g.gamma2, g.beta2)
    _add(dx, scratch.branch)

    np.dot(kept.mixed[i].T, dx, g.w_out)
    _column_sums(dx, g.b_out)
    np.dot(dx, p.w_out.T, dread)
    _attention_backward(
        dread,
        kept.q[i],
        kept.k[i],
        kept.v[i],
        kept.weights[i],
        scratch.qkv,
        scratch.square,
        scratch.head,
        scratch.dhead,
    )
    np.dot(kept.read1[i].T, scratch.qkv, g.w_qkv)
    _column_sums(scratch.qkv, g.b_qkv)
    np.dot(scratch.qkv, p.w_qkv.T, dread)
    layer_norm_gradient(dread, kept.normed1[i], kept.rstd1[i], p.gamma1, scratch.branch, g.gamma1, g.beta1)
    _add(dx, scratch.branch)


@compiled_callee
def _add(x, y):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[r, c] += y[r, c]


@compiled_callee
def _add_branch(x, branch, bias):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[r, c] += branch[r, c] + bias[c]


@compiled_callee
def _column_sums(dy, db):
    db[:] = 0.0
    for r in range(dy.shape[0]):
        for c in range(dy.shape[1]):
            db[c] += dy[r, c]


@_part_of_the_pass
def _split_heads(qkv, bias, q, k, v):
    """qkv + bias, (R, 3C), as three arrays (B, H, T, D)."""
    C = q.shape[1] * q.shape[3]
    _read_heads(qkv, bias, 0, q)
    _read_heads(qkv, bias, C, k)
    _read_heads(qkv, bias, 2 * C, v)


@compiled_callee
def _read_heads(rows, bias, first_column, heads):
    B, H, T, D = heads.shape
    for b in range(B):
        for h in range(H):
            start = first_column + h * D
            for t in range(T):
                for d in range(D):
                    heads[b, h, t, d] = rows[b * T + t, start + d] + bias[start + d]


@_part_of_the_pass
def _attention_forward(q, k, v, weights, mixed, scores, head):
    """A = softmax(Q K^T / sqrt(D)) over the past;  Z = A V, heads side by side in ``mixed``."""
    B, H, T, D = q.shape
    scale = q.dtype.type(1.0 / math.sqrt(D))
    for b in range(B):
        for h in range(H):
            np.dot(q[b, h], k[b, h].T, scores)
            _causal_softmax(scores, scale, weights[b, h])
            np.dot(weights[b, h], v[b, h], head)
            for t in range(T):
                for d in range(D):
                    mixed[b * T + t, h * D + d] = head[t, d]


@_part_of_the_pass
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


@_part_of_the_pass
def _attention_backward(dmixed, q, k, v, weights, dqkv, square, dz, dhead):
    """dA = dZ V^T;  dV = A^T dZ;  dQ = dS K / sqrt(D);  dK = dS^T Q / sqrt(D), side by side in ``dqkv``."""
    B, H, T, D = q.shape
    scale = q.dtype.type(1.0 / math.sqrt(D))
    one = q.dtype.type(1.0)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                for d in range(D):
                    dz[t, d] = dmixed[b * T + t, h * D + d]
            np.dot(weights[b, h].T, dz, dhead)
            _write_head(dhead, one, dqkv, b * T, 2 * H * D + h * D)
            np.dot(dz, v[b, h].T, square)
            softmax_gradient(square, weights[b, h], square)
            np.dot(square, k[b, h], dhead)
            _write_head(dhead, scale, dqkv, b * T, h * D)
            np.dot(square.T, q[b, h], dhead)
            _write_head(dhead, scale, dqkv, b * T, H * D + h * D)


@compiled_callee
def _write_head(head, scale, rows, first_row, first_column):
    for t in range(head.shape[0]):
        for d in range(head.shape[1]):
            rows[first_row + t, first_column + d] = scale * head[t, d]


@_part_of_the_pass
def _tanh_forward(hidden, bias):
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            hidden[r, c] = tanh(hidden[r, c] + bias[c])


@_part_of_the_pass
def _tanh_backward(dhidden, hidden):
    one = hidden.dtype.type(1.0)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            dhidden[r, c] *= one - hidden[r, c] * hidden[r, c]


@_part_of_the_pass
def _gelu_forward(hidden, bias, constants, pre):
    scale, cubic = constants
    half, one = hidden.dtype.type(0.5), hidden.dtype.type(1.0)
    for r in range(hidden.shape[0]):
        for c in range(hidden.shape[1]):
            value = hidden[r, c] + bias[c]
            pre[r, c] = value
            hidden[r, c] = half * value * (one + tanh(scale * (value + cubic * value * value * value)))


@_part_of_the_pass
def _gelu_backward(dhidden, constants, pre):
    scale, cubic = constants
    half, one, three = pre.dtype.type(0.5), pre.dtype.type(1.0), pre.dtype.type(3.0)
    for r in range(pre.shape[0]):
        for c in range(pre.shape[1]):
            h = pre[r, c]
            gate = tanh(scale * (h + cubic * h * h * h))
            slope = scale * (one + three * cubic * h * h)
            dhidden[r, c] *= half * (one + gate + h * (one - gate * gate) * slope)


@_part_of_the_pass
def _cross_entropy(logits, targets, losses, count):
    """The losses in nats, row by row; the logits become dz = (softmax - onehot) / count."""
    scale = logits.dtype.type(1.0 / count)
    lanes = np.empty(LANES, logits.dtype)
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


@compiled_callee
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
