"""Faults of the attention sub-layer, forward and backward."""

from __future__ import annotations

from cllm_lab.faults.fault import Fault
from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import Part


def doubled_attention_forward(x: Array, site: Site) -> Array:
    """y = 2 x: no query, no key, no value, no other position."""
    y = x + x
    site.saved["output"] = y
    return y


def doubled_attention_backward(dy: Array, site: Site) -> Array:
    """dx = 2 dy; no weight of the attention receives a gradient."""
    return dy + dy


FAULTS = (
    Fault(
        id="doubled-attention",
        title="Attention that doubles its input",
        swaps={"attention": Part("doubled", doubled_attention_forward, doubled_attention_backward)},
        source="000 section 1, 001 'Problem identified'",
        symptom="The loss stays at 9.2103 in every epoch.",
        signature="No logit depends on another position; the attention weights have exactly no gradient.",
        remedy="Compute attention: queries, keys, values, scores, softmax, mix.",
    ),
)
