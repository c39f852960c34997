"""A training step taken apart: what each of its phases produced, as numbers with names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cllm_lab.model.activations import Activations
from cllm_lab.model.parameters import GROUPS, Parameters
from cllm_lab.training import diagnostics
from cllm_lab.training.history import StepRecord

PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True)
class Phase:
    """``name``: one of `PHASES`; ``step``: the number of the step it belongs to; ``produced``: name -> number."""

    name: str
    step: int
    produced: Mapping[str, float]


def of_forward(activations: Activations) -> dict[str, float]:
    """How large the final hidden states and the logits are, dropout off, and how far apart a token's logits lie.

    Norms are Euclidean, the mean over tokens; the spread is the mean over tokens of max - min.
    """
    hidden, logits = activations["logits.input"], activations.logits
    return {
        "hidden state norm": float(np.linalg.norm(hidden, axis=-1).mean()),
        "logit norm": float(np.linalg.norm(logits, axis=-1).mean()),
        "logit spread": float((logits.max(axis=-1) - logits.min(axis=-1)).mean()),
    }


def of_loss(loss: float) -> dict[str, float]:
    """The reported loss in nats, and exp(-loss): for a cross-entropy, the geometric mean of the probabilities that
    the right tokens were given.
    """
    return {"loss": loss, "exp(-loss)": math.exp(-loss) if loss > -700.0 else math.inf}


def of_backward(grads: Parameters) -> dict[str, float]:
    """Euclidean norm of each group's gradient, and the share of all entries that are exactly 0."""
    norms = {f"{group} gradient norm": diagnostics.norm(grads.group(group)) for group in GROUPS}
    return norms | {"share of exact zeros": float(np.mean(grads.flat == 0.0))}


def of_update(record: StepRecord) -> dict[str, float]:
    """What was done with the gradient: its norm before clipping, the rate, and |update| / |weights|."""
    return {
        "gradient norm": record.grad_norm,
        "learning rate": record.learning_rate,
        "update / weights": record.update_ratio,
    }
