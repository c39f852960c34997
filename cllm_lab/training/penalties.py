"""Penalties of the lattice: what a batch's rows of the token embedding cost, and the gradient in closed form.

n distinct tokens of a batch, inputs and targets together   C = d_model   V vocabulary
e (n, C) their rows of the token embedding, float64; p the prime and x the place of a token (`TokenLattice`)

    geometric   1 - r, r the correlation of the distances of rows with those of the lattice
    symmetry    how far the means of the classes p mod 12 are from being turns of one another
    prime       mean squared difference between the cosines of rows and the similarities of primes
    gcd         the original's loss from token ids, in which no parameter occurs: gradient 0

They have no unit; a weight gives them that of the loss. Only rows of tokens in the batch have a gradient, and no other
tensor has one. The original promised a loss that knows the lattice, and had the last of these alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.transformer import Pass
from cllm_lab.training.config import PENALTIES

if TYPE_CHECKING:
    from cllm_lab.model.compiled_pass import CompiledPass

# Relative size below which the spread of distances is rounding, and all count as equal.
ROUNDING = 1e-12


def geometric_constraint(e: Array, distances: Array) -> tuple[float, Array]:
    """L = 1 - r, in [0, 2], and dL/de (n, C); r is Pearson's correlation over all pairs a < b of

        d_ab = |e_a - e_b|   with   t_ab = ``distances`` (n, n), those of the lattice.

    With d' = d - mean d, t' = t - mean t and |.| Euclid's norm over the pairs,

        dL/dd = (r d' / |d'| - t' / |t'|) / |d'|,   de_a = sum_b dL/dd_ab (e_a - e_b) / d_ab.

    Free of scale: e or t times a number costs the same. Two rows that coincide pull at each other in no direction.
    Where r has no meaning, with fewer than three tokens or all distances of one kind equal, L = 1 and de = 0.
    """
    from scipy.spatial.distance import pdist, squareform

    if len(e) < 3:
        return 1.0, np.zeros_like(e)
    d, t = pdist(e), squareform(distances, checks=False)
    d_centred, t_centred = d - d.mean(), t - t.mean()
    d_spread, t_spread = np.linalg.norm(d_centred), np.linalg.norm(t_centred)
    if d_spread <= ROUNDING * np.linalg.norm(d) or t_spread <= ROUNDING * np.linalg.norm(t):
        return 1.0, np.zeros_like(e)
    d_unit, t_unit = d_centred / d_spread, t_centred / t_spread
    r = d_unit @ t_unit
    slope = (r * d_unit - t_unit) / d_spread
    pull = squareform(np.divide(slope, d, out=np.zeros_like(d), where=d != 0.0), checks=False)
    # The differences do not change, and the sums lose fewer digits.
    centred = e - e.mean(axis=0)
    return float(1.0 - r), pull.sum(axis=1, keepdims=True) * centred - pull @ centred


def symmetry_preservation(e: Array, classes: Array) -> tuple[float, Array]:
    """L, in [0, 1], and dL/de (n, C) for the classes g = p mod 12 (n,) of the tokens, C even:

        L = sum_g w_g |u_g - u|^2 / D,   u_g = R_g^-1 m_g,   u = sum_g w_g u_g,   D = mean over a of |e_a|^2

    m_g is the mean of the n_g rows of class g, w_g = n_g / n, and R_g of `lattice.cyclic_group` turns every pair of
    dimensions by g / 12 of a turn. L is 0 where each mean is its class's turn of one vector. For a of class g,

        de_a = 2 (R_g (u_g - u) - L e_a) / (n D).

    Free of scale. Where all rows are 0, L = 0 and de = 0. Primes above 3 have g in {1, 5, 7, 11}.
    """
    size = np.square(e).sum(axis=1).mean()
    if size == 0.0:
        return 0.0, np.zeros_like(e)
    present, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    turns = _turns(e.shape[1])[present]
    means = np.zeros((len(present), e.shape[1]))
    np.add.at(means, place, e)
    means /= counts[:, None]
    shares = counts / len(e)
    turned_back = np.einsum("gji,gj->gi", turns, means)
    apart = turned_back - shares @ turned_back
    value = shares @ np.square(apart).sum(axis=1) / size
    turned = np.einsum("gij,gj->gi", turns, apart)
    return float(value), (turned[place] - value * e) * (2.0 / (len(e) * size))


def prime_structure(e: Array, similarities: Array) -> tuple[float, Array]:
    """L, in [0, 4], and dL/de (n, C) for the similarities s = ``similarities`` (n, n) of the tokens' primes:

        L = mean over pairs a < b of (c_ab - s_ab)^2,   c_ab = cos(e_a, e_b).

    s_ab = `lattice.gcd_over_max` (p_a, p_b): 1 / max(p_a, p_b) for different primes, so that this pulls all rows to
    nearly right angles, whatever their primes are; 1 for tokens that share one. With f_a = e_a / |e_a|,

        df_a = 4 / (n (n - 1)) sum_b (c_ab - s_ab) f_b,   de_a = (df_a - f_a (f_a . df_a)) / |e_a|.

    Free of scale. A row of 0 has cosine 0 with all others and gradient 0. With fewer than two tokens L = 0 and de = 0.
    """
    n = len(e)
    if n < 2:
        return 0.0, np.zeros_like(e)
    lengths = np.linalg.norm(e, axis=1, keepdims=True)
    present = lengths != 0.0
    f = np.divide(e, lengths, out=np.zeros_like(e), where=present)
    misfit = f @ f.T - similarities
    np.fill_diagonal(misfit, 0.0)
    value = np.square(misfit).sum() / (n * (n - 1))
    df = (4.0 / (n * (n - 1))) * (misfit @ f)
    across = df - f * (f * df).sum(axis=1, keepdims=True)
    return float(value), np.divide(across, lengths, out=np.zeros_like(e), where=present)


class LatticePenalties:
    """The penalties of a machine's token embedding, by name, with primes and places as its configuration says."""

    def __init__(self, config: ModelConfig) -> None:
        from cllm_lab.lattice.symmetry import symmetry_class
        from cllm_lab.model.parts.lattice_parts import token_lattice_of

        self._lattice = token_lattice_of(config)
        self._classes = symmetry_class(self._lattice.primes)
        self.names = tuple(name for name in PENALTIES if name != "symmetry" or config.d_model % 2 == 0)

    def values(self, embedding: Array, tokens: Array, targets: Array) -> dict[str, float]:
        """Name -> value for a batch of ids (B, T), ``embedding`` (V, C); no "symmetry" where C is odd."""
        ids, e = _rows(embedding, tokens, targets)
        return {name: self._measure(name, ids, e, tokens, targets)[0] for name in self.names}

    def weighted(
        self, weights: Mapping[str, float], embedding: Array, tokens: Array, targets: Array
    ) -> tuple[float, Array, Array]:
        """The sum of weight times value, the ids (n,) of the rows in it, and its gradient for these rows (n, C)."""
        ids, e = _rows(embedding, tokens, targets)
        total, gradient = 0.0, np.zeros_like(e)
        for name, weight in weights.items():
            value, slope = self._measure(name, ids, e, tokens, targets)
            total += weight * value
            gradient += weight * slope
        return total, ids, gradient

    def _measure(self, name: str, ids: Array, e: Array, tokens: Array, targets: Array) -> tuple[float, Array]:
        if name == "geometric":
            # Their scale does not matter, their sign does: the lattice has them as likenesses.
            return geometric_constraint(e, -self._lattice.pairs("lattice-distance", ids))
        if name == "symmetry":
            return symmetry_preservation(e, self._classes[ids])
        if name == "prime":
            return prime_structure(e, self._lattice.pairs("similarity", ids))
        return historical_loss(tokens, targets), np.zeros_like(e)


def historical_loss(tokens: Array, targets: Array) -> float:
    """Mean over a batch of `lattice.historical_gcd_loss` of token and target, in nats, whatever the weights are."""
    from cllm_lab.lattice.similarity import historical_gcd_loss

    return float(historical_gcd_loss(tokens, targets).mean())


class PenalisedPass:
    """A pass with penalties added to its loss and their gradient to its own; all else is as in the pass within."""

    def __init__(
        self, within: Pass | CompiledPass, penalties: LatticePenalties, weights: Mapping[str, float]
    ) -> None:
        self.within = within
        self._penalties = penalties
        self._weights = weights
        self._tokens = self._ids = self._gradient = np.empty((0, 0))

    def forward(self, tokens: Array, dropout_rng: np.random.Generator | None = None) -> None:
        """The pass forward."""
        self._tokens = tokens
        self.within.forward(tokens, dropout_rng)

    def loss(self, targets: Array) -> float:
        """The loss of the pass within, plus the sum of weight times penalty."""
        embedding = self.within.model.params["token_embedding"]
        added, self._ids, self._gradient = self._penalties.weighted(
            self._weights, embedding, self._tokens, targets
        )
        return self.within.loss(targets) + added

    def backward(self) -> Parameters:
        """The gradient of the last `loss`."""
        grads = self.within.backward()
        grads["token_embedding"][self._ids] += self._gradient.astype(grads.flat.dtype)
        return grads

    def __getattr__(self, name: str) -> Any:
        # A copy that is being made has nothing within yet; without this the search for it would not end.
        if name == "within":
            raise AttributeError(name)
        return getattr(self.within, name)


def require_pairs_to_turn(config: ModelConfig, symmetry_penalty: float) -> None:
    """Raises ConfigError for a weight above 0 where the machine has a dimension without a partner."""
    if symmetry_penalty > 0.0 and config.d_model % 2:
        raise ConfigError(
            f"symmetry_penalty={symmetry_penalty} turns the dimensions in pairs, so d_model must be even; "
            f"got {config.d_model}"
        )


def _rows(embedding: Array, tokens: Array, targets: Array) -> tuple[Array, Array]:
    """The distinct ids of a batch (n,), ascending, and their rows (n, C) in float64."""
    ids = np.union1d(tokens, targets)
    return ids, embedding[ids].astype(np.float64, copy=False)


@lru_cache(maxsize=4)
def _turns(d_model: int) -> Array:
    from cllm_lab.lattice.symmetry import cyclic_group

    turns = cyclic_group(d_model)
    turns.flags.writeable = False
    return turns
