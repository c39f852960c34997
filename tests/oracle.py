"""A second transformer, written from the papers, for the engine to be held against.

It shares nothing with the engine but the names of its tensors and settings. It is slow on purpose: one head at a
time, tokens as one-hot rows, the textbook's softmax without a shift. Its gradients come from HIPS autograd,
which knows nothing of the backward passes that are under test. Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import autograd
import autograd.numpy as np

from tests import lattice_oracle


def loss_and_gradients(config, params, tokens, targets, masks=None):
    """The mean cross-entropy in nats, and its gradient for each tensor, by name.

    masks: name of a dropout site ("dropout", "layers.0.dropout1", ...) -> mask, 1 / (1 - p) where kept.
    """
    tensors = {name: np.array(value, dtype=float) for name, value in params.items()}

    def loss_of(tensors):
        return cross_entropy(logits_of(config, tensors, tokens, masks), targets)

    loss, gradients = autograd.value_and_grad(loss_of)(tensors)
    return float(loss), gradients


def logits_of(config, params, tokens, masks=None):
    """Logits (B, T, V) for token ids (B, T)."""
    masks = masks or {}
    x = one_hot(tokens, config.vocab_size) @ params["token_embedding"]
    n_positions = tokens.shape[1]
    if config.positions == "learned":
        x = x + params["position_embedding"][:n_positions]
    if config.positions == "sinusoidal":
        x = x + sinusoids(n_positions, config.d_model)
    if config.positions == "lattice":
        x = x + lattice_oracle.positions(n_positions, config.d_model)
    x = dropped(x, "dropout", masks)
    for i in range(config.n_layers):
        x = block(config, Layer(params, i), x, tokens, masks)
    if config.norm == "pre":
        x = layer_norm(x, params["ln_final.gamma"], params["ln_final.beta"], config.norm_epsilon)
    return x @ np.transpose(params["token_embedding" if config.tied else "output_embedding"])


def cross_entropy(logits, targets):
    """-mean ln p(target), with p the softmax of the logits."""
    at_target = np.sum(logits * one_hot(targets, logits.shape[-1]), axis=-1)
    return np.mean(np.log(np.sum(np.exp(logits), axis=-1)) - at_target)


class Layer:
    """The tensors of one layer, by their short names."""

    def __init__(self, params: Mapping[str, object], number: int) -> None:
        self._params = params
        self.name = f"layers.{number}"

    def __getitem__(self, short: str):
        return self._params[f"{self.name}.{short}"]


def block(config, layer, x, tokens, masks):
    """Vaswani et al. 2017, section 3.1 (post): LN(x + f(x)). Xiong et al. 2020, figure 1b (pre): x + f(LN(x))."""
    sublayers = [("2", feed_forward)]
    if config.attention != "none":
        sublayers.insert(0, ("1", attention))
    for number, sublayer in sublayers:
        gamma, beta = layer[f"ln{number}.gamma"], layer[f"ln{number}.beta"]
        mask_name = f"{layer.name}.dropout{number}"
        if config.norm == "pre":
            normed = layer_norm(x, gamma, beta, config.norm_epsilon)
            x = x + dropped(sublayer(config, layer, normed, tokens), mask_name, masks)
        else:
            total = x + dropped(sublayer(config, layer, x, tokens), mask_name, masks)
            x = layer_norm(total, gamma, beta, config.norm_epsilon)
    return x


def attention(config, layer, x, tokens):
    """Concat(head_1, ..., head_H) W_O, each head softmax(Q K^T / sqrt(D)) V. Vaswani et al. 2017, section 3.2.2."""
    width = config.d_model // config.n_heads
    weights, biases = layer["w_qkv"], layer["b_qkv"]
    heads = []
    for head in range(config.n_heads):
        pieces = [
            x @ weights[:, start : start + width] + biases[start : start + width]
            for start in range(head * width, config.qkv_width, config.d_model)
        ]
        q, k, v = pieces if config.keys == "projected" else (pieces[0], pieces[0], pieces[1])
        q, k = lattice_oracle.queries_and_keys(config, q, k, tokens)
        scores = q @ np.transpose(k, (0, 2, 1)) / math.sqrt(width)
        if config.attention_bias != "none":
            learned = config.bias_learnable
            strength = layer["bias_strength"][head] if learned else config.first_bias_strength
            scores = lattice_oracle.biased(config, scores, strength, tokens)
        heads.append(causal_softmax(scores) @ v)
    return np.concatenate(heads, axis=-1) @ layer["w_out"] + layer["b_out"]


def causal_softmax(scores):
    """exp(s_ij) / sum of exp(s_ik) over k <= i, and 0 for j > i."""
    past = np.array([[float(j <= i) for j in range(scores.shape[-1])] for i in range(scores.shape[-2])])
    exponentials = np.exp(scores) * past
    return exponentials / np.sum(exponentials, axis=-1, keepdims=True)


def feed_forward(config, layer, x, tokens):
    """phi(x W_1 + b_1) W_2 + b_2. Vaswani et al. 2017, eq. 2, with another phi."""
    phi = {"tanh": np.tanh, "gelu": gelu}[config.activation]
    return phi(x @ layer["w_ff1"] + layer["b_ff1"]) @ layer["w_ff2"] + layer["b_ff2"]


def gelu(h):
    """0.5 h (1 + tanh(sqrt(2/pi) (h + 0.044715 h^3))). Hendrycks & Gimpel 2016, section 2."""
    return 0.5 * h * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (h + 0.044715 * h**3)))


def layer_norm(x, gamma, beta, epsilon):
    """gamma (x - mean) / sqrt(mean of (x - mean)^2 + epsilon) + beta. Ba et al. 2016, eq. 4."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return gamma * centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + epsilon) + beta


def sinusoids(n_positions, d_model):
    """sin(pos / 10000^(2i/d)) at dimension 2i, the cosine at 2i + 1. Vaswani et al. 2017, section 3.5."""
    table = np.zeros((n_positions, d_model))
    for position in range(n_positions):
        for dimension in range(d_model):
            angle = position / 10000 ** ((dimension - dimension % 2) / d_model)
            table[position, dimension] = math.cos(angle) if dimension % 2 else math.sin(angle)
    return table


def dropped(x, name, masks):
    """x times the mask of a dropout site, where there is one."""
    return x * masks[name] if name in masks else x


def one_hot(ids, size):
    """Row v of the unit matrix for each id v."""
    return np.eye(size)[ids]
