"""The residual stream: how large it is after each sub-layer has added its share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from cllm_lab.model.parameters import Array
from cllm_lab.views.picture import COLOURS, Picture, drawing

FIRST_STAGES = {"embedding": "embedding", "positions": "+ positions"}


def stream_norms(acts: Mapping[str, Array]) -> dict[str, float]:
    """Mean Euclidean norm of the stream at each stage: mean over b, t of |x[b, t]|, by stage, in order.

    Stages are the embedding, the sum with positions, and in layer i the sums after attention and feed-forward.
    Raises KeyError for a machine that keeps none of them.
    """
    stages = [(label, name) for name, label in FIRST_STAGES.items() if name in acts]
    layer = 0
    while f"layers.{layer}" in acts:
        stages += [
            (f"layer {layer}: + {branch}", f"layers.{layer}.{site}")
            for site, branch in (("residual1", "attention"), ("residual2", "feed-forward"))
            if f"layers.{layer}.{site}" in acts
        ]
        layer += 1
    if not stages:
        raise KeyError(f"no stage of a residual stream among {', '.join(acts)}")
    return {label: _mean_norm(acts[name]) for label, name in stages}


def stream_figure(acts: Mapping[str, Array]) -> Picture:
    """The norms of `stream_norms`, a bar a stage, top to bottom in the order of computation."""
    norms = stream_norms(acts)
    bars_height, height = 0.25 * len(norms), 0.25 * len(norms) + 0.7
    with drawing(8.4, height) as picture:
        axes = picture.add_axes((0.26, 0.6 / height, 0.68, bars_height / height))
        hatch = ["" if "attention" not in stage else "//" for stage in norms]
        bars = axes.barh(list(norms), list(norms.values()), color=COLOURS[0], hatch=hatch, edgecolor="white")
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.01)
        axes.set_xlabel("mean |x| over all positions")
    values = list(norms.values())
    grows = sum(b > a for a, b in pairwise(values))
    picture.words = (
        f"The stream starts at a norm of {values[0]:.2f} and ends at {values[-1]:.2f}; "
        f"it grows at {grows} of {len(values) - 1} stages."
    )
    return picture


def _mean_norm(x: Array) -> float:
    return float(np.linalg.norm(x, axis=-1).mean())
