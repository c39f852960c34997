"""What the lattice says of the tokens of a vocabulary and of pairs of them, for the parts that train with it.

Legend: V tokens, B batch, T positions; p the prime and x the place of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import FloatArray, IntArray, integer_array
from cllm_lab.lattice.distances import lattice_distance, log_ratio_distance
from cllm_lab.lattice.phase import phase_alignment, resonance_factor
from cllm_lab.lattice.similarity import gcd_over_max
from cllm_lab.lattice.spirals import spiral_position
from cllm_lab.lattice.token_primes import TOKEN_PRIMES
from cllm_lab.streams import check_seed, stream

PRIME_MAPS = (*TOKEN_PRIMES, "shuffled")
PLACE_MAPS = ("spiral", "shuffled", "random")
# Up to this V a table of all pairs, 8 MB, costs less than computing the pairs of each batch.
LARGEST_TABLE = 1024
# First index of stream(seed, "lattice", ...): what the draws are for.
_PRIMES, _PLACES = range(2)


@lru_cache(maxsize=16, typed=True)
def token_primes_of(vocab_size: int, kind: str = "nth", seed: int = 0) -> IntArray:
    """The prime of every token, int64 (V,), read-only: a map of `TOKEN_PRIMES`, or the control "shuffled".

    "shuffled" deals the primes of "nth" out at random: the same primes, and nothing that relates them to the ids.
    Raises TypeError or ValueError for a V below 1, an unknown kind, or no seed.
    """
    V = whole_number("vocab_size", vocab_size, 1)
    _require("token_primes", kind, PRIME_MAPS)
    check_seed(seed)
    if kind == "shuffled":
        primes = stream(seed, "lattice", _PRIMES).permutation(TOKEN_PRIMES["nth"](np.arange(V)))
    else:
        primes = TOKEN_PRIMES[kind](np.arange(V))
    primes.flags.writeable = False
    return primes


@lru_cache(maxsize=16, typed=True)
def token_places_of(vocab_size: int, kind: str = "spiral", seed: int = 0) -> FloatArray:
    """The place of every token, float64 (V, 3), read-only: `spiral_position` of the ids, or one of two controls.

    "shuffled" deals the same places out at random, so that all distances stay and belong to other pairs; "random"
    permutes each axis by itself, so that the spiral is gone as well and each axis keeps its distribution.
    Raises TypeError or ValueError for a V below 1, an unknown kind, or no seed.
    """
    V = whole_number("vocab_size", vocab_size, 1)
    _require("token_places", kind, PLACE_MAPS)
    check_seed(seed)
    places = spiral_position(np.arange(V))
    if kind == "shuffled":
        places = stream(seed, "lattice", _PLACES).permutation(places)
    elif kind == "random":
        places = stream(seed, "lattice", _PLACES).permuted(places, axis=0)
    places.flags.writeable = False
    return places


def _distance(tokens: TokenLattice, a: IntArray, b: IntArray) -> FloatArray:
    x, p = tokens.places, tokens.primes
    return -lattice_distance(x[a], x[b], p[a], p[b]) / np.sqrt(tokens.vocab_size)


def _prime_distance(tokens: TokenLattice, a: IntArray, b: IntArray) -> FloatArray:
    return -log_ratio_distance(tokens.primes[a], tokens.primes[b])


def _phase(tokens: TokenLattice, a: IntArray, b: IntArray) -> FloatArray:
    return phase_alignment(tokens.primes[a], tokens.primes[b])


def _similarity(tokens: TokenLattice, a: IntArray, b: IntArray) -> FloatArray:
    return gcd_over_max(tokens.primes[a], tokens.primes[b])


def _resonance(tokens: TokenLattice, a: IntArray, b: IntArray) -> FloatArray:
    x, p = tokens.places, tokens.primes
    return resonance_factor(lattice_distance(x[a], x[b], p[a], p[b]), p[a], p[b])


PAIR_FEATURES: Mapping[str, Callable[[TokenLattice, IntArray, IntArray], FloatArray]] = MappingProxyType(
    {
        "lattice-distance": _distance,
        "prime-distance": _prime_distance,
        "phase": _phase,
        "similarity": _similarity,
        "resonance": _resonance,
    }
)


class TokenLattice:
    """The primes (V,) and places (V, 3) of a vocabulary, and what they say of pairs of tokens.

    Of tokens a and b with primes p, q and places x, y, `pairs` gives

        lattice-distance   -d(x, y, p, q) / sqrt(V), d = `lattice_distance`, sqrt(V) the radius of the spiral
        prime-distance     -|ln(p / q)|
        phase              `phase_alignment` (p, q), in [0, 1]
        similarity         `gcd_over_max` (p, q): 1 for the same prime, 1 / max(p, q) for different ones
        resonance          `resonance_factor` (d, p, q), what the original multiplies a score by

    Raises TypeError or ValueError as `token_primes_of` and `token_places_of`.
    """

    def __init__(
        self, vocab_size: int, token_primes: str = "nth", token_places: str = "spiral", seed: int = 0
    ) -> None:
        self.vocab_size = whole_number("vocab_size", vocab_size, 1)
        self.primes = token_primes_of(vocab_size, token_primes, seed)
        self.places = token_places_of(vocab_size, token_places, seed)
        self._tables: dict[str, FloatArray] = {}

    def pairs(self, feature: str, tokens: ArrayLike) -> FloatArray:
        """The feature of every two tokens of a sequence, float64: (..., T) ids to (..., T, T), [i, j] of i and j.

        Raises ValueError for an unknown feature, ids outside the vocabulary or a single one, TypeError for ids that
        are no integers.
        """
        _require("feature", feature, tuple(PAIR_FEATURES))
        ids = integer_array("tokens", tokens, 0, self.vocab_size - 1)
        if ids.ndim == 0:
            raise ValueError(f"tokens must be a sequence of ids, (..., T); got the single id {ids}")
        a, b = ids[..., :, None], ids[..., None, :]
        if self.vocab_size > LARGEST_TABLE:
            return PAIR_FEATURES[feature](self, a, b)
        if feature not in self._tables:
            self._tables[feature] = PAIR_FEATURES[feature](self, self._every[:, None], self._every[None, :])
        return self._tables[feature][a, b]

    @cached_property
    def _every(self) -> IntArray:
        return np.arange(self.vocab_size)


@lru_cache(maxsize=16, typed=True)
def token_lattice(
    vocab_size: int, token_primes: str = "nth", token_places: str = "spiral", seed: int = 0
) -> TokenLattice:
    """The `TokenLattice` of these settings, made once."""
    return TokenLattice(vocab_size, token_primes, token_places, seed)


def _require(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
