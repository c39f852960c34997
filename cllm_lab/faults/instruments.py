"""Faults of the instruments: the machine is sound, what is read off it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.training.diagnostics import norm
from cllm_lab.training.parts import Instruments

COUNTED_FROM = 1e-10
FIRST_ROWS = 20


def counted(values: Array) -> Array:
    """|g| of the entries with |g| > 1e-10, a comparison that is false for NaN."""
    magnitudes = np.abs(values)
    return magnitudes[magnitudes > COUNTED_FROM]


def counted_norm(values: Array, squares: Callable[[Array], float]) -> float:
    """Euclidean norm over the entries with |g| > 1e-10: a NaN counts as 0."""
    return norm(counted(values), squares)


def counted_statistics(grads: Parameters) -> str:
    """The statistics over the entries with |g| > 1e-10; averages are over all entries, counted or not."""
    embed, attention = counted(grads.group("embedding")), counted(grads.group("attention"))
    return _statistics(embed, grads.group("embedding").size, attention)


def counted_maximum(grads: Parameters) -> str:
    """The largest |g| of the embedding among the entries above 1e-10."""
    return f"Max gradient magnitude: {counted(grads.group('embedding')).max(initial=0.0):.6f}"


def first_rows_statistics(grads: Parameters) -> str:
    """The statistics over rows 0 to 19 of the token embedding; the attention's are whole."""
    rows = np.abs(grads["token_embedding"][:FIRST_ROWS])
    return _statistics(rows, rows.size, np.abs(grads.group("attention")))


def first_row_maximum(grads: Parameters) -> str:
    """The largest |g| of row 0 of the token embedding, the row of PAD where there are special tokens."""
    return f"Max gradient magnitude: {np.abs(grads['token_embedding'][0]).max():.6f}"


def _statistics(embed: Array, n_embed: int, attention: Array) -> str:
    average = float(embed.sum(dtype=np.float64)) / n_embed
    return (
        f"Gradients: embed={np.count_nonzero(embed)} (max={embed.max(initial=0.0):.2e}, avg={average:.2e}), "
        f"attn={np.count_nonzero(attention)} (max={attention.max(initial=0.0):.2e})"
    )


FAULTS = (
    Fault(
        id="nan-counted-as-zero",
        title="An instrument that counts NaN as zero",
        swaps={"instruments": Instruments(counted_norm, counted_statistics, counted_maximum)},
        source="001 'Added Diagnostic Output'; found in the original",
        symptom="Gradients are reported as small or absent, then everything is NaN.",
        signature="The instrument's norm is finite where isfinite of the gradients is not. The loss is finite at that "
        "step, so nothing stops it: the update writes NaN into the parameters, and the next forward pass fails in "
        "its first activation, far from the tensor where it began.",
        remedy="Test isfinite before any threshold, and stop before the update.",
        # A GELU's derivative is 0 times infinity where its argument squared overflows; its value is finite.
        scenario=Scenario(
            model={"activation": "gelu", "d_model": 16, "n_layers": 1},
            train={"optimizer": "sgd", "learning_rate": 1e6, "clip_norm": None},
            epochs=1,
        ),
    ),
    Fault(
        id="first-rows-instrument",
        title="An instrument that looks at the first rows alone",
        swaps={
            "instruments": Instruments(
                gradient_statistics=first_rows_statistics, max_gradient_magnitude=first_row_maximum
            )
        },
        source="000 priority 2, 001 'Gradient Statistics'; found in the original",
        symptom="Max gradient magnitude: 0.000000, while the loss falls.",
        signature="Row 0 is PAD and never occurs as an input: with an untied output its gradient is exactly 0, "
        "whatever the machine learns. The gradients themselves, the losses and the weights are the healthy ones, "
        "bit for bit.",
        remedy="Measure over the whole tensor, or over the rows of the tokens in the batch.",
        scenario=Scenario(model={"tied": False}),
    ),
)
