"""The reference parts: NumPy, the mathematics line by line, any floating dtype, no concern for allocation.

Each backward stands under its forward and differentiates it. The legend for shapes:

    B batch   T positions   C = d_model   H heads   D = d_head = C / H   F = d_ff   V vocabulary

A gradient of the loss with respect to ``name`` is ``d<name>``.
"""

from __future__ import annotations

import math

import numpy as np

from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts.lattice_parts import LATTICE_PARTS
from cllm_lab.model.parts.table import Part, table
from cllm_lab.model.parts.wiring import WIRING

# Embedding and positions.


def embedding_forward(tokens: Array, site: Site) -> Array:
    """x[b, t] = E[tokens[b, t]], (B, T, C)."""
    x = site.params["token_embedding"][tokens]
    site.saved["output"] = x
    return x


def embedding_backward(dx: Array, site: Site) -> None:
    """dE[v] += sum of dx[b, t] over all places where tokens[b, t] = v. Token ids have no gradient."""
    np.add.at(site.gradient_accumulator("token_embedding"), site.run.tokens, dx)


def learned_positions_forward(x: Array, site: Site) -> Array:
    """y[b, t] = x[b, t] + P[t]."""
    y = x + site.params["position_embedding"][: x.shape[1]]
    site.saved["output"] = y
    return y


def learned_positions_backward(dy: Array, site: Site) -> Array:
    """dP[t] += sum over b of dy[b, t];  dx = dy."""
    site.gradient_accumulator("position_embedding")[: dy.shape[1]] += dy.sum(axis=0)
    return dy


def sinusoid(n_positions: int, d_model: int) -> Array:
    """S[t, 2i] = sin(t / 10000^(2i/C)), S[t, 2i+1] = cos of the same; (T, C). Vaswani et al. 2017, section 3.5."""
    rates = 10000.0 ** (-np.arange(0, d_model, 2) / d_model)
    angles = np.arange(n_positions)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(n_positions, d_model)


def sinusoidal_positions_forward(x: Array, site: Site) -> Array:
    """y[b, t] = x[b, t] + S[t], nothing to learn."""
    y = x + sinusoid(*x.shape[1:]).astype(x.dtype)
    site.saved["output"] = y
    return y


def pass_on_backward(dy: Array, site: Site) -> Array:
    """dx = dy, for a forward that adds a constant or nothing."""
    return dy


def no_positions_forward(x: Array, site: Site) -> Array:
    """y = x: the order of the earlier tokens is then invisible to a single layer."""
    return x


# Dropout, layer norm, residual.


def dropout_forward(x: Array, site: Site) -> Array:
    """y = x m / (1 - p), m Bernoulli(1 - p) drawn in training; y = x otherwise. Srivastava et al. 2014, section 10."""
    p = site.run.config.dropout
    rng = site.run.dropout_rng
    if p == 0.0 or rng is None:
        site.saved.pop("mask", None)
        return x
    mask = (rng.random(x.shape) >= p).astype(x.dtype) / x.dtype.type(1.0 - p)
    site.saved["mask"] = mask
    return x * mask


def dropout_backward(dy: Array, site: Site) -> Array:
    """dx = dy m / (1 - p), with the mask that the forward drew."""
    return dy * site.saved["mask"] if "mask" in site.saved else dy


def layer_norm_forward(x: Array, site: Site) -> Array:
    """y = gamma n + beta,  n = (x - mean) / sqrt(var + eps), over the last axis. Ba et al. 2016, eq. 4."""
    mean = x.mean(axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt(x.var(axis=-1, keepdims=True) + site.run.config.norm_epsilon)
    normalised = (x - mean) * rstd
    y = site.params["gamma"] * normalised + site.params["beta"]
    site.saved.update(normalised=normalised, rstd=rstd, output=y)
    return y


def layer_norm_backward(dy: Array, site: Site) -> Array:
    """dgamma = sum dy n;  dbeta = sum dy;  dx = rstd (dn - mean(dn) - n mean(dn n)),  dn = dy gamma.

    The two means are what the forward's mean and variance, functions of x themselves, pass back.
    """
    normalised, rstd = site.saved["normalised"], site.saved["rstd"]
    leading = tuple(range(dy.ndim - 1))
    site.add_gradient("gamma", (dy * normalised).sum(axis=leading))
    site.add_gradient("beta", dy.sum(axis=leading))
    dn = dy * site.params["gamma"]
    mean_dn = dn.mean(axis=-1, keepdims=True)
    mean_dn_n = (dn * normalised).mean(axis=-1, keepdims=True)
    return rstd * (dn - mean_dn - normalised * mean_dn_n)


def residual_forward(x: Array, branch: Array, site: Site) -> Array:
    """y = x + branch. He et al. 2016, eq. 1."""
    y = x + branch
    site.saved["output"] = y
    return y


def residual_backward(dy: Array, site: Site) -> tuple[Array, Array]:
    """dx = dy, dbranch = dy: a sum hands its gradient to both terms."""
    return dy, dy


# Attention. Vaswani et al. 2017, section 3.2.


def qkv_forward(x: Array, site: Site) -> Array:
    """qkv = x W_qkv + b_qkv, (B, T, 3C): queries, keys and values side by side."""
    site.saved["input"] = x
    qkv = x @ site.params["w_qkv"] + site.params["b_qkv"]
    site.saved["qkv"] = qkv
    return qkv


def qkv_backward(dqkv: Array, site: Site) -> Array:
    """dW = x^T dqkv;  db = sum dqkv;  dx = dqkv W^T."""
    return linear_backward(dqkv, site.saved["input"], "w_qkv", "b_qkv", site)


def linear_backward(dy: Array, x: Array, weight: str, bias: str, site: Site) -> Array:
    """For y = x W + b:  dW = x^T dy;  db = sum dy;  dx = dy W^T, over all B T tokens at once."""
    W = site.params[weight]
    site.add_gradient_product(weight, x.reshape(-1, W.shape[0]).T, dy.reshape(-1, W.shape[1]))
    site.add_gradient(bias, dy.reshape(-1, W.shape[1]).sum(axis=0))
    return dy @ W.T


def heads_forward(qkv: Array, site: Site) -> tuple[Array, Array, Array]:
    """(B, T, 3C) to q, k, v of (B, H, T, D): head h has the columns hD to (h+1)D of each third."""
    B, T, _ = qkv.shape
    H, D = site.run.config.n_heads, site.run.config.d_head
    q, k, v = qkv.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)
    site.saved.update(q=q, k=k, v=v)
    return q, k, v


def heads_backward(dqkv: tuple[Array, Array, Array], site: Site) -> Array:
    """(dq, dk, dv) of (B, H, T, D) back to (B, T, 3C)."""
    B, H, T, D = dqkv[0].shape
    return np.stack(dqkv).transpose(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D)


def scores_forward(qk: tuple[Array, Array], site: Site) -> Array:
    """S = Q K^T / sqrt(D), (B, H, T, T). Vaswani et al. 2017, eq. 1."""
    q, k = qk
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(site.run.config.d_head)
    site.saved["scores"] = scores
    return scores


def scores_backward(dscores: Array, site: Site) -> tuple[Array, Array]:
    """dQ = dS K / sqrt(D);  dK = dS^T Q / sqrt(D)."""
    scaled = dscores / math.sqrt(site.run.config.d_head)
    return scaled @ site.saved["k"], scaled.swapaxes(-1, -2) @ site.saved["q"]


def causal_mask(T: int, site: Site) -> Array:
    """visible[i, j] = (j <= i), (T, T): position i sees itself and what came before."""
    return np.tri(T, dtype=bool)


def softmax_forward(scores: Array, site: Site) -> Array:
    """A[i, j] = exp(S[i, j] - max) / sum over visible j; 0 where the mask hides j."""
    visible = site.run.parts.mask.forward(scores.shape[-1], site)
    masked = np.where(visible, scores, -np.inf)
    exponentials = np.exp(masked - masked.max(axis=-1, keepdims=True))
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    site.saved["weights"] = weights
    return weights


def softmax_backward(dweights: Array, site: Site) -> Array:
    """dS = A (dA - sum over j of dA A): 0 wherever A is 0, hence behind the mask."""
    weights = site.saved["weights"]
    return weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))


def mix_forward(weights_v: tuple[Array, Array], site: Site) -> Array:
    """Z = A V head by head, heads laid side by side again: (B, T, C)."""
    weights, v = weights_v
    B, H, T, D = v.shape
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(B, T, H * D)
    site.saved["mixed"] = mixed
    return mixed


def mix_backward(dmixed: Array, site: Site) -> tuple[Array, Array]:
    """dA = dZ V^T;  dV = A^T dZ."""
    v, weights = site.saved["v"], site.saved["weights"]
    B, H, T, D = v.shape
    dz = dmixed.reshape(B, T, H, D).transpose(0, 2, 1, 3)
    return dz @ v.swapaxes(-1, -2), weights.swapaxes(-1, -2) @ dz


def w_out_forward(mixed: Array, site: Site) -> Array:
    """y = Z W_o + b_o, (B, T, C)."""
    y = mixed @ site.params["w_out"] + site.params["b_out"]
    site.saved["output"] = y
    return y


def w_out_backward(dy: Array, site: Site) -> Array:
    """dW_o = Z^T dy;  db_o = sum dy;  dZ = dy W_o^T."""
    return linear_backward(dy, site.saved["mixed"], "w_out", "b_out", site)


# Feed-forward. Vaswani et al. 2017, section 3.3.


def feed_forward_forward(x: Array, site: Site) -> Array:
    """h = x W_1 + b_1, (B, T, F);  y = phi(h) W_2 + b_2, (B, T, C)."""
    site.saved["input"] = x
    pre = x @ site.params["w_ff1"] + site.params["b_ff1"]
    site.saved["pre"] = pre
    hidden = site.run.parts.activation.forward(pre, site)
    y = hidden @ site.params["w_ff2"] + site.params["b_ff2"]
    site.saved["output"] = y
    return y


def feed_forward_backward(dy: Array, site: Site) -> Array:
    """Back through W_2, phi and W_1."""
    dhidden = linear_backward(dy, site.saved["hidden"], "w_ff2", "b_ff2", site)
    dpre = site.run.parts.activation.backward(dhidden, site)
    return linear_backward(dpre, site.saved["input"], "w_ff1", "b_ff1", site)


def tanh_forward(pre: Array, site: Site) -> Array:
    """phi(h) = tanh h."""
    hidden = np.tanh(pre)
    site.saved["hidden"] = hidden
    return hidden


def tanh_backward(dhidden: Array, site: Site) -> Array:
    """phi'(h) = 1 - tanh^2 h."""
    return dhidden * (1.0 - site.saved["hidden"] ** 2)


GELU_SCALE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


def gelu_forward(pre: Array, site: Site) -> Array:
    """phi(h) = h (1 + tanh u) / 2,  u = sqrt(2/pi) (h + 0.044715 h^3). Hendrycks & Gimpel 2016, section 2."""
    gate = np.tanh(GELU_SCALE * (pre + GELU_CUBIC * pre**3))
    hidden = 0.5 * pre * (1.0 + gate)
    site.saved.update(gate=gate, hidden=hidden)
    return hidden


def gelu_backward(dhidden: Array, site: Site) -> Array:
    """phi'(h) = (1 + tanh u) / 2 + h (1 - tanh^2 u) u' / 2,  u' = sqrt(2/pi) (1 + 3 0.044715 h^2)."""
    pre, gate = site.saved["pre"], site.saved["gate"]
    du = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * pre**2)
    return dhidden * 0.5 * (1.0 + gate + pre * (1.0 - gate**2) * du)


# Output and loss.


def tied_output_forward(x: Array, site: Site) -> Array:
    """logits = x E^T with the token embedding E, (B, T, V). Press & Wolf 2017."""
    return _output_forward(x, "token_embedding", site)


def tied_output_backward(dlogits: Array, site: Site) -> Array:
    """dE += dlogits^T x;  dx = dlogits E. The lookup adds its own share to the same dE later."""
    return _output_backward(dlogits, "token_embedding", site)


def untied_output_forward(x: Array, site: Site) -> Array:
    """logits = x U^T with a matrix of its own, (B, T, V)."""
    return _output_forward(x, "output_embedding", site)


def untied_output_backward(dlogits: Array, site: Site) -> Array:
    """dU += dlogits^T x;  dx = dlogits U."""
    return _output_backward(dlogits, "output_embedding", site)


def _output_forward(x: Array, weight: str, site: Site) -> Array:
    site.saved["input"] = x
    logits = x @ site.params[weight].T
    site.saved["output"] = logits
    return logits


def _output_backward(dlogits: Array, weight: str, site: Site) -> Array:
    V, C = site.params[weight].shape
    site.add_gradient_product(weight, dlogits.reshape(-1, V).T, site.saved["input"].reshape(-1, C))
    return dlogits @ site.params[weight]


def cross_entropy_forward(logits: Array, site: Site) -> float:
    """L = mean over b, t of [ln sum_v exp(z_v - m) + m - z_target],  m = max z: nats.

    Subtracting the maximum keeps every exponential at or below 1, so nothing overflows.
    """
    targets = site.run.targets
    maximum = logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits - maximum)
    sums = exponentials.sum(axis=-1, keepdims=True)
    site.saved["probabilities"] = exponentials / sums
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)
    losses = np.log(sums.astype(np.float64)) + (maximum.astype(np.float64) - chosen)
    return mean_of_losses(losses.ravel())


def mean_of_losses(losses: Array) -> float:
    """The mean over all positions; of equal losses exactly that loss, whatever their number."""
    # Summing the distances from the first one keeps a loss pinned at ln V on ln V to the last bit.
    first = losses[0]
    return float(first + (losses - first).mean()) if np.isfinite(first) else float(losses.mean())


def cross_entropy_backward(site: Site) -> tuple[Array | None, Array | None]:
    """dz = (softmax(z) - onehot(target)) / (B T): the two gradients that go back, the second is None."""
    targets = site.run.targets
    dlogits = site.saved["probabilities"] / targets.size
    places = targets[..., None]
    at_target = np.take_along_axis(dlogits, places, axis=-1) - 1.0 / targets.size
    np.put_along_axis(dlogits, places, at_target, axis=-1)
    return dlogits, None


TABLE = table(
    "reference",
    *WIRING,
    *LATTICE_PARTS,
    ("embedding", Part("lookup", embedding_forward, embedding_backward)),
    ("positions", Part("learned", learned_positions_forward, learned_positions_backward)),
    ("positions", Part("sinusoidal", sinusoidal_positions_forward, pass_on_backward)),
    ("positions", Part("none", no_positions_forward, pass_on_backward)),
    ("dropout", Part("inverted", dropout_forward, dropout_backward)),
    ("norm", Part("layer-norm", layer_norm_forward, layer_norm_backward)),
    ("residual", Part("sum", residual_forward, residual_backward)),
    ("qkv", Part("linear", qkv_forward, qkv_backward)),
    ("heads", Part("split", heads_forward, heads_backward)),
    ("scores", Part("scaled-dot-product", scores_forward, scores_backward)),
    ("mask", Part("causal", causal_mask)),
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
