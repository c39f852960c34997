"""An exercise on losses that ignore the model: the loss taken once more, from the logits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def loss_of_logits(logits: Array, targets: Array) -> float:
    """L = mean over N tokens of [ln sum_v exp(z_v) - z_target], in nats, of logits (N, V)."""
    return float(-np.mean(_log_probabilities(logits)[np.arange(len(targets)), targets]))


def _log_probabilities(logits: Array, axis: int | None = -1) -> Array:
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _logits_and_targets(rng: np.random.Generator) -> Cases:
    for n_tokens, vocab_size in ((6, 5), (3, 9)):
        yield 2.0 * rng.standard_normal((n_tokens, vocab_size)), rng.integers(vocab_size, size=n_tokens)
    # Rows far from 0, and far from each other: only what subtracts each row's own maximum survives.
    levels = np.array([[1000.0], [-1000.0], [0.0], [1000.0]])
    yield levels + rng.standard_normal((4, 7)), rng.integers(7, size=4)


def _at_targets(values: Array, targets: Array) -> Array:
    return values[np.arange(len(targets)), targets]


def _overflowing(logits: Array, targets: Array) -> dict[str, Array]:
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        exponentials = np.exp(logits)
        probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
        return {"loss": np.asarray(-np.mean(np.log(_at_targets(probabilities, targets))))}


RECOMPUTED_LOSS = Exercise(
    name="recomputed-loss",
    parameters=("logits", "targets"),
    returns=("loss",),
    asked="The mean over N tokens of -ln softmax(logits)[target], in nats, from logits (N, V) and ids (N,).",
    inputs=_logits_and_targets,
    solution=loss_of_logits,
    mistakes=(
        Mistake(
            "this is the sum over the tokens; a printed loss is their mean",
            lambda z, t: {"loss": np.float64(loss_of_logits(z, t) * len(t))},
        ),
        Mistake(
            "in bits: a nat belongs to the natural logarithm, np.log",
            lambda z, t: {"loss": np.float64(loss_of_logits(z, t) / np.log(2.0))},
        ),
        Mistake(
            "sign: this is the mean log-probability; the loss is minus that",
            lambda z, t: {"loss": np.float64(-loss_of_logits(z, t))},
        ),
        Mistake(
            "the logarithm of the mean probability: take the logarithm of each token's first, then the mean",
            lambda z, t: {"loss": -np.log(np.mean(_at_targets(np.exp(_log_probabilities(z)), t)))},
        ),
        Mistake(
            "this is minus the target's logit: ln sum exp of the row is missing, which makes it a probability",
            lambda z, t: {"loss": -np.mean(_at_targets(z, t))},
        ),
        Mistake(
            "the mean runs over all N V entries; only the target's own counts, one a token",
            lambda z, t: {"loss": -np.mean(_log_probabilities(z))},
        ),
        Mistake(
            "the softmax runs down the tokens; it must run along the vocabulary (axis -1)",
            lambda z, t: {"loss": -np.mean(_at_targets(_log_probabilities(z, axis=0), t))},
        ),
        Mistake(
            "the softmax has one sum for the whole batch; every token needs its own (axis=-1, keepdims=True)",
            lambda z, t: {"loss": -np.mean(_at_targets(_log_probabilities(z, axis=None), t))},
        ),
        Mistake(
            "the maximum was subtracted under the exponential alone: subtract it from the target's logit too",
            lambda z, t: {"loss": np.float64(loss_of_logits(z, t) - z.max(axis=-1).mean())},
        ),
        Mistake("exp overflows for logits near 1000: subtract each row's maximum first", _overflowing),
    ),
)

EXERCISES = (RECOMPUTED_LOSS,)
