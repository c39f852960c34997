"""The time that the order of the vocabulary's rows makes a difference to: of the lookup, and of a whole step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm_lab.corpus.batches import Batch, epoch_batches
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.languages import ConstantLanguage
from cllm_lab.lattice import VOCABULARY_ORDERS, frequency_order, renumbered, vocabulary_order
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts import kernels
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer
from tests.lattice_speed.rounds import interleaved, speed_up, spread

BY_ID = "id"
FREQUENCY = "frequency"
OPTIMIZERS = ("sgd", "adam")
BATCH_SIZE, SEQUENCE_LENGTH = 4, 32
# Bytes: the unit in which memory is handed out and its addresses are looked up.
PAGE = 4096

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A text of the ids below ``vocab_size``, and the machine that reads it."""

    name: str
    tokens: Rows
    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int


def zipf_tokens(vocab_size: int, length: int, seed: int) -> Rows:
    """Independent draws with p ~ 1 / rank, the ranks dealt out to the ids at random: int64 (length,).

    So the order of the ids says nothing on the frequencies, as it says little where a tokenizer numbers words as they
    come. Source: G. K. Zipf, "Human Behavior and the Principle of Least Effort" (1949).
    """
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, vocab_size + 1)
    ranks = rng.choice(vocab_size, size=length, p=weights / weights.sum())
    return rng.permutation(vocab_size)[ranks]


def shipped_tokens() -> tuple[Rows, int]:
    """The shipped text in words, and the size of its vocabulary."""
    corpus = load_corpus("large")
    return corpus.tokens.astype(np.int64), corpus.vocab_size


def orders(tokens: Rows, vocab_size: int) -> dict[str, Rows]:
    """Every order by name: the ids as they are, those of the lattice, by frequency, and a random one.

    "radius" is the order of the ids too: what it gains is what measuring leaves between two equals.
    """
    lattice = {
        by: vocabulary_order(vocab_size, by, seed=0 if by == "random" else None) for by in VOCABULARY_ORDERS
    }
    by_frequency = frequency_order(np.bincount(tokens, minlength=vocab_size))
    return {BY_ID: np.arange(vocab_size), **lattice, FREQUENCY: by_frequency}


def lookup(case: Case, rounds: int, turn_seconds: float) -> dict[str, Any]:
    """The embedding's part of an epoch under each order: rows gathered, gradients added up, batch after batch.

    All orders use the same arrays, so that none has the better place in memory; what a row holds costs no time.
    ``pages``: how many pages of memory the rows of a batch lie in, the mean over the batches.
    """
    table = np.random.default_rng(0).standard_normal((case.vocab_size, case.d_model), np.float32)
    gradient = np.zeros_like(table)
    rows = np.zeros((BATCH_SIZE * SEQUENCE_LENGTH, case.d_model), np.float32)
    calls: dict[str, Callable[[], object]] = {}
    pages = {}
    for name, batches in _batches_by_order(case).items():
        ids = [batch.inputs.ravel() for batch in batches]
        pages[name] = pages_a_batch(ids, table.strides[0])
        calls[name] = partial(_gather_and_scatter, table, gradient, ids, rows)
    return {**_speed_ups(interleaved(calls, rounds, turn_seconds)), "pages": pages}


def pages_a_batch(batches: Sequence[NDArray[np.int32]], bytes_a_row: int) -> float:
    """Mean number of pages of `PAGE` bytes in which the rows of a batch's ids begin, the table beginning with one."""
    return float(np.mean([np.unique(ids.astype(np.int64) * bytes_a_row // PAGE).size for ids in batches]))


def step(case: Case, optimizer: str, rounds: int, turn_seconds: float) -> dict[str, Any]:
    """A training step under each order, of one trainer, on the same text renumbered.

    Its rows stay where they are: moved with the numbers they would give the same loss, and not moved they take the
    same time, without seven machines that each have their own place in memory.
    """
    config = ModelConfig(
        vocab_size=case.vocab_size,
        context_length=SEQUENCE_LENGTH,
        d_model=case.d_model,
        n_layers=case.n_layers,
        n_heads=case.n_heads,
    )
    train = TrainConfig(optimizer=optimizer, learning_rate=1e-6)
    trainer = Trainer(Transformer(config), ConstantLanguage(case.vocab_size), train)
    calls: dict[str, Callable[[], object]] = {
        name: partial(_step, trainer, cycle(batches)) for name, batches in _batches_by_order(case).items()
    }
    return _speed_ups(interleaved(calls, rounds, turn_seconds))


def _gather_and_scatter(
    table: NDArray[np.float32],
    gradient: NDArray[np.float32],
    batches: Sequence[NDArray[np.int32]],
    rows: NDArray[np.float32],
) -> None:
    for ids in batches:
        kernels.gather_rows(table, ids, rows)
        kernels.scatter_add_rows(gradient, ids, rows)


def _step(trainer: Trainer, batches: Iterator[Batch]) -> None:
    trainer.step(*next(batches))


def _batches_by_order(case: Case) -> dict[str, list[Batch]]:
    """The text's batches, renumbered by each order, int32 as a trainer's; whole ones alone, which cost the same."""
    found = {}
    for name, order in orders(case.tokens, case.vocab_size).items():
        text = renumbered(case.tokens, order).astype(np.int32)
        batches = epoch_batches(text, BATCH_SIZE, SEQUENCE_LENGTH, True, 0, 0)
        found[name] = [batch for batch in batches if batch.inputs.shape == (BATCH_SIZE, SEQUENCE_LENGTH)]
    return found


def _speed_ups(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Seconds under each order, and how many times as fast each is as the order of the ids."""
    return {
        "seconds": {name: spread(each) for name, each in times.items()},
        "speed_up": {name: speed_up(times, name, BY_ID) for name in times if name != BY_ID},
    }
