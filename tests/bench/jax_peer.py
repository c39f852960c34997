"""The machine as a JAX user would write it: one pure step, compiled whole, its buffers given back to it."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tests.bench.machines import Machine

Tree = dict[str, Any]


def _norm(x: jax.Array, p: Tree, at: str) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * p[f"{at}.gamma"] + p[f"{at}.beta"]


def _attention(x: jax.Array, p: Tree, at: str, n_heads: int) -> jax.Array:
    B, T, C = x.shape
    qkv = (x @ p[f"{at}.w_qkv"] + p[f"{at}.b_qkv"]).reshape(B, T, 3, n_heads, C // n_heads)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(C // n_heads)
    scores = jnp.where(jnp.tri(T, dtype=bool), scores, -jnp.inf)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), v).reshape(B, T, C)
    return mixed @ p[f"{at}.w_out"] + p[f"{at}.b_out"]


def loss(p: Tree, tokens: jax.Array, targets: jax.Array, n_layers: int, n_heads: int) -> jax.Array:
    """Mean cross-entropy in nats."""
    x = p["token_embedding"][tokens] + p["position_embedding"]
    for i in range(n_layers):
        at = f"layers.{i}"
        x = x + _attention(_norm(x, p, f"{at}.ln1"), p, at, n_heads)
        hidden = jnp.tanh(_norm(x, p, f"{at}.ln2") @ p[f"{at}.w_ff1"] + p[f"{at}.b_ff1"])
        x = x + hidden @ p[f"{at}.w_ff2"] + p[f"{at}.b_ff2"]
    log_p = jax.nn.log_softmax(_norm(x, p, "ln_final") @ p["token_embedding"].T)
    return -jnp.take_along_axis(log_p, targets[..., None], axis=-1).mean()


class JaxPeer:
    """One training step of JAX."""

    def __init__(self, machine: Machine, threads: int) -> None:
        config = machine.train_config
        beta1, beta2 = config.betas
        rate, epsilon, clip_norm = config.learning_rate, config.epsilon, config.clip_norm
        loss_of = partial(loss, n_layers=machine.n_layers, n_heads=machine.n_heads)

        def step(state: tuple, tokens: jax.Array, targets: jax.Array) -> tuple[tuple, jax.Array]:
            p, m, v, t = state
            value, g = jax.value_and_grad(loss_of)(p, tokens, targets)
            norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in g.values()))
            scale = jnp.minimum(1.0, clip_norm / (norm + 1e-6))
            t = t + 1
            root = jnp.sqrt(1.0 - beta2**t)
            new_m = {n: beta1 * m[n] + (1.0 - beta1) * scale * g[n] for n in p}
            new_v = {n: beta2 * v[n] + (1.0 - beta2) * (scale * g[n]) ** 2 for n in p}
            new_p = {
                n: p[n] - rate / (1.0 - beta1**t) * new_m[n] / (jnp.sqrt(new_v[n]) / root + epsilon)
                for n in p
            }
            return (new_p, new_m, new_v, t), value

        self._step = jax.jit(step, donate_argnums=0)
        weights = {name: jnp.array(value) for name, value in machine.weights().items()}
        zeros = {name: jnp.zeros_like(value) for name, value in weights.items()}
        self._state = (weights, zeros, {n: jnp.zeros_like(z) for n, z in zeros.items()}, jnp.float32(0.0))
        pairs = [(jnp.asarray(x), jnp.asarray(y)) for x, y in machine.batches()]
        self._batches = itertools.cycle(pairs)

    def step(self) -> float:
        """One clipped update on the next batch; its loss in nats."""
        self._state, value = self._step(self._state, *next(self._batches))
        jax.block_until_ready(self._state)
        return float(value)
