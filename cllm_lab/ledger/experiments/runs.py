"""Runs of the default machine (d_model 64, 2 layers) on the shipped text: what learns, how far, and what it writes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from cllm_lab.faults.trainer import Trainer
from cllm_lab.ledger.machines import (
    DOCUMENTS_SGD,
    SEED,
    SEQUENCE_LENGTH,
    TARGET_MINUS_CURRENT,
    batches,
    corpus,
    corpus_loss,
    embedding_distance,
    losses_by_epoch,
    machine,
)
from cllm_lab.model import parts
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.generation import repetition

TINY = {"d_model": 16, "n_heads": 2, "d_ff": 24, "context_length": 6}
CONVERGING = {"learning_rate": 3e-3}
SHORT, LONG = 20, 60
SAMPLES, SAMPLE_LENGTH = 5, 40


def _plateaus() -> dict[str, Any]:
    levels = corpus().plateaus(sequence_length=SEQUENCE_LENGTH)
    return {
        "uniform": levels.uniform,
        "unigram": levels.unigram,
        "bigram": levels.bigram,
        "positional": levels.positional,
    }


def _trained(trainer: Trainer, epochs: int) -> float:
    trainer.run(epochs=epochs, progress=False)
    return corpus_loss(trainer)


def doubled_attention() -> dict[str, Any]:
    """The machine whose attention doubles its input: what reaches what, where it stops, and its gradients."""
    tiny = machine(
        TINY,
        faults=("doubled-attention",),
        dtype="float64",
        parts=parts.reference,
        train={"sequence_length": 6},
    )
    sound = machine(TINY, dtype="float64", parts=parts.reference, train={"sequence_length": 6})
    tokens = corpus().tokens[None, :6].copy()
    fault = ("doubled-attention",)
    x = np.linspace(-3.0, 3.0, 101, dtype=np.float32)
    return {
        **_plateaus(),
        "x_plus_x_is_2x": bool(np.array_equal(x + x, np.float32(2.0) * x)),
        "reach_doubled": _reach(tiny, tokens),
        "reach_sound": _reach(sound, tokens),
        "gradient_check_worst": max(gradient_check(tiny.model, tokens, tokens, SEED).values()),
        "loss_doubled": _trained(machine(train=CONVERGING, faults=fault), LONG),
        "loss_doubled_without_positions": _trained(
            machine({"positions": "none"}, CONVERGING, faults=fault), LONG
        ),
        "loss_sound": _trained(machine(train=CONVERGING), LONG),
    }


def _reach(trainer: Trainer, tokens: Any) -> float:
    """The largest change of a logit at a position after another position's token was replaced."""
    home = trainer.forward(tokens).logits
    largest = 0.0
    for place in range(tokens.shape[1]):
        other = tokens.copy()
        other[0, place] = (other[0, place] + 1) % corpus().vocab_size
        change = np.abs(trainer.forward(other).logits - home)[0].max(axis=-1)
        largest = max(largest, float(np.delete(change, place).max()))
    return largest


def initialisers() -> dict[str, Any]:
    """Each initialiser: the loss before training and after."""
    found = _plateaus()
    for init in ("xavier", "he", "normal", "zeros", "constant"):
        trainer = machine({"init": init}, CONVERGING)
        found[init] = [corpus_loss(trainer), _trained(trainer, SHORT)]
    return found


def learning_rates() -> dict[str, Any]:
    """Adam and plain SGD over decades of the learning rate; a loss that is not finite ends the run."""
    found: dict[str, Any] = _plateaus()
    adam_rates = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    found["adam_rates"] = adam_rates
    found["adam_losses"] = [_trained(machine(train={"learning_rate": rate}), SHORT) for rate in adam_rates]
    sgd_rates = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    found["start"] = corpus_loss(machine())
    found["sgd_rates"] = sgd_rates
    found["sgd_losses"], found["sgd_rises"] = [], []
    for rate in sgd_rates:
        trainer = machine(train={**DOCUMENTS_SGD, "learning_rate": rate})
        try:
            loss: float | None = _trained(trainer, SHORT)
        except NonFiniteError:
            loss = None
        steps = trainer.history.losses
        found["sgd_losses"].append(loss)
        found["sgd_rises"].append(max(steps) - steps[0])
    found["sgd_clipped_rises"] = []
    for rate in sgd_rates[-2:]:
        trainer = machine(train={**DOCUMENTS_SGD, "learning_rate": rate, "clip_norm": 1.0})
        steps = trainer.run(epochs=SHORT, progress=False).losses
        found["sgd_clipped_rises"].append(max(steps) - steps[0])
    tiny_rate = machine(train={**DOCUMENTS_SGD, "learning_rate": 1e-12})
    before = tiny_rate.params.copy()
    record = tiny_rate.step(*batches()[0])
    weights = np.concatenate([before[s.name].ravel() for s in before.specs if s.role not in ("bias",)])
    after = np.concatenate(
        [tiny_rate.params[s.name].ravel() for s in before.specs if s.role not in ("bias",)]
    )
    found["rate_1e-12_gradient_norm"] = record.grad_norm
    found["rate_1e-12_weights_changed_share"] = float(np.mean(weights != after))
    one_step = {}
    batch = batches()[0]
    for rate in (1e-2, 1e2):
        trainer = machine(train={**DOCUMENTS_SGD, "learning_rate": rate})
        first = trainer.loss(*batch)
        trainer.step(*batch)
        one_step[rate] = trainer.loss(*batch) - first
    found["change_in_one_step_at_0.01"], found["change_in_one_step_at_100"] = one_step[1e-2], one_step[1e2]
    return found


def other_losses() -> dict[str, Any]:
    """Machines trained on another loss, or by another rule, judged by the cross-entropy of their own logits."""
    found: dict[str, Any] = {**_plateaus(), "start": corpus_loss(machine())}
    for name, fault in (("mse", "mse-loss"), ("similarity", "embedding-similarity-loss")):
        trainer = machine(train=CONVERGING, faults=(fault,))
        found[f"{name}_own_loss"] = [corpus_loss(trainer), _trained(trainer, SHORT)]
        found[f"{name}_cross_entropy"] = _cross_entropy(trainer)
        found[f"{name}_known_pairs"] = _written(trainer, 1.0)["known_pairs"]
    for name, optimizer in (("adam", "adam"), ("sgd", "sgd")):
        trainer = machine(train={"optimizer": optimizer}, faults=(TARGET_MINUS_CURRENT,))
        before = embedding_distance(trainer.params)
        trainer.run(epochs=SHORT, progress=False)
        found[f"rule_004_{name}_distance"] = [before, embedding_distance(trainer.params)]
        found[f"rule_004_{name}_cross_entropy"] = _cross_entropy(trainer)
    true = machine(train=CONVERGING)
    found["cross_entropy_after_true_gradients"] = _trained(true, SHORT)
    found["true_known_pairs"] = _written(true, 1.0)["known_pairs"]
    similarity = machine(faults=("embedding-similarity-loss",))
    _, grads = similarity.gradients(*batches()[0])
    layers = [name for name in grads if name.startswith("layers.")]
    home = similarity.loss(*batches()[0])
    changes = []
    for name in layers:
        kept = similarity.params[name].copy()
        similarity.params[name][...] += 0.1
        changes.append(abs(similarity.loss(*batches()[0]) - home))
        similarity.params[name][...] = kept
    found["similarity_loss_answers_to_layers"] = max(changes)
    return found


def _cross_entropy(trainer: Trainer) -> float:
    """The cross-entropy of the trainer's logits over the corpus, whatever it was trained on."""
    sound = machine()
    sound.params.flat[:] = trainer.params.flat
    return corpus_loss(sound)


def embeddings_alone() -> dict[str, Any]:
    """Cross-entropy with only the embeddings updated, beside all tensors."""
    found = _plateaus()
    for name, faults in (("embeddings", ("embeddings-only-update",)), ("all", ())):
        found[name] = losses_by_epoch(machine(train=CONVERGING, faults=faults), SHORT)
    return found


def sorted_stream() -> dict[str, Any]:
    """Training on the tokens sorted by their spiral distance, beside their own order; the text's loss after each."""
    found: dict[str, Any] = {**_plateaus(), "epochs": SHORT}
    for name, faults in (("text", ()), ("sorted", ("token-sorting",))):
        trainer = machine(train=CONVERGING, faults=faults)
        found[f"{name}_printed_loss"] = trainer.run(epochs=SHORT, progress=False).epoch_loss[-1]
        found[f"{name}_loss_on_the_text"] = corpus_loss(trainer)
    return found


def loss_from_ids() -> dict[str, Any]:
    """The loss that is computed from token ids alone: before and after training the machine under it."""
    trainer = machine(train=CONVERGING, faults=("loss-ignores-model",))
    before = corpus_loss(trainer)
    after = _trained(trainer, SHORT)
    return {"before": before, "after": after, "cross_entropy": _cross_entropy(trainer)}


def generation() -> dict[str, Any]:
    """What machines write: zero weights, untrained, trained; greedy and drawn."""
    zero, untrained, trained = machine({"init": "zeros"}), machine(), machine(train=CONVERGING)
    trained.run(epochs=LONG, progress=False)
    found: dict[str, Any] = {
        "quoted": repetition("is the blue is the blue"),
        "corpus": repetition(corpus().text),
    }
    for name, trainer in (("zeros", zero), ("untrained", untrained), ("trained", trained)):
        for way, temperature in (("greedy", 0.0), ("drawn", 1.0)):
            for figure, value in _written(trainer, temperature).items():
                found[f"{name}_{way}_{figure}"] = value
    return found


def _written(trainer: Trainer, temperature: float) -> dict[str, float]:
    """Mean repetition of word triples, and the share of word pairs that stand in the corpus."""
    words = corpus().text.lower().split()
    known = set(pairwise(words))
    repeated, familiar = [], []
    for seed in range(SAMPLES):
        text = trainer.generate("the", SAMPLE_LENGTH, temperature, seed=seed)
        written = text.split()
        repeated.append(repetition(text))
        familiar.append(np.mean([pair in known for pair in pairwise(written)]))
    return {"repetition": float(np.mean(repeated)), "known_pairs": float(np.mean(familiar))}
