"""The documents' diagnostics and their bands, on sound machines and on broken ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm_lab.ledger.machines import (
    A_MILLIONTH,
    DOCUMENTS_SGD,
    NEGATED,
    SEED,
    batches,
    corpus_loss,
    machine,
    moved,
)
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream
from cllm_lab.training.diagnostics import SAMPLE_SIZE, mean_magnitude, sample_embedding_magnitude
from cllm_lab.training.evidence import DOCUMENTS_MODEL

EPOCHS = 5
EVERY = 5
GROUPS_NAMED = ("embedding", "attention", "ff")


def _groups(params: Parameters) -> list[float]:
    return [mean_magnitude(params.group(name)) for name in GROUPS_NAMED]


def weight_bands() -> dict[str, Any]:
    """Mean |w| by group at the documents' size for sound initialisers, and for constants, which are not sound."""
    found: dict[str, Any] = {}
    for init in ("xavier", "normal", "constant"):
        settings = {**vars(DOCUMENTS_MODEL), "init": init}
        found[f"{init}_documents_size"] = _groups(Transformer(type(DOCUMENTS_MODEL)(**settings)).params)
    for init in ("xavier", "he", "normal", "zeros"):
        found[f"{init}_default_size"] = _groups(machine({"init": init}).params)
    return found


def gradient_bands() -> dict[str, Any]:
    """The documents' gradient figures over sound runs, every five batches; and of the first step with a wrong sign."""
    found: dict[str, Any] = {}
    for init in ("xavier", "he"):
        trainer = machine({"init": init})
        start = corpus_loss(trainer)
        largest, average, norms = [], [], []
        for _ in range(EPOCHS):
            for batch in batches():
                if trainer.steps_done % EVERY == 0:
                    _, grads = trainer.gradients(*batch)
                    largest.append(_largest(grads.group("embedding")))
                    average.append(mean_magnitude(grads.group("embedding")))
                norms.append(trainer.step(*batch).grad_norm)
        found[f"{init}_loss"] = [start, corpus_loss(trainer)]
        found[f"{init}_largest"] = [min(largest), max(largest)]
        found[f"{init}_average"] = [min(average), max(average)]
        found[f"{init}_norm"] = [min(norms), max(norms)]
        found[f"{init}_largest_within_1e-4_to_1e-2"] = _share(largest, 1e-4, 1e-2)
        found[f"{init}_largest_within_1e-4_to_1e-1"] = _share(largest, 1e-4, 1e-1)
        found[f"{init}_norms_above_1"] = float(np.mean(np.array(norms) > 1.0))
    _, first = Transformer(DOCUMENTS_MODEL).gradients(*batches()[0])
    for group in ("embedding", "attention"):
        found[f"documents_size_{group}_largest"] = _largest(first.group(group))
        found[f"documents_size_{group}_average"] = mean_magnitude(first.group(group))
    wrong = machine(faults=(NEGATED,))
    _, right_gradient = machine().gradients(*batches()[0])
    _, wrong_gradient = wrong.gradients(*batches()[0])
    found["right_sign_largest"] = _largest(right_gradient.group("embedding"))
    found["wrong_sign_largest"] = _largest(wrong_gradient.group("embedding"))
    before = corpus_loss(wrong)
    wrong.run(epochs=1, progress=False)
    found["wrong_sign_loss"] = [before, corpus_loss(wrong)]
    return found


def _largest(values: Array) -> float:
    return float(np.abs(values).max())


def _share(values: list[float], low: float, high: float) -> float:
    return float(np.mean([low <= value <= high for value in values]))


def documents_diagnostics() -> dict[str, Any]:
    """What the diagnostics of 000 and 001 say of a sound machine, one of zeros, one whose first row alone is zero."""
    found: dict[str, Any] = {}
    for name, init in (("sound", "xavier"), ("zeros", "zeros")):
        trainer = machine({"init": init}, DOCUMENTS_SGD)
        _, grads = trainer.gradients(*batches()[0])
        found[f"{name}_gradient_largest"] = _largest(grads.group("embedding"))
        found[f"{name}_gradients_not_zero"] = int(np.count_nonzero(grads.flat))
        found[f"{name}_sample_line"] = sample_embedding_magnitude(trainer.params)
        found[f"{name}_weights"] = _groups(trainer.params)
        before = trainer.params.copy()
        home = corpus_loss(trainer)
        trainer.step(*batches()[0])
        found[f"{name}_tensors_changed"] = len(moved(trainer, before))
        trainer.params.flat[:] = before.flat
        embedding = trainer.params["token_embedding"]
        embedding += stream(SEED, "check", 702).normal(0.0, 0.1, embedding.shape).astype(embedding.dtype)
        found[f"{name}_loss_change_when_perturbed"] = abs(corpus_loss(trainer) - home)
    found["tensors"] = len(before)
    wide = Transformer(type(DOCUMENTS_MODEL)(**{**vars(DOCUMENTS_MODEL), "n_layers": 1}))
    found["rows_in_the_sample_at_documents_size"] = -(-SAMPLE_SIZE // DOCUMENTS_MODEL.d_model)
    wide.params["token_embedding"][0] = 0.0
    found["sample_line_first_row_zero"] = sample_embedding_magnitude(wide.params)
    wide.params["token_embedding"][0] = 0.01
    wide.params["token_embedding"][1:] = 0.0
    found["sample_line_all_other_rows_zero"] = sample_embedding_magnitude(wide.params)
    untied = machine({"tied": False})
    batch = batches()[0]
    _, grads = untied.gradients(*batch)
    found["gradient_entries_of_a_lookup"] = int(np.count_nonzero(grads["token_embedding"]))
    found["distinct_tokens_in_the_batch"] = len(np.unique(batch.inputs))
    _, tied = machine().gradients(*batch)
    found["gradient_entries_when_tied"] = int(np.count_nonzero(tied["token_embedding"]))
    found["d_model_of_the_documents"] = DOCUMENTS_MODEL.d_model
    wrong = machine(faults=(NEGATED,))
    _, grads = wrong.gradients(*batch)
    found["wrong_sign_gradients_not_zero"] = int(np.count_nonzero(grads.flat))
    shrunk = machine(faults=(A_MILLIONTH,))
    _, grads = shrunk.gradients(*batch)
    found["shrunk_gradient_largest"] = _largest(grads.group("embedding"))
    before_training = corpus_loss(shrunk)
    shrunk.run(epochs=EPOCHS, progress=False)
    found["shrunk_epochs"] = EPOCHS
    found["shrunk_loss"] = [before_training, corpus_loss(shrunk)]
    return found
