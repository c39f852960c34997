"""Small trainers, and what of a trainer must be equal for its next step to be equal to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.corpora import Corpus
from cllm_lab.corpus.languages import MarkovLanguage
from cllm_lab.corpus.source import TokenSource
from cllm_lab.model import parts
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

TABLES = {"reference": parts.reference, "fast": parts.fast}

_WORDS = "the sky is blue and a small red bird sings over green hills".split()
# 61 words make 60 pairs: with windows of 8, seven full ones and a short one of 4.
TEXT = Corpus.from_text(" ".join(np.random.default_rng(3).choice(_WORDS, 61).tolist()))
LANGUAGE = MarkovLanguage(n_symbols=9, seed=4, n_tokens=40)
STEPS_PER_EPOCH = 5  # of TEXT in batches of 2: four of full windows, one of the short window


@dataclass(frozen=True)
class Fault:
    """The least that a trainer asks of a fault."""

    id: str
    swaps: Mapping[str, Any]


def make_model(
    table: str = "fast", dtype: str = "float32", corpus: TokenSource = TEXT, seed: int = 0, **settings: Any
) -> Transformer:
    """A machine of one layer that fits a corpus."""
    defaults = {
        "context_length": 8,
        "d_model": 8,
        "n_heads": 2,
        "n_layers": 1,
        "vocab_size": corpus.vocab_size,
    }
    return Transformer(ModelConfig(**{**defaults, **settings}), seed, dtype, TABLES[table])


def make_trainer(
    model: Transformer | None = None,
    corpus: TokenSource = TEXT,
    faults: tuple[Fault, ...] = (),
    log: Any = None,
    **settings: Any,
) -> Trainer:
    """A trainer with windows of 8 in batches of 2."""
    config = TrainConfig(**{"batch_size": 2, "sequence_length": 8, "learning_rate": 1e-2, **settings})
    return Trainer(make_model(corpus=corpus) if model is None else model, corpus, config, faults, log)


def batches_of(trainer: Trainer, epoch: int = 0) -> list[Batch]:
    """The batches of an epoch, counted from 0, made without the trainer's help."""
    config = trainer.config
    tokens = trainer.corpus.training_tokens(config.validation_fraction, epoch)
    return epoch_batches(
        tokens, config.batch_size, config.sequence_length, config.shuffle, config.seed, epoch
    )


def a_batch(
    trainer: Trainer, seed: int = 0, shape: tuple[int, int] = (2, 8)
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets at random."""
    ids = np.random.default_rng(seed).integers(0, trainer.model.config.vocab_size, (2, *shape))
    return ids[0], ids[1]


def bits(trainer: Trainer) -> dict[str, Any]:
    """All that a trainer's future depends on, to the bit, and its records but for the seconds they took."""
    state = trainer.state()
    found = {field.name: getattr(state, field.name) for field in fields(state)}
    found["arrays"] = {name: array.tobytes() for name, array in state.arrays.items()}
    found["records"] = [replace(record, seconds=0.0) for record in state.records]
    return found
