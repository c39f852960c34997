"""A layer norm's backward pass by itself, against finite differences, at a point to be chosen."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.model.activations import GradientSink, Run, Site
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import check_seed, stream

POINTS = ("natural", "random")
TOKENS = (2, 3)


def norm_check(machine: Any, point: str = "random", seed: int = 0) -> float:
    """Largest error of the dx of the part that stands in a machine's slot "norm", absolute, in float64.

        | dx_i - d/dx_i sum(dy * norm(x)) |   by central differences, at random x (2, 3, C)

    ``point``: "natural" takes gamma = 1, beta = 0 and dy = 1, the gradient of the plain sum of the outputs; "random"
    draws all three. At the natural point the sum is a constant, whatever x is, and the check is nearly blind.
    ``machine``: a `Transformer`, or a trainer, whose model is taken, faults applied. Nothing is changed.

    Raises TypeError for another machine, ValueError for another ``point`` or ``seed``.
    """
    model = getattr(machine, "model", machine)
    if not isinstance(model, Transformer):
        raise TypeError(f"machine must be a Transformer or a Trainer; got {type(machine).__name__}")
    if point not in POINTS:
        raise ValueError(f"point must be one of {', '.join(map(repr, POINTS))}; got {point!r}")
    check_seed(seed)
    rng = stream(seed, "check", 7)
    params = Parameters.zeros(model.config, "float64")
    run = Run(model.config, model.parts, np.dtype("float64"))
    root = Site("", "", params, run, GradientSink(params.like()))
    site = root.child("layers.0").child("ln2")
    shape = (*TOKENS, model.config.d_model)
    x, dy = rng.normal(0.5, 2.0, shape), rng.standard_normal(shape)
    site.params["gamma"][...] = rng.normal(1.0, 0.5, shape[-1])
    site.params["beta"][...] = rng.standard_normal(shape[-1])
    if point == "natural":
        dy = np.ones(shape)
        site.params["gamma"][...], site.params["beta"][...] = 1.0, 0.0
    part = model.parts.norm
    measured = central_differences(lambda moved: float(np.vdot(dy, part.forward(moved, site))), x)
    part.forward(x.copy(), site)
    return float(np.abs(part.backward(dy.copy(), site) - measured).max())
