"""The machines of the experiments, and the gradients that the documents write down, as swaps of one slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.parts.table import PartsTable
from cllm_lab.model.transformer import Pass, Transformer
from cllm_lab.training.config import TrainConfig

SEED = 0
BATCH_SIZE, SEQUENCE_LENGTH = 4, 32
DOCUMENTS_VOCABULARY = 10_000
# The documents' optimizer: plain SGD at 0.001, nothing clipped.
DOCUMENTS_SGD: Mapping[str, Any] = {"optimizer": "sgd", "learning_rate": 1e-3, "clip_norm": None}


@dataclass(frozen=True)
class Swap:
    """A part put into a slot for an experiment; the catalogue holds the faults that are taught."""

    id: str
    swaps: Mapping[str, Any]


@cache
def corpus() -> Corpus:
    """The shipped text in words."""
    return load_corpus("large")


def machine(
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    faults: Sequence[Any] = (),
    dtype: str = "float32",
    parts: PartsTable | None = None,
) -> Trainer:
    """A trainer at its first step: the default machine and settings but for those given."""
    config = ModelConfig(**{"vocab_size": corpus().vocab_size, **(model or {})})
    settings = TrainConfig(**{"seed": SEED, **(train or {})})
    return Trainer(Transformer(config, SEED, dtype, parts), corpus(), settings, faults)


def batches() -> list[Batch]:
    """Every pair of the corpus once, in the order of the text."""
    return epoch_batches(corpus().tokens, BATCH_SIZE, SEQUENCE_LENGTH, False, SEED, 0)


def corpus_loss(trainer: Trainer) -> float:
    """Mean loss over every pair of the corpus, in nats: without the spread that an epoch's shuffling brings."""
    total = sum(trainer.loss(*batch) * batch.targets.size for batch in batches())
    return total / (corpus().n_tokens - 1)


def losses_by_epoch(trainer: Trainer, epochs: int) -> list[float]:
    """The corpus's loss before training and after each epoch."""
    losses = [corpus_loss(trainer)]
    for _ in range(epochs):
        trainer.run(epochs=1, progress=False)
        losses.append(corpus_loss(trainer))
    return losses


def between_embeddings(training_pass: Pass) -> Parameters:
    """Document 002's gradient: dE[token] += 2 (E[token] - E[target]) / (B T), nothing else."""
    tokens, targets = training_pass.run.tokens, training_pass.run.targets
    E = training_pass.model.params["token_embedding"]
    grads = training_pass.model.params.like()
    np.add.at(grads["token_embedding"], tokens, (E[tokens] - E[targets]) * E.dtype.type(2.0 / targets.size))
    return grads


def target_minus_current(training_pass: Pass) -> Parameters:
    """Document 004's gradient: dE[token] += E[target] - E[token], nothing else."""
    tokens, targets = training_pass.run.tokens, training_pass.run.targets
    E = training_pass.model.params["token_embedding"]
    grads = training_pass.model.params.like()
    np.add.at(grads["token_embedding"], tokens, E[targets] - E[tokens])
    return grads


def negated(training_pass: Pass) -> Parameters:
    """The true gradient with the wrong sign."""
    grads = training_pass.backward()
    np.negative(grads.flat, out=grads.flat)
    return grads


def a_millionth(training_pass: Pass) -> Parameters:
    """The true gradient times 1e-6."""
    grads = training_pass.backward()
    grads.flat *= grads.flat.dtype.type(1e-6)
    return grads


BETWEEN_EMBEDDINGS = Swap("between-embeddings", {"gradient_rule": between_embeddings})
TARGET_MINUS_CURRENT = Swap("target-minus-current", {"gradient_rule": target_minus_current})
NEGATED = Swap("negated", {"gradient_rule": negated})
A_MILLIONTH = Swap("a-millionth", {"gradient_rule": a_millionth})


def embedding_distance(params: Parameters) -> float:
    """Mean over the corpus's pairs of |E[token] - E[target]|^2: what documents 002 and 004 make smaller."""
    E, tokens = params["token_embedding"].astype(np.float64), corpus().tokens
    return float(np.square(E[tokens[:-1]] - E[tokens[1:]]).sum(axis=-1).mean())


def moved(trainer: Trainer, before: Parameters) -> list[str]:
    """The names of the tensors that are no longer what they were."""
    return [name for name, view in trainer.params.items() if not np.array_equal(view, before[name])]
