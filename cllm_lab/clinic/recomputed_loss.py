"""The loss taken once more, from the logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.dependency import logits_of
from cllm_lab.clinic.subject import require_ids, require_loss, require_subject
from cllm_lab.model.parameters import Array

# Share of the loss: rounded logits, a softmax and a mean in the logits' own dtype cost some units each.
TOLERANCE_UNITS = 100


@dataclass(frozen=True, repr=False)
class RecomputedLoss:
    """A reported loss beside the cross-entropy of the logits, in nats.

    ``uniform`` is ln V, the cross-entropy of a guess that knows nothing; ``tokens`` the number of targets;
    ``not_finite`` the number of logits that are not finite; ``tolerance`` the difference that rounding explains.
    """

    reported: float
    recomputed: float
    uniform: float
    tokens: int
    not_finite: int
    tolerance: float

    @property
    def difference(self) -> float:
        """Reported minus recomputed."""
        return self.reported - self.recomputed

    @property
    def agrees(self) -> bool:
        """Whether the reported loss is the cross-entropy of the logits, but for rounding; never for NaN."""
        return abs(self.difference) <= self.tolerance

    @property
    def perplexity(self) -> float:
        """exp(recomputed); infinite where that overflows."""
        return math.inf if self.recomputed > math.log(np.finfo(np.float64).max) else math.exp(self.recomputed)

    @property
    def knows_nothing(self) -> bool:
        """Whether the recomputed loss is ln V but for rounding: every word is as likely as every other."""
        return abs(self.recomputed - self.uniform) <= self.tolerance

    def __repr__(self) -> str:
        lines = [
            f"reported {self.reported:.4f}, recomputed {self.recomputed:.4f} nats over {self.tokens} tokens "
            f"(perplexity {self.perplexity:.4g}; ln V = {self.uniform:.4f})"
        ]
        if self.agrees:
            lines.append("agrees: the reported loss is the cross-entropy of the logits")
        else:
            lines.append(f"differs by {self.difference:+.4g} nats{self._likely_reason()}")
        if self.knows_nothing:
            lines.append("the cross-entropy is ln V: every word is as likely as every other")
        if self.not_finite:
            lines.append(f"{self.not_finite} logits are not finite")
        return "\n".join(lines)

    def _likely_reason(self) -> str:
        reasons = {"the sum over the tokens, not the mean": self.tokens, "in bits": 1.0 / math.log(2.0)}
        for reason, factor in reasons.items():
            if factor != 1 and abs(self.reported - factor * self.recomputed) <= factor * self.tolerance:
                return f": {reason}"
        return ": it is not the cross-entropy of these logits"


def recomputed_loss(subject: Any, inputs: Any, targets: Any) -> RecomputedLoss:
    """The cross-entropy of ``subject.forward(inputs).logits`` in float64, beside ``subject.loss``.

        L = mean over b, t of [ ln sum_v exp(z_btv) - z_bty ],   y = targets[b, t]

    inputs, targets: token ids (B, T). A difference up to 100 rounding units of the logits' dtype, times the loss
    and no less than times 1, is rounding. Nothing is changed.
    Raises TypeError or ValueError for what is no subject, and for ids or logits that do not fit.
    """
    require_subject(subject)
    logits, _, wanted = judged_logits(subject, inputs, targets)
    V = logits.shape[-1]
    recomputed = float(np.mean(cross_entropies(logits, wanted)))
    unit = float(np.finfo(logits.dtype).eps)
    return RecomputedLoss(
        reported=require_loss(subject.loss(inputs, targets)),
        recomputed=recomputed,
        uniform=math.log(V),
        tokens=wanted.size,
        not_finite=logits.size - int(np.isfinite(logits).sum()),
        tolerance=TOLERANCE_UNITS * unit * max(1.0, abs(recomputed)) if math.isfinite(recomputed) else 0.0,
    )


def judged_logits(subject: Any, inputs: Any, targets: Any) -> tuple[Array, Array, Array]:
    """(logits (B, T, V), inputs, targets), the ids as arrays (B, T) that fit the logits.

    Raises TypeError or ValueError, naming the argument, for what does not fit.
    """
    windows, wanted = require_ids("inputs", inputs), require_ids("targets", targets)
    if windows.shape != wanted.shape:
        raise ValueError(f"targets must have the shape of inputs, {windows.shape}; got {wanted.shape}")
    logits = logits_of(subject, windows)
    V = logits.shape[-1]
    if wanted.min() < 0 or wanted.max() >= V:
        raise ValueError(
            f"targets must lie in 0 to {V - 1}, the width of the logits; "
            f"got ids from {wanted.min()} to {wanted.max()}"
        )
    return logits, windows, wanted


def cross_entropies(logits: Array, targets: Array) -> Array:
    """ln sum_v exp(z_v) - z_target in nats, (B, T), in float64, of logits (B, T, V) and target ids (B, T)."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
        return np.log(np.exp(shifted).sum(axis=-1)) - chosen
