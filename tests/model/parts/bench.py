"""One part on its own: a site with parameters, fed with arrays instead of by the rest of the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cllm_lab.model.activations import GradientSink, Site
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.parts import Part
from cllm_lab.model.transformer import Pass
from tests.model.configurations import Case, by_name

B, T, V, C, H, D, F = 2, 5, 11, 8, 2, 4, 12
TOKENS = np.random.default_rng(0).integers(0, V, (B, T), np.int32)
TARGETS = np.random.default_rng(1).integers(0, V, (B, T), np.int32)

# Where a slot's part stands in the machine, and the scope of its tensors where that has another name.
SITES = {
    "embedding": ("embedding",),
    "positions": ("positions",),
    "dropout": ("dropout",),
    "norm": ("layers.0", "ln1"),
    "residual": ("layers.0", "residual1"),
    "feed_forward": ("layers.0", "ff"),
    "activation": ("layers.0", "ff"),
    "output": ("logits",),
    "loss": ("loss",),
}
IN_ATTENTION = ("layers.0", "attention")


class Bench:
    """A part in its place, in one table and dtype."""

    def __init__(self, slot: str, table: str, dtype: str = "float64", case: str | Case = "default") -> None:
        found = by_name(case) if isinstance(case, str) else case
        self.case = replace(found, config=replace(found.config, context_length=T))
        self.model = self.case.model(table, dtype)
        self.part: Part = getattr(self.model.parts, slot)
        self.sink = GradientSink(self.model.params.like())
        self.sink.begin()
        run = Pass(self.model, self.sink)
        run.run.tokens, run.run.targets = TOKENS, TARGETS
        run.run.dropout_rng = np.random.default_rng(9)
        site: Site = run.root
        for name in SITES.get(slot, IN_ATTENTION):
            site = site.child(name)
        self.site = site

    def forward(self, *inputs):
        return self.part.forward(*inputs, self.site)

    def backward(self, *gradients):
        assert self.part.backward is not None
        return self.part.backward(*gradients, self.site)

    def grads(self) -> Parameters:
        return self.sink.finish()
