"""Initialisers: what the weights are before the first step.

Every tensor draws from a random stream of its own, named by the tensor, so that adding or removing one
tensor changes no other. Draws are made in float64 and rounded to the machine's dtype. Biases start at 0
and gains (gamma) at 1, except under "zeros", where everything is 0. Strengths start at `bias_strength` always.

    xavier     U(-a, a), a = sqrt(6 / (fan_in + fan_out))        Glorot & Bengio 2010, eq. 16
    he         N(0, 2 / fan_in)                                  He et al. 2015, eq. 10
    normal     N(0, s^2), s = init_value; matrices that end a sub-layer divided by sqrt(2 n_layers)
                                                                 Radford et al. 2019, section 2.3
    zeros      0, gains included
    constant   init_value in every matrix and embedding

An embedding table is not multiplied by a dense input but is, tied, the output matrix: its rows x_v give
logits of standard deviation sigma sqrt(C) for a normalised hidden state, and the first loss is about
ln V + sigma^2 C / 2. "xavier" therefore takes the smaller of its own sigma = sqrt(2 / (rows + C)) and
0.15 / sqrt(C) (an excess of at most 0.011 nats); "he" takes sigma^2 = 2 / C and starts far above ln V.

With ``embedding_init`` "lattice" or "spiral" the token embedding has the lattice's rows, all of one length, with the
root mean square of what would else have been drawn: nothing at all under "zeros".
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np

from cllm_lab import lattice
from cllm_lab.model.config import DEFAULT_INIT_VALUES, ModelConfig
from cllm_lab.model.parameters import Array, Parameters, TensorSpec
from cllm_lab.model.parts.lattice_parts import token_lattice_of
from cllm_lab.streams import stream

Initialiser = Callable[[TensorSpec, ModelConfig, np.random.Generator], Array]
LOGIT_DEVIATION = 0.15


def xavier(spec: TensorSpec, config: ModelConfig, rng: np.random.Generator) -> Array:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)); embeddings as the module's text says."""
    if spec.role == "embedding":
        deviation = min(np.sqrt(2.0 / sum(spec.shape)), LOGIT_DEVIATION / np.sqrt(config.d_model))
        bound = np.sqrt(3.0) * deviation
    else:
        bound = np.sqrt(6.0 / (spec.fan_in + spec.fan_out))
    return rng.uniform(-bound, bound, spec.shape)


def he(spec: TensorSpec, config: ModelConfig, rng: np.random.Generator) -> Array:
    """N(0, 2 / fan_in); the fan-in of an embedding is that of the output product, d_model."""
    fan_in = config.d_model if spec.role == "embedding" else spec.fan_in
    return rng.normal(0.0, np.sqrt(2.0 / fan_in), spec.shape)


def normal(spec: TensorSpec, config: ModelConfig, rng: np.random.Generator) -> Array:
    """N(0, s^2) with s = init_value, divided by sqrt(2 n_layers) where a matrix ends a sub-layer."""
    deviation = _value(config)
    if spec.role == "residual":
        deviation /= np.sqrt(2.0 * config.n_layers)
    return rng.normal(0.0, deviation, spec.shape)


def zeros(spec: TensorSpec, config: ModelConfig, rng: np.random.Generator) -> Array:
    """0 everywhere, gains included: every gradient is then exactly 0 as well."""
    return np.zeros(spec.shape)


def constant(spec: TensorSpec, config: ModelConfig, rng: np.random.Generator) -> Array:
    """init_value everywhere: all units of a layer stay copies of one another."""
    return np.full(spec.shape, _value(config))


def _value(config: ModelConfig) -> float:
    return DEFAULT_INIT_VALUES[config.init] if config.init_value is None else config.init_value


INITIALISERS: dict[str, Initialiser] = {
    "xavier": xavier,
    "he": he,
    "normal": normal,
    "zeros": zeros,
    "constant": constant,
}


def initialise(params: Parameters, config: ModelConfig, initialiser: Initialiser, seed: int) -> None:
    """Fills the tensors in place from the seed; the same seed gives the same bits in any layout."""
    for spec in params.specs:
        if spec.role == "gain" and initialiser is not zeros:
            params[spec.name][...] = 1.0
        elif spec.role == "strength":
            params[spec.name][...] = config.first_bias_strength
        elif spec.role == "bias":
            params[spec.name][...] = 0.0
        else:
            rng = stream(seed, "initialisation", crc32(spec.name.encode()))
            params[spec.name][...] = initialiser(spec, config, rng)
    if config.embedding_init != "as-init":
        drawn = params["token_embedding"]
        size = np.sqrt(np.mean(np.square(drawn, dtype=np.float64)) * config.d_model)
        drawn[...] = size * lattice_rows(config)


def lattice_rows(config: ModelConfig) -> Array:
    """Rows of length 1 for every token, float64 (V, C): `lattice_embedding`, or `spiral_embedding` without primes."""
    ids, tokens = np.arange(config.vocab_size), token_lattice_of(config)
    if config.embedding_init == "lattice":
        return lattice.lattice_embedding(ids, tokens.primes, config.d_model, tokens.places)
    return lattice.spiral_embedding(ids, config.d_model, tokens.places)
