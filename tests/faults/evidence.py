"""What the tests of single faults measure: who depends on whom, and which gradients are right."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cllm_lab.faults import catalogue
from cllm_lab.model import parts
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.gradient_check import gradient_check, random_point
from cllm_lab.model.transformer import Transformer

TABLES = {"reference": parts.reference, "fast": parts.fast}
T = 8
RIGHT, WRONG = 1e-6, 1e-3


def machine(fault: str | None = None, table: str = "reference", **settings: Any) -> Transformer:
    """A small float64 machine at a random point, with the swaps that a fault makes in the model."""
    defaults = {"vocab_size": 11, "context_length": T, "d_model": 8, "n_heads": 4, "n_layers": 2, "d_ff": 12}
    model = Transformer(ModelConfig(**{**defaults, **settings}), 1, "float64", TABLES[table])
    model.params.flat[:] = random_point(model.params, seed=2).flat
    return model if fault is None else model.swapped(**catalogue()[fault].swaps)


def batch(length: int = T, vocab_size: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets at random."""
    ids = np.random.default_rng(7).integers(0, vocab_size, (2, 3, length))
    return ids[0], ids[1]


def dependency(model: Transformer) -> np.ndarray:
    """[i, j]: whether another token at position j moves a logit at position i."""
    tokens, _ = batch()
    home = model.forward(tokens).logits.copy()
    found = np.zeros((T, T), bool)
    for j in range(T):
        other = tokens.copy()
        other[:, j] = (other[:, j] + 1) % model.config.vocab_size
        found[:, j] = abs(model.forward(other).logits - home).max(axis=(0, 2)) > 1e-12
    return found


CAUSAL = np.tri(T, dtype=bool)


def wrong_gradients(model: Transformer, length: int = T) -> set[str]:
    """Names of the tensors whose gradient is not that of the loss; each must be plainly right or plainly wrong."""
    errors = gradient_check(model, *batch(length), seed=3)
    unclear = {name: error for name, error in errors.items() if RIGHT <= error <= WRONG}
    assert not unclear
    return {name for name, error in errors.items() if error > WRONG}


@cache
def tensor_names(**settings: Any) -> tuple[str, ...]:
    """Every tensor of the small machine, in the order in which a backward pass completes their gradients.

    Tied, the output matrix is the token embedding, which the lookup completes last.
    """
    config = machine(**settings).config
    names = [] if config.tied else ["output_embedding"]
    names += ["ln_final.gamma", "ln_final.beta"]
    for i in reversed(range(config.n_layers)):
        for sub_layer in (
            "w_ff2 b_ff2 w_ff1 b_ff1 ln2.gamma ln2.beta",
            "w_out b_out w_qkv b_qkv ln1.gamma ln1.beta",
        ):
            names += [f"layers.{i}.{name}" for name in sub_layer.split()]
    return (*names, "position_embedding", "token_embedding")


def from_tensor(name: str) -> set[str]:
    """The tensor of this name and all whose gradient the backward pass completes after it."""
    names = tensor_names()
    return set(names[names.index(name) :])
