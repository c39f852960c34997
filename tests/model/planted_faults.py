"""Mistakes planted in the backward pass, and the tensors whose gradient each must spoil.

Each is made for the machine of `FAULTY`: two pre-norm layers, learned positions, an untied output, dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cllm_lab.model.parts import ModelParts, Part
from tests.model.configurations import Case, _case

FAULTY = _case("planted-faults", tied=False, dropout=0.3)

LAYER_0_AND_BELOW = ("layers.0.", "token_embedding", "position_embedding")
LN1 = ("layers.1.ln1.",)
QKV = ("layers.1.w_qkv", "layers.1.b_qkv")
W_OUT = ("layers.1.w_out", "layers.1.b_out")
FEED_FORWARD = ("layers.1.ln2.", "layers.1.w_ff", "layers.1.b_ff")


@dataclass(frozen=True)
class PlantedFault:
    """The swaps that plant it, and the beginnings of the names of the tensors that it spoils."""

    swaps: Callable[[ModelParts], dict[str, Part]]
    spoils: tuple[str, ...]

    def spoiled(self, name: str) -> bool:
        return name.startswith(self.spoils)


def _other_backward(slot: str, backward: Callable) -> Callable[[ModelParts], dict[str, Part]]:
    """Swaps one slot for its healthy part with ``backward(healthy, gradient, site)`` in the place of its own."""

    def swaps(parts: ModelParts) -> dict[str, Part]:
        healthy = getattr(parts, slot)
        faulty = replace(healthy, name="planted", backward=lambda dy, site: backward(healthy, dy, site))
        return {slot: faulty}

    return swaps


def without_the_variance_term(healthy: Part, dy, site):
    """dx = rstd (dn - mean(dn)): what flows back through the variance is forgotten."""
    healthy.backward(dy, site)
    dn = dy * site.params["gamma"]
    return site.saved["rstd"] * (dn - dn.mean(axis=-1, keepdims=True))


def without_the_mean_term(healthy: Part, dy, site):
    """dx = rstd (dn - n mean(dn n)): what flows back through the mean is forgotten."""
    healthy.backward(dy, site)
    n, dn = site.saved["normalised"], dy * site.params["gamma"]
    return site.saved["rstd"] * (dn - n * (dn * n).mean(axis=-1, keepdims=True))


def sign_flipped(healthy: Part, dy, site):
    return -healthy.backward(dy, site)


def without_the_bias(healthy: Part, dy, site):
    dx = healthy.backward(dy, site)
    site.gradient_accumulator("b_out")[...] = 0.0
    return dx


def doubled(healthy: Part, dy, site):
    return 2.0 * healthy.backward(dy, site)


def without_the_skip(healthy: Part, dy, site):
    return np.zeros_like(dy), dy


def without_the_mask(healthy: Part, dweights, site):
    """The softmax differentiated as if every position were visible."""
    exponentials = np.exp(site.saved["scores"])
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))


def without_replay(healthy: Part, dy, site):
    return dy


PLANTED = {
    "layer norm without the variance term": PlantedFault(
        _other_backward("norm", without_the_variance_term),
        (*FEED_FORWARD, *W_OUT, *QKV, *LN1, *LAYER_0_AND_BELOW),
    ),
    "layer norm without the mean term": PlantedFault(
        _other_backward("norm", without_the_mean_term),
        (*FEED_FORWARD, *W_OUT, *QKV, *LN1, *LAYER_0_AND_BELOW),
    ),
    "softmax with its sign flipped": PlantedFault(
        _other_backward("softmax", sign_flipped), (*QKV, *LN1, *LAYER_0_AND_BELOW)
    ),
    "output projection without its bias": PlantedFault(
        _other_backward("w_out", without_the_bias), ("layers.0.b_out", "layers.1.b_out")
    ),
    "attention doubled": PlantedFault(_other_backward("attention", doubled), (*LN1, *LAYER_0_AND_BELOW)),
    "residual without the skip": PlantedFault(
        _other_backward("residual", without_the_skip), (*W_OUT, *QKV, *LN1, *LAYER_0_AND_BELOW)
    ),
    "softmax without the mask": PlantedFault(
        _other_backward("softmax", without_the_mask), (*QKV, *LN1, *LAYER_0_AND_BELOW)
    ),
    "dropout that forgets its mask": PlantedFault(
        _other_backward("dropout", without_replay),
        (*FEED_FORWARD, *W_OUT, *QKV, *LN1, *LAYER_0_AND_BELOW),
    ),
}


def faulty_model(name: str, table: str, dtype: str = "float64", case: Case = FAULTY):
    """The machine of `FAULTY` with one mistake planted."""
    model = case.model(table, dtype)
    return model.swapped(**PLANTED[name].swaps(model.parts))
