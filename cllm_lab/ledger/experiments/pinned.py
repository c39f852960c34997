"""What holds a loss at ln V, and whether the causes that were blamed do: V = 10,000 rows throughout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cllm_lab.ledger.machines import (
    BETWEEN_EMBEDDINGS,
    DOCUMENTS_SGD,
    DOCUMENTS_VOCABULARY,
    SEED,
    Swap,
    batches,
    embedding_distance,
    losses_by_epoch,
    machine,
    moved,
)
from cllm_lab.model.activations import Site
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts.table import Part
from cllm_lab.streams import stream

EPOCHS = 3
NARROW = {"vocab_size": DOCUMENTS_VOCABULARY, "d_model": 32}
WIDER = {"vocab_size": DOCUMENTS_VOCABULARY, "d_model": 128}
ADAM = {"optimizer": "adam", "learning_rate": 1e-3}

Arm = tuple[Mapping[str, Any], Mapping[str, Any], Sequence[Any]]


def zero_weights() -> dict[str, Any]:
    """Machines that start from zeros, gains included: each cure alone, and each optimizer."""
    arms: dict[str, tuple[Mapping[str, Any], Sequence[Any]]] = {
        "sgd": (DOCUMENTS_SGD, ()),
        "sgd_at_rate_1": ({**DOCUMENTS_SGD, "learning_rate": 1.0}, ()),
        "sgd_clipped": ({**DOCUMENTS_SGD, "clip_norm": 1.0}, ()),
        "momentum": ({**DOCUMENTS_SGD, "optimizer": "momentum"}, ()),
        "adam": (ADAM, ()),
        "adamw": ({**ADAM, "optimizer": "adamw"}, ()),
        "doubled_attention": (DOCUMENTS_SGD, ("doubled-attention",)),
        "gradient_between_embeddings": (DOCUMENTS_SGD, (BETWEEN_EMBEDDINGS,)),
    }
    losses, gradients, changed = [], [], []
    for train, faults in arms.values():
        trainer = machine({**NARROW, "init": "zeros"}, train, faults)
        before = trainer.params.copy()
        history = trainer.run(epochs=EPOCHS, progress=False)
        losses.append(history.epoch_loss)
        gradients.append(max(record.grad_norm for record in history))
        changed.append(len(moved(trainer, before)))
    zero = machine({**NARROW, "init": "zeros"}, DOCUMENTS_SGD)
    answering = []
    for index, (name, view) in enumerate(zero.params.items()):
        view[...] = stream(SEED, "check", 701, index).normal(0.0, 0.1, view.shape)
        if zero.loss(*batches()[0]) != math.log(DOCUMENTS_VOCABULARY):
            answering.append(name)
        view[...] = 0.0
    return {
        "ln_10000": math.log(DOCUMENTS_VOCABULARY),
        "arms": list(arms),
        "epoch_losses": losses,
        "largest_gradient_norms": gradients,
        "tensors_changed": changed,
        "tensors": len(zero.params),
        "tensors_that_move_the_loss_alone": len(answering),
    }


def blamed_causes() -> dict[str, Any]:
    """Each blamed cause alone in a machine that starts from Xavier's weights, with the documents' SGD."""
    arms: dict[str, tuple[Mapping[str, Any], Sequence[Any]]] = {
        "healthy": (DOCUMENTS_SGD, ()),
        "doubled_attention": (DOCUMENTS_SGD, ("doubled-attention",)),
        "clipped": ({**DOCUMENTS_SGD, "clip_norm": 1.0}, ()),
        "gradient_between_embeddings": (DOCUMENTS_SGD, (BETWEEN_EMBEDDINGS,)),
        "gradient_between_embeddings_at_rate_10": (
            {**DOCUMENTS_SGD, "learning_rate": 10.0},
            (BETWEEN_EMBEDDINGS,),
        ),
    }
    found: dict[str, Any] = {"ln_10000": math.log(DOCUMENTS_VOCABULARY)}
    for name, (train, faults) in arms.items():
        trainer = machine(WIDER, train, faults)
        distance = embedding_distance(trainer.params)
        before = trainer.params.copy()
        found[name] = losses_by_epoch(trainer, EPOCHS)
        found[f"{name}_embedding_distance"] = [distance, embedding_distance(trainer.params)]
        found[f"{name}_embeddings_changed"] = "token_embedding" in moved(trainer, before)
    found["cosine_with_true_gradient"] = _cosine_with_true_gradient()
    return found


def _cosine_with_true_gradient() -> float:
    """Of the gradient between embeddings, over the embedding table, on the first batch."""
    batch = batches()[0]
    _, true = machine(WIDER).gradients(*batch)
    _, other = machine(WIDER, faults=(BETWEEN_EMBEDDINGS,)).gradients(*batch)
    a, b = (grads["token_embedding"].ravel().astype(np.float64) for grads in (true, other))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def branch_only_forward(x: Array, branch: Array, site: Site) -> Array:
    """y = branch: no residual."""
    site.saved["output"] = branch
    return branch


def branch_only_backward(dy: Array, site: Site) -> tuple[Array, Array]:
    """dx = 0, dbranch = dy."""
    return np.zeros_like(dy), dy


NO_RESIDUAL = Swap(
    "no-residual", {"residual": Part("branch-only", branch_only_forward, branch_only_backward)}
)


def dead_feed_forward() -> dict[str, Any]:
    """Real embeddings, zero feed-forward weights, no residual; the gradient between embeddings moves them."""
    trainer = machine({**NARROW, "norm": "post"}, DOCUMENTS_SGD, (NO_RESIDUAL, BETWEEN_EMBEDDINGS))
    trainer.params.group("ff")[...] = 0.0
    before = trainer.params.copy()
    history = trainer.run(epochs=EPOCHS, progress=False)
    return {
        "epoch_losses": history.epoch_loss,
        "largest_gradient_norm": max(record.grad_norm for record in history),
        "embeddings_changed": "token_embedding" in moved(trainer, before),
    }
