"""The fast parts: the same mathematics as `reference`, with results written into kept buffers.

Large products are made by `products`, small ones by NumPy's BLAS, exponentials and tanh by NumPy's vector loops, and
what is left by the compiled kernels. A part here gives what its twin in `reference` gives, up to rounding; formulas and
sources stand there. B batch, T positions, C d_model, H heads, D d_head, F d_ff, V vocabulary.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import kernels, wiring
from cllm_lab.model.parts import reference_parts as reference
from cllm_lab.model.parts.lattice_parts import LATTICE_PARTS
from cllm_lab.model.parts.products import product
from cllm_lab.model.parts.table import Part, table
from cllm_lab.model.parts.threads import library_threads


def _rows(x: Array) -> Array:
    """(..., N) as (rows, N), the form that products over all tokens at once and the kernels take."""
    return x.reshape(-1, x.shape[-1])


def transformer_forward(tokens: Array, site: Site) -> Array:
    """The wiring that both tables share, its products on as many threads as their size is worth."""
    with library_threads(site.run.config, tokens.size, site.run.dtype):
        return wiring.transformer_forward(tokens, site)


def transformer_backward(dlogits: Array | None, dfinal_hidden: Array | None, site: Site) -> None:
    """The same path backwards."""
    with library_threads(site.run.config, site.run.tokens.size, site.run.dtype):
        wiring.transformer_backward(dlogits, dfinal_hidden, site)


def embedding_forward(tokens: Array, site: Site) -> Array:
    """x = E[tokens]."""
    E = site.params["token_embedding"]
    x = site.buffer("output", (*tokens.shape, E.shape[1]))
    kernels.gather_rows(E, tokens.ravel(), _rows(x))
    return x


def embedding_backward(dx: Array, site: Site) -> None:
    """dE[v] += the sum of dx where v stands."""
    kernels.scatter_add_rows(site.gradient_accumulator("token_embedding"), site.run.tokens.ravel(), _rows(dx))


def learned_positions_forward(x: Array, site: Site) -> Array:
    """y = x + P."""
    y = site.buffer("output", x.shape)
    return np.add(x, site.params["position_embedding"][: x.shape[1]], out=y)


def sinusoidal_positions_forward(x: Array, site: Site) -> Array:
    """y = x + S, S computed once for each length."""
    wave = _wave(*x.shape[1:], x.dtype)
    return np.add(x, wave, out=site.buffer("output", x.shape))


@lru_cache(maxsize=8)
def _wave(n_positions: int, d_model: int, dtype: np.dtype) -> Array:
    wave = reference.sinusoid(n_positions, d_model).astype(dtype)
    wave.flags.writeable = False
    return wave


def dropout_forward(x: Array, site: Site) -> Array:
    """y = x m / (1 - p), with the draws that `reference` makes."""
    p = site.run.config.dropout
    rng = site.run.dropout_rng
    if p == 0.0 or rng is None:
        site.saved.pop("mask", None)
        return x
    draws = rng.random(out=site.scratch("draws", x.shape, np.float64))
    mask = site.buffer("mask", x.shape)
    np.multiply(draws >= p, x.dtype.type(1.0) / x.dtype.type(1.0 - p), out=mask)
    return np.multiply(x, mask, out=site.scratch("dropped", x.shape))


def layer_norm_forward(x: Array, site: Site) -> Array:
    """y = gamma n + beta."""
    y = site.buffer("output", x.shape)
    kernels.layer_norm(
        _rows(x),
        site.params["gamma"],
        site.params["beta"],
        site.run.config.norm_epsilon,
        _rows(site.buffer("normalised", x.shape)),
        site.buffer("rstd", (*x.shape[:-1], 1)).ravel(),
        _rows(y),
    )
    return y


def layer_norm_backward(dy: Array, site: Site) -> Array:
    """dx = rstd (dn - mean(dn) - n mean(dn n))."""
    gamma = site.params["gamma"]
    dx = site.scratch("dx", dy.shape)
    dgamma, dbeta = site.scratch("dgamma", gamma.shape), site.scratch("dbeta", gamma.shape)
    normalised, rstd = site.saved["normalised"], site.saved["rstd"]
    kernels.layer_norm_gradient(_rows(dy), _rows(normalised), rstd.ravel(), gamma, _rows(dx), dgamma, dbeta)
    site.add_gradient("gamma", dgamma)
    site.add_gradient("beta", dbeta)
    return dx


def residual_forward(x: Array, branch: Array, site: Site) -> Array:
    """y = x + branch."""
    return np.add(x, branch, out=site.buffer("output", x.shape))


def linear_forward(x: Array, weight: str, bias: str, saved_as: str, site: Site) -> Array:
    """y = x W + b over all tokens at once."""
    W = site.params[weight]
    y = site.buffer(saved_as, (*x.shape[:-1], W.shape[1]))
    product(_rows(x), W, _rows(y))
    return np.add(y, site.params[bias], out=y)


def linear_backward(dy: Array, x: Array, weight: str, bias: str, site: Site) -> Array:
    """dW = x^T dy;  db = sum dy;  dx = dy W^T."""
    W = site.params[weight]
    site.add_gradient_product(weight, _rows(x).T, _rows(dy), product)
    site.add_gradient(bias, _rows(dy).sum(axis=0))
    dx = site.scratch("d" + weight, x.shape)
    product(_rows(dy), W.T, _rows(dx))
    return dx


def qkv_forward(x: Array, site: Site) -> Array:
    """qkv = x W_qkv + b_qkv."""
    site.saved["input"] = x
    return linear_forward(x, "w_qkv", "b_qkv", "qkv", site)


def qkv_backward(dqkv: Array, site: Site) -> Array:
    """Back through the linear map."""
    return linear_backward(dqkv, site.saved["input"], "w_qkv", "b_qkv", site)


def heads_backward(dqkv: tuple[Array, Array, Array], site: Site) -> Array:
    """(dq, dk, dv) of (B, H, T, D) side by side again: (B, T, 3C)."""
    B, H, T, D = dqkv[0].shape
    merged = site.scratch("dqkv", (B, T, 3 * H * D))
    thirds = merged.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)
    for third, gradient in zip(thirds, dqkv, strict=True):
        np.copyto(third, gradient)
    return merged


def scores_forward(qk: tuple[Array, Array], site: Site) -> Array:
    """S = Q K^T / sqrt(D)."""
    q, k = qk
    B, H, T, D = q.shape
    scores = np.matmul(q, k.swapaxes(-1, -2), out=site.buffer("scores", (B, H, T, T)))
    return np.multiply(scores, scores.dtype.type(1.0 / math.sqrt(D)), out=scores)


def scores_backward(dscores: Array, site: Site) -> tuple[Array, Array]:
    """dQ = dS K / sqrt(D);  dK = dS^T Q / sqrt(D)."""
    q, k = site.saved["q"], site.saved["k"]
    scaled = site.scratch("scaled", dscores.shape)
    np.multiply(dscores, dscores.dtype.type(1.0 / math.sqrt(q.shape[-1])), out=scaled)
    dq = np.matmul(scaled, k, out=site.scratch("dq", q.shape))
    dk = np.matmul(scaled.swapaxes(-1, -2), q, out=site.scratch("dk", k.shape))
    return dq, dk


def softmax_forward(scores: Array, site: Site) -> Array:
    """A = softmax over the visible entries."""
    visible = site.run.parts.mask.forward(scores.shape[-1], site)
    weights = site.buffer("weights", scores.shape)
    T = scores.shape[-1]
    kernels.masked_shift(scores.reshape(-1, T, T), visible, weights.reshape(-1, T, T))
    np.exp(weights, out=weights)
    kernels.normalise_rows(_rows(weights))
    return weights


def softmax_backward(dweights: Array, site: Site) -> Array:
    """dS = A (dA - sum(dA A))."""
    weights = site.saved["weights"]
    dscores = site.scratch("dscores", weights.shape)
    kernels.softmax_gradient(_rows(dweights), _rows(weights), _rows(dscores))
    return dscores


def mix_forward(weights_v: tuple[Array, Array], site: Site) -> Array:
    """Z = A V, heads laid side by side."""
    weights, v = weights_v
    B, H, T, D = v.shape
    mixed = site.buffer("mixed", (B, T, H * D))
    np.matmul(weights, v, out=mixed.reshape(B, T, H, D).transpose(0, 2, 1, 3))
    return mixed


def mix_backward(dmixed: Array, site: Site) -> tuple[Array, Array]:
    """dA = dZ V^T;  dV = A^T dZ."""
    v, weights = site.saved["v"], site.saved["weights"]
    B, H, T, D = v.shape
    dz = dmixed.reshape(B, T, H, D).transpose(0, 2, 1, 3)
    dweights = np.matmul(dz, v.swapaxes(-1, -2), out=site.scratch("dweights", weights.shape))
    dv = np.matmul(weights.swapaxes(-1, -2), dz, out=site.scratch("dv", v.shape))
    return dweights, dv


def w_out_forward(mixed: Array, site: Site) -> Array:
    """y = Z W_o + b_o."""
    return linear_forward(mixed, "w_out", "b_out", "output", site)


def w_out_backward(dy: Array, site: Site) -> Array:
    """Back through the linear map."""
    return linear_backward(dy, site.saved["mixed"], "w_out", "b_out", site)


def feed_forward_forward(x: Array, site: Site) -> Array:
    """y = phi(x W_1 + b_1) W_2 + b_2."""
    site.saved["input"] = x
    pre = linear_forward(x, "w_ff1", "b_ff1", "pre", site)
    hidden = site.run.parts.activation.forward(pre, site)
    return linear_forward(hidden, "w_ff2", "b_ff2", "output", site)


def feed_forward_backward(dy: Array, site: Site) -> Array:
    """Back through W_2, phi and W_1."""
    dhidden = linear_backward(dy, site.saved["hidden"], "w_ff2", "b_ff2", site)
    dpre = site.run.parts.activation.backward(dhidden, site)
    return linear_backward(dpre, site.saved["input"], "w_ff1", "b_ff1", site)


def tanh_forward(pre: Array, site: Site) -> Array:
    """phi(h) = tanh h."""
    return np.tanh(pre, out=site.buffer("hidden", pre.shape))


def tanh_backward(dhidden: Array, site: Site) -> Array:
    """phi'(h) = 1 - tanh^2 h."""
    dpre = site.scratch("dpre", dhidden.shape)
    kernels.tanh_gradient(_rows(dhidden), _rows(site.saved["hidden"]), _rows(dpre))
    return dpre


def _gelu_constants(dtype: np.dtype) -> tuple[np.floating, np.floating]:
    return dtype.type(reference.GELU_SCALE), dtype.type(reference.GELU_CUBIC)


def gelu_forward(pre: Array, site: Site) -> Array:
    """phi(h) = h (1 + tanh u) / 2."""
    gate, hidden = site.buffer("gate", pre.shape), site.buffer("hidden", pre.shape)
    kernels.gelu_argument(_rows(pre), *_gelu_constants(pre.dtype), _rows(gate))
    np.tanh(gate, out=gate)
    kernels.gelu_gate(_rows(pre), _rows(gate), _rows(hidden))
    return hidden


def gelu_backward(dhidden: Array, site: Site) -> Array:
    """phi'(h) from the saved gate."""
    pre, gate = site.saved["pre"], site.saved["gate"]
    dpre = site.scratch("dpre", dhidden.shape)
    kernels.gelu_gradient(_rows(dhidden), _rows(pre), _rows(gate), *_gelu_constants(pre.dtype), _rows(dpre))
    return dpre


def tied_output_forward(x: Array, site: Site) -> Array:
    """logits = x E^T."""
    return _output_forward(x, "token_embedding", site)


def tied_output_backward(dlogits: Array, site: Site) -> Array:
    """dE += dlogits^T x;  dx = dlogits E."""
    return _output_backward(dlogits, "token_embedding", site)


def untied_output_forward(x: Array, site: Site) -> Array:
    """logits = x U^T."""
    return _output_forward(x, "output_embedding", site)


def untied_output_backward(dlogits: Array, site: Site) -> Array:
    """dU += dlogits^T x;  dx = dlogits U."""
    return _output_backward(dlogits, "output_embedding", site)


def _output_forward(x: Array, weight: str, site: Site) -> Array:
    site.saved["input"] = x
    W = site.params[weight]
    logits = site.buffer("output", (*x.shape[:-1], W.shape[0]))
    product(_rows(x), W.T, _rows(logits))
    return logits


def _output_backward(dlogits: Array, weight: str, site: Site) -> Array:
    x = site.saved["input"]
    site.add_gradient_product(weight, _rows(dlogits).T, _rows(x), product)
    dx = site.scratch("dx", x.shape)
    product(_rows(dlogits), site.params[weight], _rows(dx))
    return dx


def cross_entropy_forward(logits: Array, site: Site) -> float:
    """L = mean of [ln sum exp(z - m) + m - z_target], in nats."""
    targets = site.run.targets
    probabilities = site.buffer("probabilities", logits.shape)
    at_target = site.scratch("at_target", (targets.size,))
    kernels.shift_logits(_rows(logits), targets.ravel(), _rows(probabilities), at_target)
    np.exp(probabilities, out=probabilities)
    losses = site.scratch("losses", (targets.size,), np.float64)
    kernels.cross_entropy(_rows(probabilities), at_target, losses)
    return reference.mean_of_losses(losses)


def cross_entropy_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = (softmax(z) - onehot) / (B T)."""
    targets, probabilities = site.run.targets, site.saved["probabilities"]
    dlogits = site.scratch("dlogits", probabilities.shape)
    kernels.cross_entropy_gradient(_rows(probabilities), targets.ravel(), _rows(dlogits))
    return dlogits, None


TABLE = table(
    "fast",
    *wiring.WIRING,
    *LATTICE_PARTS,
    ("transformer", Part("transformer", transformer_forward, transformer_backward)),
    ("embedding", Part("lookup", embedding_forward, embedding_backward)),
    ("positions", Part("learned", learned_positions_forward, reference.learned_positions_backward)),
    ("positions", Part("sinusoidal", sinusoidal_positions_forward, reference.pass_on_backward)),
    ("positions", Part("none", reference.no_positions_forward, reference.pass_on_backward)),
    ("dropout", Part("inverted", dropout_forward, reference.dropout_backward)),
    ("norm", Part("layer-norm", layer_norm_forward, layer_norm_backward)),
    ("residual", Part("sum", residual_forward, reference.residual_backward)),
    ("qkv", Part("linear", qkv_forward, qkv_backward)),
    ("heads", Part("split", reference.heads_forward, heads_backward)),
    ("scores", Part("scaled-dot-product", scores_forward, scores_backward)),
    ("mask", Part("causal", reference.causal_mask)),
    ("softmax", Part("softmax", softmax_forward, softmax_backward)),
    ("mix", Part("weighted-sum", mix_forward, mix_backward)),
    ("w_out", Part("linear", w_out_forward, w_out_backward)),
    ("feed_forward", Part("two-layer", feed_forward_forward, feed_forward_backward)),
    ("activation", Part("tanh", tanh_forward, tanh_backward)),
    ("activation", Part("gelu", gelu_forward, gelu_backward)),
    ("output", Part("tied", tied_output_forward, tied_output_backward)),
    ("output", Part("untied", untied_output_forward, untied_output_backward)),
    ("loss", Part("cross-entropy", cross_entropy_forward, cross_entropy_backward)),
)
