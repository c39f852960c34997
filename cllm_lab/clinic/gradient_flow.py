"""The size of the gradient on its way back through a machine, place by place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import PartEdit
from cllm_lab.model.transformer import Transformer

SLOTS = ("block", "norm", "attention", "feed_forward")


@dataclass(frozen=True)
class Passage:
    """One place: its name, and the Euclidean norms of the gradient at its output (``dy``) and its input (``dx``)."""

    name: str
    dy: float
    dx: float

    @property
    def factor(self) -> float:
        """|dx| / |dy|; NaN where no gradient arrives."""
        return self.dx / self.dy if self.dy else math.nan


@dataclass(frozen=True, repr=False)
class GradientFlow:
    """The passages of one slot, from the input of the machine to its output."""

    passages: tuple[Passage, ...]
    slot: str

    @property
    def norms(self) -> tuple[float, ...]:
        """|gradient| at the first place's input, then at the output of each."""
        return (self.passages[0].dx, *(passage.dy for passage in self.passages))

    @property
    def total(self) -> float:
        """|dx| of the first place over |dy| of the last; NaN where no gradient arrives there."""
        return self.passages[0].dx / self.passages[-1].dy if self.passages[-1].dy else math.nan

    @property
    def per_place(self) -> float:
        """The geometric mean of the factors of n places, total^(1/n)."""
        return float(self.total ** (1.0 / len(self.passages)))

    def __repr__(self) -> str:
        n = len(self.passages)
        if not self.passages[-1].dy:
            return f"no gradient arrives at the last {self.slot} of {n}"
        return (
            f"gradient of the loss, backwards through {n} places of the slot {self.slot}: "
            f"{self.passages[-1].dy:.0e} at the last output, {self.passages[0].dx:.0e} at the first input\n"
            f"times {self.per_place:.2g} a place"
        )


def gradient_flow(machine: Any, inputs: ArrayLike, targets: ArrayLike, slot: str = "block") -> GradientFlow:
    """|dL/dy| and |dL/dx| where the backward pass enters and leaves every part that stands in one slot.

    ``machine``: a `Transformer`, or a trainer, whose model is taken, faults applied; ``slot``: block, norm, attention
    or feed_forward. inputs, targets: token ids (B, T). Norms are Euclidean over the batch. Nothing is changed.

    Raises TypeError for another machine, ValueError for another slot or one that no gradient passes.
    """
    model = getattr(machine, "model", machine)
    if not isinstance(model, Transformer):
        raise TypeError(f"machine must be a Transformer or a Trainer; got {type(machine).__name__}")
    if slot not in SLOTS:
        raise ValueError(f"slot must be one of {', '.join(SLOTS)}; got {slot!r}")
    part = getattr(model.parts, slot)
    passages: list[Passage] = []

    def recorded(dy: Array, site: Site) -> Array:
        # Some parts write over what they are handed.
        arriving = _norm(dy)
        dx = part.backward(dy, site)
        passages.append(Passage(site.name, arriving, _norm(dx)))
        return dx

    model.swapped(**{slot: PartEdit(part.name, backward=recorded)}).gradients(inputs, targets)
    if not passages:
        raise ValueError(f"no gradient passes the slot {slot!r} of this machine: {model.config}")
    return GradientFlow(tuple(reversed(passages)), slot)


def _norm(values: Array) -> float:
    # Squares of large float32 numbers overflow.
    return float(np.linalg.norm(values.astype(np.float64)))
