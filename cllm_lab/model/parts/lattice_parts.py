"""The parts that a configuration can take from the lattice: keys, symmetry, bias, positions. Both tables share them.

B batch   T positions   C = d_model   H heads   D = d_head   V vocabulary;   a gradient is d<name>

Primes and places are those of the tokens (`cllm_lab.lattice.token_lattice`), so that what these parts do depends on
which tokens stand in the window; positions alone are by place in the window. Without any of them attention is as it
was, to the last bit.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from cllm_lab import lattice
from cllm_lab.model.activations import Site
from cllm_lab.model.config import CHOICES, ModelConfig
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts.table import Part


def pass_on(x: Array, site: Site) -> Array:
    """What comes in, for a slot that is left empty, forward and backward."""
    return x


# Heads and keys.


def shared_heads_forward(qv: Array, site: Site) -> tuple[Array, Array, Array]:
    """(B, T, 2C) to q, k = q and v of (B, H, T, D): head h has the columns hD to (h+1)D of each half.

    Keys from the queries, as the original makes them; Kitaev et al. 2020 (Reformer, section 2) share the two as well.
    """
    B, T, _ = qv.shape
    H, D = site.run.config.n_heads, site.run.config.d_head
    q, v = qv.reshape(B, T, 2, H, D).transpose(2, 0, 3, 1, 4)
    site.saved.update(q=q, k=q, v=v)
    return q, q, v


def shared_heads_backward(dqkv: tuple[Array, Array, Array], site: Site) -> Array:
    """(dq, dk, dv) of (B, H, T, D) back to (B, T, 2C): the queries get dq + dk."""
    dq, dk, dv = dqkv
    B, H, T, D = dq.shape
    return np.stack([dq + dk, dv]).transpose(1, 3, 0, 2, 4).reshape(B, T, 2 * H * D)


def turned_keys_forward(k: Array, site: Site) -> Array:
    """k'_i = k_i cos t_i - k_{i+1} sin t_i, k_D being k_0: the original's turn, which is no rotation.

    t_i = (2 pi / phi^2) (p mod 360) i / D for the token's prime p: `turn_angles`, `query_to_key_turn`.
    """
    cos, sin = _turn_of_tokens(site)
    turned = k * cos - np.roll(k, -1, axis=-1) * sin
    site.saved["k"] = turned
    return turned


def turned_keys_backward(dk: Array, site: Site) -> Array:
    """dk_i = dk'_i cos t_i - dk'_{i-1} sin t_{i-1}."""
    cos, sin = _turn_of_tokens(site)
    return dk * cos - np.roll(dk * sin, 1, axis=-1)


def historical_keys_forward(k: Array, site: Site) -> Array:
    """k' = (R(p) k + 0.1 S x) / sqrt(p), all the original's steps: the turn, the token's place x, its prime p.

    S puts the three coordinates into the first three dimensions: `historical_key`.
    """
    shifts, scales = _further_steps_of_tokens(site)
    keys = turned_keys_forward(k, site)
    keys[..., :3] += shifts
    keys *= scales
    return keys


def historical_keys_backward(dk: Array, site: Site) -> Array:
    """dk = R(p)^T dk' / sqrt(p): places are no function of the queries."""
    _, scales = _further_steps_of_tokens(site)
    return turned_keys_backward(dk * scales, site)


def rotated_keys_forward(k: Array, site: Site) -> Array:
    """Each pair (k_2i, k_2i+1) rotated by t_2i: `query_to_key_rotation`.

    The form of Su et al. 2021 (RoFormer, section 3.2.2), for keys alone, with the prime where they have the position.
    """
    cos, sin = _turn_of_tokens(site)
    rotated = _pairs_rotated(k, cos, sin)
    site.saved["k"] = rotated
    return rotated


def rotated_keys_backward(dk: Array, site: Site) -> Array:
    """The rotation back."""
    cos, sin = _turn_of_tokens(site)
    return _pairs_rotated(dk, cos, -sin)


def _pairs_rotated(x: Array, cos: Array, sin: Array) -> Array:
    cos, sin = cos[..., ::2], sin[..., ::2]
    even, odd = x[..., ::2], x[..., 1::2]
    rotated = np.empty(x.shape, x.dtype)
    rotated[..., ::2] = even * cos - odd * sin
    rotated[..., 1::2] = even * sin + odd * cos
    return rotated


def _turn_of_tokens(site: Site) -> tuple[Array, Array]:
    """cos t and sin t of every token of the batch, each (B, 1, T, D), alike for all heads."""
    run = site.run
    if "cos" not in run.of_batch:
        primes = token_lattice_of(run.config).primes[run.tokens][:, None]
        angles = lattice.turn_angles(primes, run.config.d_head)
        run.of_batch |= {"cos": np.cos(angles).astype(run.dtype), "sin": np.sin(angles).astype(run.dtype)}
    return run.of_batch["cos"], run.of_batch["sin"]


def _further_steps_of_tokens(site: Site) -> tuple[Array, Array]:
    """0.1 x, (B, 1, T, 3), and 1 / sqrt(p), (B, 1, T, 1), of every token of the batch."""
    run = site.run
    if "shifts" not in run.of_batch:
        tokens = token_lattice_of(run.config)
        shifts = lattice.COORDINATE_WEIGHT * tokens.places[run.tokens]
        scales = 1.0 / np.sqrt(tokens.primes[run.tokens])
        run.of_batch["shifts"] = shifts.astype(run.dtype)[:, None]
        run.of_batch["scales"] = scales.astype(run.dtype)[:, None, :, None]
    return run.of_batch["shifts"], run.of_batch["scales"]


# Symmetry.


def symmetry_forward(qk: tuple[Array, Array], site: Site) -> tuple[Array, Array]:
    """q' = M_g q,  k' = M_g k, g = p mod 12 the class of the token's prime, M one of twelve matrices (D, D).

    With the cyclic group q'_i . k'_j = q_i . M_(g_j - g_i) k_j: the scores know the difference of the classes.
    """
    matrices = _matrices_of_tokens(site)
    q, k = (_applied(matrices, each) for each in qk)
    site.saved.update(q=q, k=k)
    return q, k


def symmetry_backward(dqk: tuple[Array, Array], site: Site) -> tuple[Array, Array]:
    """dq = M_g^T dq',  dk = M_g^T dk'."""
    transposed = _matrices_of_tokens(site).swapaxes(-1, -2)
    dq, dk = (_applied(transposed, each) for each in dqk)
    return dq, dk


def _applied(matrices: Array, x: Array) -> Array:
    """matrices[b, t] @ x[b, h, t] for matrices (B, T, D, D) and x (B, H, T, D)."""
    return (matrices @ x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _matrices_of_tokens(site: Site) -> Array:
    """M_g of every token of the batch, (B, T, D, D)."""
    run = site.run
    if "symmetries" not in run.of_batch:
        operations = _operations(run.config.head_symmetry, run.config.d_head, run.dtype)
        run.of_batch["symmetries"] = operations[
            lattice.symmetry_class(token_lattice_of(run.config).primes)[run.tokens]
        ]
    return run.of_batch["symmetries"]


@lru_cache(maxsize=8)
def _operations(kind: str, d_head: int, dtype: np.dtype) -> Array:
    make = lattice.cyclic_group if kind == "cyclic" else lattice.historical_symmetries
    operations = make(d_head).astype(dtype)
    operations.flags.writeable = False
    return operations


# Bias.


def additive_bias_forward(scores: Array, site: Site) -> Array:
    """S'[b, h, i, j] = S[b, h, i, j] + s_h f(i, j), f the feature of tokens i and j, s_h the head's strength.

    The form of Raffel et al. 2020 (T5, section 2.1) and Press et al. 2022 (ALiBi, section 3), whose f is of positions.
    """
    y = scores + _strengths(site) * _feature(site)
    site.saved["scores"] = y
    return y


def additive_bias_backward(dscores: Array, site: Site) -> Array:
    """dS = dS';  ds_h = sum over b, i, j of dS' f, where the strength is a parameter."""
    _add_strength_gradient(dscores * _feature(site), site)
    return dscores


def resonance_forward(scores: Array, site: Site) -> Array:
    """S' = S (1 + s_h (r(i, j) - 1)), r = `resonance_factor`: the original's score at s = 1, plain at s = 0."""
    y = scores * (1.0 + _strengths(site) * (_feature(site) - 1.0))
    site.saved.update(scores=y, unbiased_scores=scores)
    return y


def resonance_backward(dscores: Array, site: Site) -> Array:
    """dS = dS' (1 + s_h (r - 1));  ds_h = sum over b, i, j of dS' S (r - 1)."""
    off = _feature(site) - 1.0
    _add_strength_gradient(dscores * site.saved["unbiased_scores"] * off, site)
    return dscores * (1.0 + _strengths(site) * off)


def _strengths(site: Site) -> Array:
    """s_h of this layer as (H, 1, 1), learned, or (1, 1, 1), fixed."""
    config = site.run.config
    if config.has_strengths:
        return site.params["bias_strength"][:, None, None]
    return np.full((1, 1, 1), config.first_bias_strength, site.run.dtype)


def _add_strength_gradient(shares: Array, site: Site) -> None:
    """The sum of shares (B, H, T, T) for each head, in float64, to the strengths' gradient, where they are learned."""
    if site.run.config.has_strengths:
        sums = shares.sum(axis=(0, 2, 3), dtype=np.float64)
        site.add_gradient("bias_strength", sums.astype(shares.dtype))


def _feature(site: Site) -> Array:
    """f of every two tokens of a sequence, (B, 1, T, T)."""
    run = site.run
    if "pairs" not in run.of_batch:
        pairs = token_lattice_of(run.config).pairs(run.config.attention_bias, run.tokens)
        run.of_batch["pairs"] = pairs.astype(run.dtype)[:, None]
    return run.of_batch["pairs"]


# Positions.


def lattice_positions_forward(x: Array, site: Site) -> Array:
    """y[b, t] = x[b, t] + P[t], nothing to learn; P is `lattice_positions`."""
    y = x + lattice_positions(*x.shape[1:], x.dtype)
    site.saved["output"] = y
    return y


@lru_cache(maxsize=8)
def lattice_positions(n_positions: int, d_model: int, dtype: np.dtype) -> Array:
    """P[t] = sqrt(C / 2) times `lattice_embedding` of t and its prime, (T, C), read-only.

    Every row has the length of the sinusoids of Vaswani et al. 2017.
    """
    t = np.arange(n_positions)
    rows = lattice.lattice_embedding(t, lattice.nth_token_primes(t), d_model)
    rows = (math.sqrt(d_model / 2.0) * rows).astype(dtype)
    rows.flags.writeable = False
    return rows


def token_lattice_of(config: ModelConfig) -> lattice.TokenLattice:
    """The primes and places that a configuration gives its tokens."""
    return lattice.token_lattice(
        config.vocab_size, config.token_primes, config.token_places, config.lattice_seed
    )


LATTICE_PARTS = (
    ("heads", Part("shared", shared_heads_forward, shared_heads_backward)),
    ("keys", Part("projected", pass_on, pass_on)),
    ("keys", Part("shared", pass_on, pass_on)),
    ("keys", Part("turned", turned_keys_forward, turned_keys_backward)),
    ("keys", Part("historical", historical_keys_forward, historical_keys_backward)),
    ("keys", Part("rotated", rotated_keys_forward, rotated_keys_backward)),
    ("symmetry", Part("none", pass_on, pass_on)),
    ("symmetry", Part("cyclic", symmetry_forward, symmetry_backward)),
    ("symmetry", Part("historical", symmetry_forward, symmetry_backward)),
    ("bias", Part("none", pass_on, pass_on)),
    *(
        ("bias", Part(feature, additive_bias_forward, additive_bias_backward))
        for feature in CHOICES["attention_bias"]
        if feature not in ("none", "resonance")
    ),
    ("bias", Part("resonance", resonance_forward, resonance_backward)),
    ("positions", Part("lattice", lattice_positions_forward, pass_on)),
)
