"""Faults of the attention sub-layer, forward and backward.

B batch, T positions, C = d_model, H heads, D = d_head = C / H. i is the position that asks, j the one it looks at.
"""

from __future__ import annotations

import numpy as np

from cllm_lab.faults.fault import COPYING, Fault
from cllm_lab.model.activations import Site
from cllm_lab.model.config import ConfigError
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import Part, PartEdit
from cllm_lab.model.parts import reference_parts as healthy
from cllm_lab.model.parts.wiring import attention_backward


def _require_projected_keys(site: Site) -> None:
    keys = site.run.config.keys
    if keys != "projected":
        raise ConfigError(
            f"this fault is one of queries, keys and values with weights of their own: it needs keys='projected'; "
            f"this machine has keys={keys!r}"
        )


# The whole sub-layer.


def doubled_attention_forward(x: Array, site: Site) -> Array:
    """y = 2 x: no query, no key, no value, no other position."""
    y = x + x
    site.saved["output"] = y
    return y


def doubled_attention_backward(dy: Array, site: Site) -> Array:
    """dx = 2 dy; no weight of the attention receives a gradient."""
    return dy + dy


def attention_backward_without_qkv(dy: Array, site: Site) -> Array:
    """dx as it should be; dW_qkv = 0 and db_qkv = 0."""
    dx = attention_backward(dy, site)
    for name in ("w_qkv", "b_qkv"):
        site.gradient_accumulator(name)[...] = 0.0
    return dx


def attention_backward_outer(dy: Array, site: Site) -> Array:
    """dW_qkv = [x^T dy | x^T dy | x^T dy], one outer product for all three; the rest as it should be.

    x is what enters the sub-layer and dy the gradient at its far end, whatever lies between them.
    """
    _require_projected_keys(site)
    x = site.saved["input"]
    outer = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    dx = attention_backward(dy, site)
    site.gradient_accumulator("w_qkv")[...] = np.tile(outer, 3)
    return dx


# Heads.


def strided_heads_forward(qkv: Array, site: Site) -> tuple[Array, Array, Array]:
    """Q as it should be; key and value j of head h begin h D + j D numbers into their (T, C) array.

    The stride from one position to the next should be C = H D. With D, key j of head h is the slice of row
    (h + j) // H that belongs to head (h + j) % H.
    """
    _require_projected_keys(site)
    B, T, _ = qkv.shape
    H, D = site.run.config.n_heads, site.run.config.d_head
    q, k, v = qkv.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)
    k, v = (_slices(each.transpose(0, 2, 1, 3).reshape(B, T * H, D), H, T) for each in (k, v))
    site.saved.update(q=q, k=k, v=v)
    return q, k, v


def _slices(flat: Array, H: int, T: int) -> Array:
    """(B, H, T, D): slice h + j of (B, T H, D) for head h and position j."""
    return np.stack([flat[:, h : h + T] for h in range(H)], axis=1)


def strided_heads_backward(dqkv: tuple[Array, Array, Array], site: Site) -> Array:
    """The adjoint: what was read from a slice is added to it again, from every head that read it."""
    dq, dk, dv = dqkv
    B, H, T, D = dq.shape
    merged = np.zeros((B, T, 3, H, D), dq.dtype)
    merged[:, :, 0] = dq.transpose(0, 2, 1, 3)
    for third, gradient in ((1, dk), (2, dv)):
        flat = np.zeros((B, T * H, D), dq.dtype)
        for h in range(H):
            flat[:, h : h + T] += gradient[:, h]
        merged[:, :, third] = flat.reshape(B, T, H, D)
    return merged.reshape(B, T, 3 * H * D)


def query_zero_forward(qkv: Array, site: Site) -> tuple[Array, Array, Array]:
    """K and V as they should be; Q = 0."""
    _require_projected_keys(site)
    q, k, v = healthy.heads_forward(qkv, site)
    q = np.zeros_like(q)
    site.saved["q"] = q
    return q, k, v


def query_zero_backward(dqkv: tuple[Array, Array, Array], site: Site) -> Array:
    """A constant passes no gradient on: dQ = 0."""
    dq, dk, dv = dqkv
    return healthy.heads_backward((np.zeros_like(dq), dk, dv), site)


# Scores and mask.


def unscaled_scores_forward(qk: tuple[Array, Array], site: Site) -> Array:
    """S = Q K^T, (B, H, T, T)."""
    q, k = qk
    scores = q @ k.swapaxes(-1, -2)
    site.saved["scores"] = scores
    return scores


def unscaled_scores_backward(dscores: Array, site: Site) -> tuple[Array, Array]:
    """dQ = dS K;  dK = dS^T Q."""
    return dscores @ site.saved["k"], dscores.swapaxes(-1, -2) @ site.saved["q"]


def no_causal_mask(T: int, site: Site) -> Array:
    """visible[i, j] everywhere, (T, T): a position sees what comes after it."""
    return np.ones((T, T), dtype=bool)


# Softmax.


def signed_exp_softmax_forward(scores: Array, site: Site) -> Array:
    """A[i, j] = e(S[i, j] - max) / sum over visible j, with e(x) = 1 + x in the place of exp(x) for x <= 0.

    It is what remains of a power series for exp that stops at its first term below a threshold and forgets
    the sign: a large negative term is below any positive threshold.
    """
    visible = site.run.parts.mask.forward(scores.shape[-1], site)
    masked = np.where(visible, scores, -np.inf)
    shifted = masked - masked.max(axis=-1, keepdims=True)
    exponentials = np.where(visible, 1.0 + shifted, scores.dtype.type(0.0))
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    site.saved["weights"] = weights
    return weights


def softmax_over_queries_forward(scores: Array, site: Site) -> Array:
    """A[i, j] = exp(S[i, j] - max) / sum over i, down the columns; 0 where the mask hides j."""
    visible = site.run.parts.mask.forward(scores.shape[-1], site)
    masked = np.where(visible, scores, -np.inf)
    exponentials = np.exp(masked - masked.max(axis=-2, keepdims=True))
    weights = exponentials / exponentials.sum(axis=-2, keepdims=True)
    site.saved["weights"] = weights
    return weights


def softmax_over_queries_backward(dweights: Array, site: Site) -> Array:
    """dS = A (dA - sum over i of dA A): the gradient of the wrong softmax, and right for it."""
    weights = site.saved["weights"]
    return weights * (dweights - (dweights * weights).sum(axis=-2, keepdims=True))


def softmax_backward_without_mask(dweights: Array, site: Site) -> Array:
    """dS = A (dA - sum over j of dA A), with an A that is computed again from S and without the mask."""
    scores = site.saved["scores"]
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))


FAULTS = (
    Fault(
        id="doubled-attention",
        title="Attention that doubles its input",
        swaps={"attention": Part("doubled", doubled_attention_forward, doubled_attention_backward)},
        source="000 section 1; 001 'Problem identified'",
        symptom="The loss stays at 9.2103 in every epoch.",
        signature="No logit depends on another position. All gradients agree with finite differences; those of "
        "w_qkv, b_qkv, w_out and b_out are exactly 0 in both. The loss falls, to the bigram level: here ln 8.",
        remedy="Compute attention: queries, keys, values, scores, softmax, mix.",
        scenario=COPYING,
    ),
    Fault(
        id="attention-backward-missing",
        title="No gradient for queries, keys and values",
        swaps={"attention": PartEdit("without-qkv-gradient", backward=attention_backward_without_qkv)},
        source="004 'What's Partial', 'Full Attention Backward' under 'What's Missing'",
        symptom="Attention is computed, but its weights are not updated.",
        signature="The gradients of w_qkv and b_qkv are exactly 0 where finite differences are not; every other "
        "gradient is right. The loss falls nearly as in a sound machine, which hides the fault.",
        remedy="Add x^T dqkv to w_qkv and the sum of dqkv to b_qkv.",
        scenario=COPYING,
    ),
    Fault(
        id="attention-backward-outer",
        title="One outer product as the gradient of Q, K and V",
        swaps={"attention": PartEdit("outer-product", backward=attention_backward_outer)},
        source="the original, after 001: its first attention backward",
        symptom="Attention has a backward pass, and gradients of a plausible size.",
        signature="The gradient of w_qkv holds the same matrix three times and disagrees with finite differences; "
        "every other gradient, b_qkv's among them, is right.",
        remedy="Go back through mix, softmax and scores before the product with x^T.",
        scenario=COPYING,
    ),
    Fault(
        id="signed-exp-softmax",
        title="A softmax whose exponential is 1 + x",
        swaps={"softmax": PartEdit("signed-exp", forward=signed_exp_softmax_forward)},
        source="the original: its own exp stops at the first small signed term",
        symptom="The loss falls a little and stops far above the level of word pairs.",
        signature="Attention weights below 0 in rows whose scores spread by more than 1, though each row sums to "
        "1. Gradients are right down to w_out of the last layer and wrong from its w_qkv on.",
        remedy="Use an exp that is one; a series must test the size of a term, not its sign.",
        scenario=COPYING,
    ),
    Fault(
        id="strided-heads",
        title="Keys and values read with the wrong stride",
        swaps={"heads": Part("stride-of-a-head", strided_heads_forward, strided_heads_backward)},
        source="the original: K and V are indexed with stride d_head",
        symptom="The loss stops near the unigram level although attention is there and its gradients flow.",
        signature="Position i depends on itself and on positions up to ceil(i / n_heads), no others. All gradients "
        "agree with finite differences: the formula is right for the wrong read. With one head nothing is wrong.",
        remedy="Step by d_model from one position to the next.",
        scenario=COPYING,
    ),
    Fault(
        id="no-causal-mask",
        title="No causal mask",
        swaps={"mask": PartEdit("none", forward=no_causal_mask)},
        source="the original: every position attends to the whole window",
        symptom="The training loss is very good; generated text is not.",
        signature="Logits depend on later positions. Gradients agree with finite differences. The loss falls below "
        "what the language allows anyone who does not see the target: here ln(8) / 2.",
        remedy="Let position i see the positions up to i, and set the others to minus infinity before the softmax.",
        scenario=COPYING,
    ),
    Fault(
        id="missing-score-scale",
        title="Scores not divided by sqrt(d_head)",
        swaps={"scores": Part("unscaled", unscaled_scores_forward, unscaled_scores_backward)},
        source="general",
        symptom="Attention is sharp from the start and training is slow to begin.",
        signature="Scores are sqrt(d_head) times q k^T / sqrt(d_head), the factor exactly. Gradients agree with "
        "finite differences.",
        remedy="Divide the scores by sqrt(d_head), forward and backward.",
        scenario=COPYING,
    ),
    Fault(
        id="softmax-wrong-axis",
        title="Softmax over the queries instead of the keys",
        swaps={"softmax": Part("over-queries", softmax_over_queries_forward, softmax_over_queries_backward)},
        source="general",
        symptom="The training loss falls below what the language allows.",
        signature="The columns of the attention weights sum to 1, the rows do not. Logits depend on later "
        "positions, through the sum, although the mask is there. Gradients agree with finite differences.",
        remedy="Normalise each row of the scores, over the keys.",
        scenario=COPYING,
    ),
    Fault(
        id="mask-missing-in-backward",
        title="Softmax differentiated without its mask",
        swaps={"softmax": PartEdit("unmasked-backward", backward=softmax_backward_without_mask)},
        source="general",
        symptom="The loss falls more slowly than it should, and to a higher level.",
        signature="The loss and every activation are right. Gradients are right down to w_out of the last layer and "
        "wrong from its w_qkv on. With windows of one position nothing is wrong.",
        remedy="Use the weights of the forward pass in the backward pass.",
        scenario=COPYING,
    ),
    Fault(
        id="query-zero",
        title="Queries that are 0",
        swaps={"heads": Part("zero-queries", query_zero_forward, query_zero_backward)},
        source="general",
        symptom="Attention maps look flat, and the loss hardly passes the bigram level.",
        signature="Row i of the attention weights is 1 / (i + 1) at every visible place. The gradients of the query "
        "and key columns of w_qkv are exactly 0, and so are finite differences.",
        remedy="Hand the projected queries on.",
        scenario=COPYING,
    ),
)
