"""Which way a machine goes beside which way its loss falls: cosines of two gradients at the same weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.clinic.subject import Subject, require_gradients, require_subject, restored
from cllm_lab.model.parameters import Array

SAME_LOSS = 1e-5


@dataclass(frozen=True, repr=False)
class GradientCosine:
    """Cosines between the gradients of two machines with the same weights, and their lengths.

    ``whole``: over all tensors together; ``tensors``: name -> cosine. 1 is the same direction, 0 a right angle,
    -1 the opposite one; NaN where one of the two is 0 or not finite. ``length`` and ``reference_length``: Euclidean
    norms over all tensors. ``loss`` and ``reference_loss``: what the two print, in nats.
    """

    whole: float
    tensors: Mapping[str, float]
    length: float
    reference_length: float
    loss: float
    reference_loss: float

    @property
    def same_loss(self) -> bool:
        """Whether both print the same number, up to 1e-5 of it: two gradients for one printed loss."""
        return abs(self.loss - self.reference_loss) <= SAME_LOSS * max(1.0, abs(self.reference_loss))

    def __repr__(self) -> str:
        heard = {name: cosine for name, cosine in self.tensors.items() if not math.isnan(cosine)}
        lines = [
            f"cosine {self.whole:.2f} over all tensors; "
            f"|g| {self.length:.2g}, of the reference {self.reference_length:.2g}"
        ]
        if heard:
            low, high = min(heard, key=heard.__getitem__), max(heard, key=heard.__getitem__)
            lines.append(f"lowest {heard[low]:.2f} ({low}), highest {heard[high]:.2f} ({high})")
        if len(heard) < len(self.tensors):
            lines.append(f"no direction in {len(self.tensors) - len(heard)} of {len(self.tensors)} tensors")
        lines.append(
            "both print the same loss"
            if self.same_loss
            else f"they print different losses: {self.loss:.4g} and {self.reference_loss:.4g}"
        )
        return "\n".join(lines)


def gradient_cosine(
    subject: Subject, reference: Subject, inputs: ArrayLike, targets: ArrayLike
) -> GradientCosine:
    """cos(a, b) = <a, b> / (|a| |b|) of a = ``subject.gradients`` and b = ``reference.gradients``.

    Both are taken on the same batch, inputs and targets (B, T), at the weights of ``subject``. The reference is a
    machine whose gradient is known to be that of the printed loss, such as the healthy twin. Both machines are
    put back bit for bit.

    Raises TypeError for what is no subject, ValueError for a reference whose tensors have other names or shapes.
    """
    require_subject(subject)
    require_subject(reference)
    _require_twins(subject, reference)
    with restored(subject), restored(reference):
        for name, array in subject.params.items():
            reference.params[name][...] = array
        loss, found = require_gradients(subject.params, subject.gradients(inputs, targets))
        reference_loss, expected = require_gradients(reference.params, reference.gradients(inputs, targets))
        pairs = {
            name: (found[name].astype(np.float64).ravel(), expected[name].astype(np.float64).ravel())
            for name in subject.params
        }
    ours, theirs = (np.concatenate(side) for side in zip(*pairs.values(), strict=True))
    # Gradients may be of any size; what is too long for a number is reported as such.
    with np.errstate(over="ignore", invalid="ignore"):
        return GradientCosine(
            whole=_cosine(ours, theirs),
            tensors={name: _cosine(a, b) for name, (a, b) in pairs.items()},
            length=float(np.linalg.norm(ours)),
            reference_length=float(np.linalg.norm(theirs)),
            loss=loss,
            reference_loss=reference_loss,
        )


def _require_twins(subject: Subject, reference: Subject) -> None:
    shapes = {name: array.shape for name, array in subject.params.items()}
    others = {name: array.shape for name, array in reference.params.items()}
    for name in (*shapes, *others):
        if shapes.get(name) != others.get(name):
            raise ValueError(
                f"reference must have the tensors of subject; {name!r} is {shapes.get(name, 'missing')} in subject "
                f"and {others.get(name, 'missing')} in reference"
            )


def _cosine(a: Array, b: Array) -> float:
    size = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / size if 0.0 < size < math.inf else math.nan
